"""Examples of a data set: which events are targets, their histories, and their batches for the network.

An example is the place of its target event. Its history is made when its batch is, so an epoch over N events holds N places
in memory and no copies of histories.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

import numpy as np
import torch

from dien.data.events import Dataset
from dien.data.recipe import Field
from dien.model.config import Config, group
from dien.model.network import Batch

SORTED_BATCHES = 64  # batches among which examples are sorted by length, so that little is padded
PARTS = ("train", "validation", "test")


@dataclass
class History:
    """The last behaviours of one interest: places of events [B, T], oldest first, then padding; and lengths [B]."""

    places: np.ndarray
    length: np.ndarray


class Sequences:
    """Histories and batches of one data set for one config."""

    def __init__(self, dataset: Dataset, config: Config):
        self.dataset, self.events, self.config = dataset, dataset.events, config
        self.recipe = dataset.recipe
        self.impressions = self.recipe["data"]["form"] == "impressions"
        self.before = self._before()
        self.interests = [(each, self._members(each.events)) for each in self.recipe.interests]
        self.attributes = {each.name: dataset.attribute(each.name) for each in self.recipe.group("attribute")}
        self.columns = {name: dataset.values[name].finished(np.asarray(raw)) for name, raw in self.events.columns.items()}
        self.sets = {name: dataset.values[name].set_matrix() for name in self.columns
                     if dataset.values[name].field.kind == "multi"}

    def _before(self) -> Optional[np.ndarray]:
        """Of impressions: the place where each event's own time begins. Labels of one moment must not see each other."""
        if not self.impressions:
            return None
        starts = np.zeros(len(self.events), np.int64)
        fresh = np.append(True, self.events.time[1:] != self.events.time[:-1])
        fresh[self.events.offsets[:-1]] = True
        starts[fresh] = np.flatnonzero(fresh)
        return np.maximum.accumulate(starts)

    def _members(self, names: tuple[str, ...]) -> Optional[np.ndarray]:
        """The places of the events that an interest holds; None for all."""
        chosen = self._of_kinds(names, ("interests",))
        if self.impressions:
            chosen = (self.events.label > 0) if chosen is None else chosen & (self.events.label > 0)
        return None if chosen is None else np.flatnonzero(chosen)

    def _of_kinds(self, names: tuple[str, ...], key: tuple[str, ...]) -> Optional[np.ndarray]:
        if not names:
            return None
        for name in names:
            if name not in self.events.kinds:
                raise self.recipe.error(key, f"no event is {name!r}; there are {', '.join(map(repr, self.events.kinds))}")
        return np.isin(self.events.kind, [self.events.kinds.index(name) for name in names])

    def targets(self) -> np.ndarray:
        """The places of all examples: of clicks, those with a behaviour before them and an item that is known."""
        given = self.recipe["data"]["targets"]
        chosen = self._of_kinds((given,) if isinstance(given, str) else tuple(given), ("data", "targets"))
        if self.impressions:
            return np.arange(len(self.events)) if chosen is None else np.flatnonzero(chosen)
        eligible = np.ones(len(self.events), bool) if chosen is None else chosen.copy()
        eligible &= self.events.item > 0
        places = np.flatnonzero(eligible)
        some = np.zeros(len(places), bool)
        for _, members in self.interests:
            begin, end = self._range(places, members)
            some |= end > begin
        return places[some]

    def _range(self, places: np.ndarray, members: Optional[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of the earlier behaviours of each target: places of events, or places in `members`."""
        first = self.events.offsets[np.searchsorted(self.events.offsets, places, "right") - 1]
        last = places if self.before is None else self.before[places]
        if members is None:
            return first, last
        return np.searchsorted(members, first), np.searchsorted(members, last)

    def lengths(self, places: np.ndarray) -> np.ndarray:
        """The behaviours used of each example, of all interests together."""
        total = np.zeros(len(places), np.int64)
        for interest, members in self.interests:
            begin, end = self._range(places, members)
            total += np.minimum(end - begin, interest.max_length)
        return total

    def histories(self, places: np.ndarray) -> list[History]:
        """The history of each interest."""
        made = []
        for interest, members in self.interests:
            begin, end = self._range(places, members)
            length = np.minimum(end - begin, interest.max_length)
            step = np.arange(max(1, int(length.max(initial=0))))
            index = np.minimum((end - length)[:, None] + step, np.maximum(end - 1, 0)[:, None])
            if members is not None:
                index = members[np.minimum(index, max(0, len(members) - 1))] if len(members) else np.zeros_like(index)
            made.append(History(index, length))
        return made

    def last_item(self, places: np.ndarray) -> np.ndarray:
        """The row of the newest behaviour of each example, of the interest that has one; 0 without any."""
        newest = np.full(len(places), -1, np.int64)
        for history in self.histories(places):
            some = history.length > 0
            last = history.places[np.arange(len(places)), np.maximum(history.length - 1, 0)]
            newest = np.maximum(newest, np.where(some, last, -1))
        return np.where(newest >= 0, self.events.item[np.maximum(newest, 0)], 0)

    def batches(self, places: np.ndarray, size: int, random: Optional[np.random.Generator] = None) -> Iterator[np.ndarray]:
        """Batches of places whose histories have like lengths; a generator shuffles them."""
        order = places if random is None else random.permutation(places)
        for begin in range(0, len(order), size * SORTED_BATCHES):
            some = order[begin:begin + size * SORTED_BATCHES]
            some = some[np.argsort(self.lengths(some), kind="stable")]
            cut = [some[at:at + size] for at in range(0, len(some), size)]
            for index in range(len(cut)) if random is None else random.permutation(len(cut)):
                yield cut[index]

    def items_as(self, names: list[str], rows: np.ndarray, random: Optional[np.random.Generator] = None,
                 unknown: float = 0.0) -> dict[str, torch.Tensor]:
        """Item rows as the fields `names`: the item's own and its attributes. A generator makes some items unknown, half of
        them with their attributes."""
        described = rows
        if random is not None and unknown:
            dropped = random.random(rows.shape) < unknown
            described = np.where(dropped & (random.random(rows.shape) < 0.5), 0, rows)
            rows = np.where(dropped, 0, rows)
        return {name: _tensor(self.attributes[name][described] if name in self.attributes else rows) for name in names}

    def own(self, name: str, places: np.ndarray, random: Optional[np.random.Generator] = None,
            unknown: float = 0.0) -> torch.Tensor:
        """Values that events have of their own."""
        values = self.columns[name][places]
        if name in self.sets:
            return _tensor(self.sets[name][values])
        if random is not None and unknown and values.dtype.kind == "i":
            values = np.where(random.random(values.shape) < unknown, 0, values)
        return _tensor(values)

    def behaviours(self, place: int, items: np.ndarray, events: np.ndarray, random: Optional[np.random.Generator] = None,
                   unknown: float = 0.0) -> dict[str, torch.Tensor]:
        """The history fields of interest `place`: those of `items`, and those that `events` have of their own."""
        names = base_names(self.config["interests"][place], self.recipe.fields)
        of_item = self.items_as([base for base in names.values() if base not in self.columns], items, random, unknown)
        return {name: of_item[base] if base in of_item else self.own(base, events, random, unknown)
                for name, base in names.items()}

    def batch(self, places: np.ndarray, candidates: np.ndarray, random: Optional[np.random.Generator] = None,
              unknown: float = 0.0) -> tuple[Batch, list[History]]:
        """The batch of these targets with candidates [B, C], item rows."""
        histories = self.histories(places)
        history, lengths = {}, {}
        for place, (interest, one) in enumerate(zip(self.config["interests"], histories)):
            history[interest["name"]] = self.behaviours(place, self.events.item[one.places], one.places, random, unknown)
            lengths[interest["name"]] = torch.from_numpy(one.length)
        names = group(self.config, "candidate")
        of_item = self.items_as([name for name in names if name not in self.columns], candidates, random, unknown)
        shown = {name: self.own(name, np.broadcast_to(places[:, None], candidates.shape), random, unknown)
                 for name in names if name in self.columns}
        single = {kind: {name: self.own(name, places, random, unknown) for name in group(self.config, kind)}
                  for kind in ("user", "context")}
        return Batch(single["user"], single["context"], history, lengths, {**of_item, **shown}), histories


def _tensor(values: np.ndarray) -> torch.Tensor:
    """Rows as int64, numbers as they are."""
    return torch.from_numpy(values.astype(np.int64) if values.dtype.kind == "i" else np.ascontiguousarray(values))


def base_names(interest: Config, fields: list[Field]) -> dict[str, str]:
    """The history's fields, each with the recipe's field that it shows: of several interests they have a prefix."""
    known = {each.name for each in fields}
    prefix = f"{interest['name']}_"
    return {name: name if name in known else name.removeprefix(prefix) for name in interest["history"]}


def parts_of(sequences: Sequences, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The targets by time: the last ones test, those before them validate, the others train."""
    options, time = sequences.recipe["split"], sequences.events.time[targets]
    low, high = np.quantile(time, [1 - options["test"] - options["validation"], 1 - options["test"]], method="lower")
    return {"train": targets[time < low], "validation": targets[(time >= low) & (time < high)], "test": targets[time >= high]}


class Sampler:
    """Negatives: item rows drawn uniformly or by popularity, never the positive where another is to be had."""

    def __init__(self, counts: np.ndarray):
        """`counts` are the targets of each item row in the training part; row 0 is never drawn."""
        self.items = len(counts) - 1
        clicks = counts[1:].astype(np.float64)
        self.share = np.append(0, clicks / max(1.0, clicks.sum()))
        self.cumulative = np.cumsum(self.share[1:])

    def _draw(self, kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        if kind == "uniform" or not self.cumulative[-1]:
            return random.integers(1, self.items + 1, shape)
        drawn = np.searchsorted(self.cumulative, random.random(shape) * self.cumulative[-1], "right")
        return 1 + np.minimum(drawn, self.items - 1)

    def draw(self, kind: str, positive: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """[..., count] item rows for positives [...]; `mixed` is half of each kind, `in-batch` other rows' positives."""
        if kind == "mixed":
            return np.concatenate([self.draw("uniform", positive, count - count // 2, random),
                                   self.draw("popularity", positive, count // 2, random)], -1)
        if kind == "in-batch":
            drawn = random.choice(positive.ravel(), (*positive.shape, count))
        else:
            drawn = self._draw(kind, (*positive.shape, count), random)
        for _ in range(20):  # an item that most clicks are of has few others
            again = drawn == positive[..., None]
            if not again.any():
                break
            drawn[again] = self._draw("popularity" if kind == "in-batch" else kind, (int(again.sum()),), random)
        return drawn

    def log_chance(self, kind: str, rows: np.ndarray, count: int) -> np.ndarray:
        """The logarithm of an item's chance among `count` negatives, relative to a uniform draw."""
        uniform = np.full(rows.shape, 1 / self.items)
        popular = np.maximum(self.share[rows], 1e-9)
        half = (count // 2) / count
        chance = {"uniform": uniform, "mixed": (1 - half) * uniform + half * popular}.get(kind, popular)
        return np.log(self.items * chance)
