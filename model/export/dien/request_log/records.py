"""One record of the request log, and the request that it stands for: whole, with the history that was used."""
from __future__ import annotations

import base64
import dataclasses
import datetime
import json
from typing import Any, Mapping, Optional

from dien.request_log.messages import history_of, request_of, user_field

SCORE = "/score"
HELD_MEMBERS = ("history_token", "history_append", "event_id")


class NotReplayable(ValueError):
    """A record that does not hold what a request needs."""


def columns_of(node: Any) -> dict[str, list[Any]]:
    """A table of a request, in either form, as columns; None where a row lacks a field."""
    if isinstance(node, Mapping):
        return {name: list(values) for name, values in node.items() if values is not None}
    rows = list(node or [])
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    return {name: [row.get(name) for row in rows] for name in names}


def time_of(text: str) -> float:
    """RFC 3339 as seconds since 1970."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@dataclasses.dataclass(frozen=True)
class Record:
    """A record as Python's values; `members` is the whole of it, as server/REQUEST_LOG.md describes it."""
    members: Mapping[str, Any]

    @property
    def time(self) -> float:
        """When the request came: seconds since 1970."""
        return time_of(self.members["time"])

    @property
    def request_id(self) -> str:
        """As in the reply and the log."""
        return str(self.members.get("request_id", ""))

    @property
    def route(self) -> str:
        """Such as /score."""
        return str(self.members.get("route", ""))

    @property
    def outcome(self) -> str:
        """"ok", or a problem's slug."""
        return str(self.members.get("outcome", ""))

    @property
    def user(self) -> Optional[str]:
        """The user's id or its keyed hash; None if the log has neither."""
        return self.members.get("user_id", self.members.get("user_hash"))

    @property
    def is_scored(self) -> bool:
        """It has scores."""
        return self.route == SCORE and self.members.get("scores") is not None

    @property
    def scores(self) -> list[float]:
        """Of the candidates that were scored, in the order of the request."""
        return list(self.members.get("scores") or [])

    @property
    def order(self) -> list[int]:
        """The indices of the results in rank order: at most top_k."""
        return list(self.members.get("order") or [])

    def asked(self) -> dict[str, Any]:
        """The request as it came, in the form of JSON, without what the log left out. NotReplayable if it was none."""
        if "body" in self.members:
            body = self.members["body"]
            if not isinstance(body, dict):
                raise NotReplayable(f"{self.request_id}: the body is no object")
            return dict(body)
        if "body_base64" not in self.members:
            raise NotReplayable(f"{self.request_id}: the log has no body")
        try:
            data = base64.b64decode(self.members["body_base64"], validate=True)
            asked = request_of(data) if self.is_protobuf else json.loads(data)
        except ValueError as error:
            raise NotReplayable(f"{self.request_id}: {error}") from error
        if not isinstance(asked, dict):
            raise NotReplayable(f"{self.request_id}: the body is no object")
        return asked

    @property
    def is_protobuf(self) -> bool:
        """The body was a message."""
        return "protobuf" in str(self.members.get("content_type", ""))

    def message(self) -> Optional[bytes]:
        """A protobuf request as it came, with its user. None if it was JSON, or if its history was the server's."""
        if not self.is_protobuf or "history" in self.members or "body_base64" not in self.members:
            return None
        if self.user is None:
            return base64.b64decode(self.members["body_base64"])
        return base64.b64decode(self.members["body_base64"]) + user_field(self.user)  # of two the last one counts

    def request(self, with_user: bool = True) -> dict[str, Any]:
        """A request that needs nothing of a server's memory: the history that was used stands in place of a token, of an
        append and of a user's id alone. `with_user`: it names its user, by the hash if the log has no id."""
        asked = self.asked()
        held = any(asked.get(name) is not None for name in HELD_MEMBERS[:2])
        request = {name: value for name, value in asked.items() if name not in HELD_MEMBERS and name != "user_id"}
        if "history" in self.members:
            try:
                request["history"] = history_of(base64.b64decode(self.members["history"], validate=True))
            except ValueError as error:
                raise NotReplayable(f"{self.request_id}: its history: {error}") from error
        elif self.members.get("user_state") == "absent":
            request["history"] = {}
        elif held or (request.get("history") is None and self.members.get("history_count", 0)):
            raise NotReplayable(f"{self.request_id}: the log does not have the history that was used")
        if with_user and self.user is not None:
            request["user_id"] = self.user
        if with_user and "user_id" in request and request.get("history") is None:
            request["history"] = {}
        return request
