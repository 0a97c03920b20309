"""A call as steps, without any input or output: what to send, how long to wait, when to send it again.

Each generator yields Send and Pause. Whoever drives it sends the reply back in, or throws Lost. So the client of threads
and that of coroutines share every decision. What may be sent again is the table of deploy/README.md.
"""
from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import OrderedDict
from typing import Any, Generator, Mapping, NamedTuple, Optional, Union

from dien.client import tables
from dien.client.errors import Problem, Unreachable, problem_of, seconds_of

FIRST_PAUSE = 0.05  # seconds before the second attempt, when no reply says how long; doubled for each one after it
LONGEST_PAUSE = 2.0
TIMEOUT_MOST_MS = 86_400_000  # the most that the header may say
HELD_ELSEWHERE = "histories-unavailable"  # the one 503 whose append a store may have got


class Reply(NamedTuple):
    """What came back; names of headers in lower case."""
    status: int
    headers: Mapping[str, str]
    content: bytes


class Send(NamedTuple):
    """Send this, and wait for at most so many seconds."""
    method: str
    path: str
    headers: Mapping[str, str]
    content: Optional[bytes]
    seconds: float


class Pause(NamedTuple):
    """Wait."""
    seconds: float


class Lost(Exception):
    """There is no reply. `sent`: the request, or a part of it, may have reached a server."""

    def __init__(self, text: str, sent: bool):
        super().__init__(text)
        self.sent = sent


Steps = Generator[Union[Send, Pause], Any, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """One request. `repeatable`: the server acts upon it once, however often it comes. `lines`: several bodies, a line of
    JSON each, in place of `body`."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: Optional[Mapping[str, Any]]
    repeatable: bool
    lines: Optional[list[Mapping[str, Any]]] = None

    def content(self) -> Optional[bytes]:
        """The body in bytes."""
        if self.lines is not None:
            return b"".join(tables.encode(line) + b"\n" for line in self.lines)
        return tables.encode(self.body) if self.body is not None else None


@dataclasses.dataclass(frozen=True)
class Policy:
    """`timeout`: seconds for a call with all its attempts. `retries`: attempts after the first."""
    timeout: float
    retries: int


def is_repeatable(body: Mapping[str, Any]) -> bool:
    """An append without a token or an event id is applied each time it comes."""
    return "history_append" not in body or "history_token" in body or "event_id" in body


def attempts(call: Call, policy: Policy, limit: float) -> Steps:
    """The reply of the last attempt, all of them before `limit` (time.monotonic())."""
    content = call.content()
    attempt = 0
    while True:
        left = limit - time.monotonic()
        if left <= 0:
            raise Unreachable(f"no reply within {policy.timeout:g} s", sent=attempt > 0)
        headers = dict(call.headers)
        if content is not None:
            headers["X-Request-Timeout-Ms"] = str(min(max(1, int(left * 1000)), TIMEOUT_MOST_MS))
        pause = min(FIRST_PAUSE * 2 ** attempt, LONGEST_PAUSE) * random.uniform(0.5, 1)
        fault: Union[Reply, Lost]
        try:
            reply = fault = yield Send(call.method, call.path, headers, content, left)
            again = reply.status in (502, 503) and (call.repeatable or _not_acted_upon(reply))
            if reply.status == 503:
                pause = seconds_of(reply.headers.get("retry-after")) or pause
        except Lost as lost:
            fault, again = lost, call.repeatable or not lost.sent
        if not again or attempt == policy.retries or time.monotonic() + pause >= limit:
            if isinstance(fault, Lost):
                raise Unreachable(str(fault), fault.sent) from fault
            return fault
        attempt += 1
        yield Pause(pause)


def _not_acted_upon(reply: Reply) -> bool:
    return reply.status == 503 and problem_of(*reply).slug != HELD_ELSEWHERE


def answered(call: Call, policy: Policy, limit: Optional[float] = None) -> Steps:
    """The reply, if it is a success. Problem if it is not."""
    reply = yield from attempts(call, policy, time.monotonic() + policy.timeout if limit is None else limit)
    if not 200 <= reply.status < 300:
        raise problem_of(*reply)
    return reply


class Tokens:
    """The last history of each user with the token of its state, for the users who came last. Threads share it.

    A token stands for a history only at a server that does not keep histories itself: there an append would be stored.
    """

    def __init__(self, users: int):
        self.users = users
        self.lock = threading.Lock()
        self.kept: OrderedDict[str, tuple[str, tables.Columns]] = OrderedDict()

    def put(self, user: str, token: Optional[str], origin: Optional[str], history: Optional[tables.Columns]) -> None:
        """Keep it, or forget the user if there is nothing to keep."""
        with self.lock:
            self.kept.pop(user, None)
            if self.users and token and origin is None and history is not None:
                self.kept[user] = (token, history)
                if len(self.kept) > self.users:
                    self.kept.popitem(last=False)

    def forget(self, user: str) -> None:
        """A token of this user is not good any more."""
        with self.lock:
            self.kept.pop(user, None)

    def shortened(self, user: str, body: Mapping[str, Any], history: tables.Columns) -> Optional[dict[str, Any]]:
        """The request with the token and the news in place of its history. None if no token fits."""
        with self.lock:
            kept = self.kept.get(user)
            if kept is not None:
                self.kept.move_to_end(user)
        added = tables.news(kept[1], history) if kept is not None else None
        if kept is None or added is None:
            return None
        short = {name: value for name, value in body.items() if name != "history"}
        short["history_token"] = kept[0]
        if any(added.values()):
            short["history_append"] = added
        return short


def shortened_first(call: Call, user: str, history: tables.Columns, tokens: Tokens, policy: Policy) -> Steps:
    """The reply to a request with a whole history, of which only the news are sent if a token is kept.

    A short request that is refused is sent whole, since the token may be gone, and since a pointer must be one into the
    caller's own request.
    """
    limit = time.monotonic() + policy.timeout
    assert call.body is not None
    short = tokens.shortened(user, call.body, history)
    if short is not None:
        try:
            reply = yield from answered(dataclasses.replace(call, body=short), policy, limit)
            return reply
        except Problem as problem:
            if problem.status >= 500:
                raise
            tokens.forget(user)
    reply = yield from answered(call, policy, limit)
    return reply
