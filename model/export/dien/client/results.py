"""Replies as values: a ranking, an update of a history, a held state, the description of a model."""
from __future__ import annotations

import dataclasses
import json
from typing import Any, Mapping, Optional

from dien.client.errors import PREFIX

RESERVED = ("index", "score", "attention")


@dataclasses.dataclass(frozen=True)
class Result:
    """One candidate: its index in the request, its click probability, its own fields, and with `explain` the attention that
    each behaviour got, by interest."""
    index: int
    score: float
    fields: Mapping[str, Any]
    attention: Optional[Mapping[str, list[float]]] = None


@dataclasses.dataclass(frozen=True)
class History:
    """The history that was used: behaviours used and received, the token of the state that is kept now. `origin` and
    `count` are there with a history store; `interests` has length and received of each, if the model has several."""
    length: int
    received: int
    token: Optional[str] = None
    origin: Optional[str] = None
    count: Optional[int] = None
    interests: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Update:
    """The reply to a change of a user's history."""
    model: str
    version: str
    user_state: str
    history: History
    unknown: Mapping[str, int]
    request_id: str
    model_digest: str


@dataclasses.dataclass(frozen=True)
class Ranking(Update):
    """The reply to a request for scores; `results` in rank order. `coverage` is the share of candidates that were scored,
    and 1 unless the request was `partial`. `stale`: the history store did not answer."""
    results: list[Result] = dataclasses.field(default_factory=list)
    coverage: float = 1.0
    stale: bool = False

    def scores(self) -> dict[int, float]:
        """Scores by the candidate's index in the request."""
        return {result.index: result.score for result in self.results}

    def to_frame(self) -> Any:
        """A pandas DataFrame in rank order: `index`, the candidates' fields, `score`."""
        import pandas  # only here: the client does not need it
        rows = [{"index": each.index, **each.fields, "score": each.score} for each in self.results]
        return pandas.DataFrame(rows, columns=None if rows else ["index", "score"])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One event: "applied", "duplicate", "refused" (never to be applied, `slug`, `detail` and `pointer` say why) or
    "unavailable" (to be sent again). `count`: behaviours ever received of its user, after it."""
    outcome: str
    count: Optional[int] = None
    slug: str = ""
    detail: str = ""
    pointer: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class HeldState:
    """A user's state at the server: sizes and times, no behaviours. `document` is the whole reply."""
    model: str
    version: str
    history: History
    bytes: int
    age_seconds: float
    idle_seconds: float
    document: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of the running model."""
    name: str
    kind: str
    required: bool
    attribute_of: Optional[str] = None
    rows: Optional[int] = None
    width: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Description:
    """The running model: the fields of each group of a request, and the server's limits. `document` is the whole reply."""
    name: str
    version: str
    groups: Mapping[str, list[Field]]
    limits: Mapping[str, int]
    document: Mapping[str, Any]


def _history(node: Mapping[str, Any]) -> History:
    return History(node.get("length", 0), node.get("received", 0), node.get("token"), node.get("origin"), node.get("count"),
                   node.get("interests", {}))


def _update(document: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    return {"model": document["model"], "version": document["version"], "user_state": document["user_state"],
            "history": _history(document["history"]), "unknown": document["unknown"],
            "request_id": headers.get("x-request-id", ""), "model_digest": headers.get("x-model-digest", "")}


def update_of(content: bytes, headers: Mapping[str, str]) -> Update:
    """A HistoryReply."""
    return Update(**_update(json.loads(content), headers))


def ranking_of(content: bytes, headers: Mapping[str, str]) -> Ranking:
    """A ScoreReply."""
    document = json.loads(content)
    results = [Result(each["index"], each["score"], {name: value for name, value in each.items() if name not in RESERVED},
                      each.get("attention")) for each in document["results"]]
    return Ranking(**_update(document, headers), results=results, coverage=document.get("coverage", 1.0),
                   stale=document.get("stale", False))


def held_of(content: bytes) -> HeldState:
    """The reply of GET /users/{id}."""
    document = json.loads(content)
    return HeldState(document["model"], document["version"], _history(document["history"]), document.get("bytes", 0),
                     document.get("age_seconds", 0.0), document.get("idle_seconds", 0.0), document)


def outcomes_of(content: bytes) -> list[Outcome]:
    """The lines of the reply of POST /events."""
    read = [json.loads(line) for line in content.splitlines()]
    return [Outcome(each["outcome"], each.get("count"), str(each.get("type", "")).removeprefix(PREFIX), each.get("detail", ""),
                    each.get("pointer")) for each in read]


def description_of(content: bytes) -> Description:
    """The reply of GET /model."""
    document = json.loads(content)
    groups = {name: [Field(**{key: field[key] for key in ("name", "kind", "required", "attribute_of", "rows", "width")
                              if key in field}) for field in fields] for name, fields in document["groups"].items()}
    return Description(document["name"], document["version"], groups, document["limits"], document)
