"""Labels back: joins the request log with clicks, to rows of impressions that `dien train` takes by a recipe.

Each request is a session of its own. Its rows are the history as it was at scoring time, then each candidate that was
shown, with label 1 if the user clicked it. Rows of the history are no targets: the recipe chooses by the kind of event.
"""
from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from typing import Any, Iterable, Iterator, Mapping

from dien.request_log.reading import Reader
from dien.request_log.records import NotReplayable, Record, columns_of

BEHAVIOUR, IMPRESSION = "behaviour", "impression"
STEP = datetime.timedelta(milliseconds=1)  # between the rows of one history, which has no times of its own
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Impressions:
    """The candidates of one request that were shown, in rank order, without repetitions."""
    record: Record
    number: int  # among the records that are joined
    request: Mapping[str, Any]
    candidates: Mapping[str, list[Any]]
    places: list[int]
    item: str

    def item_at(self, place: int) -> str:
        """As text, because a file of clicks has text."""
        return str(self.candidates[self.item][place])


def impressions(records: Iterable[Record], item: str, skipped: dict[str, int]) -> Iterator[Impressions]:
    """Those of the records that can be joined; `skipped` counts the others by their reason."""
    number = 0
    for record in records:
        reason = _reason(record)
        if reason is None:
            try:
                request = record.request(with_user=False)
            except NotReplayable:
                reason = "without a history or a body"
        if reason is not None:
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        candidates = columns_of(request["candidates"])
        if item not in candidates:
            raise ValueError(f"request {record.request_id}: its candidates have no field {item!r}; "
                             f"there are {', '.join(candidates)}")
        first: dict[str, int] = {}
        for place in record.order:
            first.setdefault(str(candidates[item][place]), place)
        yield Impressions(record, number, request, candidates, list(first.values()), item)
        number += 1


def _reason(record: Record) -> Any:
    if not record.is_scored:
        return "without scores"
    if record.members.get("sampled") is False:
        return "only because slow or failed"
    return "without a user" if record.user is None else None


def _attributed(shown: Mapping[tuple[str, str], list[tuple[float, int]]], clicks: Iterable[tuple[str, str, float]],
                window: float) -> tuple[set[tuple[int, str]], int]:
    """The (request, item) pairs that were clicked. A click belongs to the last impression of its item to its user, within
    `window` seconds before it. And the number of clicks that belong to none."""
    clicked, strays = set(), 0
    for user, item, time in clicks:
        before = [each for each in shown.get((user, item), ()) if each[0] <= time <= each[0] + window]
        if before:
            clicked.add((max(before)[1], item))
        else:
            strays += 1
    return clicked, strays


@dataclasses.dataclass
class Counts:
    """What a join has found."""
    requests: int = 0
    impressions: int = 0
    clicked: int = 0
    strays: int = 0  # clicks that no impression explains
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)


def join(reader: Reader, clicks: Iterable[tuple[str, str, float]], counts: Counts, item: str = "item",
         window: float = 86_400.0) -> Iterator[Row]:
    """The rows of all requests. Reads the log twice, and holds the clicks and the impressions of what was clicked.

    `clicks`: user, item and seconds since 1970; the user as the log has it, its id or its hash.
    """
    clicks = list(clicks)
    wanted = {(user, name) for user, name, _ in clicks}
    shown: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for each in impressions(reader, item, {}):
        for place in each.places:
            key = (str(each.record.user), each.item_at(place))
            if key in wanted:
                shown[key].append((each.record.time, each.number))
    clicked, counts.strays = _attributed(shown, clicks, window)
    for each in impressions(reader, item, counts.skipped):
        counts.requests += 1
        for row in rows_of(each, clicked):
            counts.impressions += row["log_event"] == IMPRESSION
            counts.clicked += row["log_event"] == IMPRESSION and row["log_label"]
            yield row


def rows_of(each: Impressions, clicked: set[tuple[int, str]]) -> Iterator[Row]:
    """The rows of one request, oldest first."""
    record, request = each.record, each.request
    time = datetime.datetime.fromtimestamp(record.time, datetime.timezone.utc)
    base = {"log_request": f"{each.number}", "log_user": record.user, **(request.get("user") or {}),
            **(request.get("context") or {})}
    history = columns_of(request.get("history"))
    for name, columns in interests_of(history, each.item).items():
        length = max(map(len, columns.values()), default=0)
        for i in range(length):
            yield {**base, "log_time": (time - (length - i) * STEP).isoformat(), "log_event": name, "log_label": 1,
                   **{field: values[i] for field, values in columns.items()}}
    for position, place in enumerate(each.places):
        yield {**base, "log_time": time.isoformat(), "log_event": IMPRESSION,
               "log_label": int((each.number, each.item_at(place)) in clicked), "log_position": position,
               "log_score": record.scores[place], **{field: values[place] for field, values in each.candidates.items()}}


def interests_of(history: Mapping[str, list[Any]], item: str) -> dict[str, dict[str, list[Any]]]:
    """The history's columns by the name of their rows' event. A recipe's several interests have prefixes: `views_item`."""
    if not history:
        return {}
    if item in history:
        return {BEHAVIOUR: dict(history)}
    made: dict[str, dict[str, list[Any]]] = {}
    for name in history:
        if name.endswith(f"_{item}"):
            prefix = name[:-len(item)]
            made[prefix[:-1]] = {field[len(prefix):]: values for field, values in history.items() if field.startswith(prefix)}
    if not made:
        raise ValueError(f"the history has no field {item!r}, and none that ends in _{item}; there are {', '.join(history)}")
    return made


def recipe_of(rows: Iterable[Row], each: Impressions, name: str, files: str) -> str:
    """A recipe for the joined file: its fields in the groups that a request has them in, of the kinds that they look like."""
    history = columns_of(each.request.get("history"))
    interests = interests_of(history, each.item)
    behaviours = {field: values for columns in interests.values() for field, values in columns.items()}
    first = {field: value for row in rows for field, value in row.items() if value is not None}
    both = [field for field in each.candidates if field != each.item and field in behaviours]
    groups = {"item.attributes": both, "user": list(each.request.get("user") or {}),
              "context": list(each.request.get("context") or {}),
              "behaviour": [field for field in behaviours if field not in each.candidates],
              "candidate": [field for field in each.candidates if field != each.item and field not in both]}
    item_kind = "integer" if isinstance(first.get(each.item), int) else "string"
    page = [f'name = "{name}"', "", "[data]", f'files = "{files}"', 'form = "impressions"', 'user = "log_user"',
            'session = "log_request"    # each request has its own history', f'item = "{each.item}"', 'time = "log_time"',
            'event = "log_event"', f'targets = "{IMPRESSION}"', 'label = "log_label"', "", "[item]", f'name = "{each.item}"',
            f'kind = "{item_kind}"']
    for group, fields in groups.items():
        if fields:
            page += ["", f"[{group}]", *(f"{field} = {{kind = \"{_kind(first.get(field))}\"}}" for field in fields)]
    page += ["", "[interests]"]
    names = interests or {BEHAVIOUR: {}}
    page += [f'{"clicks" if event == BEHAVIOUR else event} = {{events = "{event}"}}' for event in names]
    return "\n".join(page) + "\n"


def _kind(value: Any) -> str:
    if isinstance(value, bool) or isinstance(value, str) or value is None:
        return "string"
    return "integer" if isinstance(value, int) else "dense"
