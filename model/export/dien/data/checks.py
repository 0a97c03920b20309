"""The check of a recipe's data: what is strange in it, how often, and where first.

A finding is no error, since clicks of real shops have all of these. An error is raised by reading itself.
"""
from __future__ import annotations

from typing import Iterator, NamedTuple, Optional

import numpy as np

from dien.data import tables
from dien.data.events import Dataset
from dien.data.recipe import Recipe
from dien.data.sequences import Sequences


class Finding(NamedTuple):
    """One kind of finding."""

    name: str
    rows: int
    first: str   # file and line; empty for columns
    words: str
    is_warning: bool  # it can make the model or its report wrong


def unused_columns(recipe: Recipe) -> list[str]:
    """The columns of the first file that the recipe does not name."""
    data = recipe["data"]
    header = tables.header_of(recipe.files[0], data["format"], data["separator"])
    named = {data[role] for role in ("user", "session", "item", "order", "event", "label")}
    named |= {data["time"]} if isinstance(data["time"], str) else set(data["time"])
    named |= {column for each in recipe.fields for column in each.columns}
    return [name for name in header if name not in named]


def _finding(dataset: Dataset, name: str, chosen: np.ndarray, words: str, is_warning: bool = False
             ) -> Optional[Finding]:
    places = np.flatnonzero(chosen)
    if not len(places):
        return None
    first = places[int(np.argmin(dataset.events.line[places]))]
    return Finding(name, len(places), dataset.events.place(int(first)), words, is_warning)


def _out_of_order(dataset: Dataset) -> np.ndarray:
    """Events whose time is before that of the line above them."""
    order = np.argsort(dataset.events.line, kind="stable")
    time = dataset.events.time[order]
    late = np.zeros(len(order), bool)
    late[order[1:][time[1:] < time[:-1]]] = True
    return late


def _events(dataset: Dataset) -> Iterator[Optional[Finding]]:
    events = dataset.events
    recipe = dataset.recipe
    size = np.diff(events.offsets)
    same = np.zeros(len(events), bool)
    same[1:] = (events.item[1:] == events.item[:-1]) & (events.item[1:] > 0)
    same[events.offsets[:-1]] = False
    moment = np.zeros(len(events), bool)
    moment[1:] = events.time[1:] == events.time[:-1]
    kind = np.append(True, events.kind[1:] == events.kind[:-1])
    if recipe["data"]["time"]:
        yield _finding(dataset, "times out of order", _out_of_order(dataset), "rows earlier than the line above; sorted now")
    one = np.zeros(len(events), bool)
    one[events.offsets[:-1][size == 1]] = True
    who = "sessions" if recipe["data"]["session"] else "users"
    yield _finding(dataset, f"{who} of one row", one, "they give no example, as an example needs an earlier behaviour")
    if recipe["data"]["form"] == "clicks":
        if recipe["data"]["time"] and not recipe["data"]["order"]:
            yield _finding(dataset, "leak: the target in its own history", same & moment & kind,
                           "the row above has this user, item and time: a click written twice", True)
        yield _finding(dataset, "the item of the row before", same & ~(moment & kind) if not recipe["data"]["order"] else same,
                       "repeated clicks, which a model learns first")
    else:
        yield from _impressions(dataset)
    yield _finding(dataset, "unknown items", events.item == 0, "items under item.min_count")
    if dataset.described is not None:
        bare = ~dataset.described[events.item] & (events.item > 0)
        yield _finding(dataset, "items without a description", bare, "items that the table of items lacks", True)
    for each in recipe.fields:
        if each.name in events.columns:
            raw = events.columns[each.name]
            missing = np.isnan(raw).any(1) if raw.ndim == 2 else raw == 0
            yield _finding(dataset, f"{each.name} missing", missing, "empty, or an id under min_count")


def _impressions(dataset: Dataset) -> Iterator[Optional[Finding]]:
    """A positive row whose time another row of its user and item has: its label may be known from that one."""
    events = dataset.events
    history = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    order = np.lexsort((events.time, events.item, history))
    again = np.zeros(len(events), bool)
    this, last = order[1:], order[:-1]
    twice = (history[this] == history[last]) & (events.item[this] == events.item[last]) & (events.item[this] > 0)
    again[this[twice & (events.time[this] == events.time[last])]] = True
    yield _finding(dataset, "leak: an impression written twice", again, "another row has its user, item and time", True)
    fresh = np.append(True, ~twice)
    moment = fresh | np.append(True, events.time[this] != events.time[last])
    before = np.cumsum(events.label[order] > 0) - (events.label[order] > 0)
    places = np.arange(len(order))
    own, now = np.maximum.accumulate(np.where(fresh, places, 0)), np.maximum.accumulate(np.where(moment, places, 0))
    clicked = np.zeros(len(events), bool)
    clicked[order[(before[now] > before[own]) & (events.item[order] > 0)]] = True
    yield _finding(dataset, "the target in its own history", clicked, "an item that its user has clicked before")
    share = float(events.label.mean())
    if share in (0.0, 1.0):
        yield Finding("one label", len(events), events.place(0), f"every label is {share:g}: there is nothing to learn", True)


def _parts(sequences: Sequences, parts: dict[str, np.ndarray]) -> Iterator[Optional[Finding]]:
    events = sequences.events
    known = np.zeros(int(events.item.max()) + 1, bool)
    known[events.item[events.time <= events.time[parts["train"]].max()]] = True
    cold = np.zeros(len(events), bool)
    cold[parts["test"]] = ~known[events.item[parts["test"]]]
    yield _finding(sequences.dataset, "new items in the test", cold, "targets that training has not seen")


def findings(sequences: Sequences, parts: dict[str, np.ndarray]) -> list[Finding]:
    """All findings of a data set."""
    dataset = sequences.dataset
    found = [Finding(f"rows {fault}", count, first, "left out, as bad_rows says", False)
             for fault, (count, first) in dataset.skipped.items()]
    for finding in (*_events(dataset), *(_parts(sequences, parts) if all(map(len, parts.values())) else ())):
        if finding:
            found.append(finding)
    unused = unused_columns(dataset.recipe)
    if unused:
        found.append(Finding("unknown columns", len(unused), "", f"not in the recipe: {', '.join(unused)}", False))
    return found


def lines(found: list[Finding]) -> list[str]:
    """A line for each finding."""
    return [f"{'warning' if each.is_warning else 'note'}: {each.name}: {each.rows}"
            f"{f', first at {each.first}' if each.first else ''} ({each.words})" for each in found]
