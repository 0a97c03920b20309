"""The errors of the client: a problem that the server answered (RFC 9457), or no answer at all."""
from __future__ import annotations

import json
from typing import Mapping, Optional

PREFIX = "urn:dien:problem:"


class DienError(Exception):
    """Any failure of a call."""


class Unreachable(DienError):
    """There was no reply, after all attempts. `sent`: the server may have the request, and may have acted upon it."""

    def __init__(self, text: str, sent: bool):
        super().__init__(text)
        self.sent = sent


class Problem(DienError):
    """A reply that is not a success.

    `slug` is the problem's type without its prefix, such as "invalid-request"; "" if the reply was no problem document, as
    a proxy's. `pointer` is the JSON pointer to the mistake in the request, None if the body is not at fault.
    """

    def __init__(self, status: int, slug: str, title: str, detail: str, pointer: Optional[str], request_id: str,
                 retry_after: Optional[float]):
        super().__init__(f"{status} {detail or title}" + (f" (at {pointer or 'the whole body'})" if pointer is not None else ""))
        self.status, self.slug, self.title, self.detail = status, slug, title, detail
        self.pointer, self.request_id, self.retry_after = pointer, request_id, retry_after


class RequestRefused(Problem):
    """4xx: the request is at fault, and the same one again would be refused, too."""


class UnknownToken(RequestRefused):
    """409: the server does not hold the state that `history_token` names. Send the whole history."""


class Unavailable(Problem):
    """5xx: the server, or one before it, cannot answer now. `retry_after` has seconds if it said when."""


class DeadlinePassed(Unavailable):
    """504: the request was not scored in time."""


def seconds_of(text: Optional[str]) -> Optional[float]:
    """Retry-After in seconds; its other form, a date, counts as absent."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def problem_of(status: int, headers: Mapping[str, str], content: bytes) -> Problem:
    """The error for a reply."""
    document = {}
    if headers.get("content-type", "").startswith("application/problem+json"):
        try:
            document = json.loads(content)
        except ValueError:
            pass
    slug = str(document.get("type", "")).removeprefix(PREFIX)
    kind = Unavailable if status >= 500 else RequestRefused
    if status == 504:
        kind = DeadlinePassed
    if slug == "unknown-history-token":
        kind = UnknownToken
    return kind(status, slug, str(document.get("title", "")), str(document.get("detail", content[:200].decode(errors="replace"))),
                document.get("pointer"), headers.get("x-request-id", ""), seconds_of(headers.get("retry-after")))
