"""Next-click examples of sessions: each click after the first is a positive whose history is the clicks before it."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

import numpy as np
import torch

from dien.data.clickstream import Sessions
from dien.model.config import Config, field_of, group
from dien.model.network import Batch

# With these chances a training batch sees an id as unknown, so that row 0 of each table learns to stand for any.
DROP_ITEM = 0.02
DROP_SINGLE = 0.02


@dataclass
class Examples:
    """N examples. Items are rows of the item table."""

    history: np.ndarray  # [N, max_length] the last clicks, oldest first, then zeros
    length: np.ndarray   # [N]
    target: np.ndarray   # [N] the click that followed
    session: np.ndarray  # [N] its session, for the bootstrap
    single: dict[str, np.ndarray]  # country and month: [N]

    def __len__(self) -> int:
        return len(self.target)


def examples_of(sessions: Sessions, max_length: int) -> Examples:
    """Every click but a session's first, with the last max_length clicks before it."""
    counts = np.diff(sessions.offsets)
    session = np.repeat(np.arange(len(sessions)), counts)
    place = np.arange(len(session)) - sessions.offsets[:-1][session]
    later = np.flatnonzero(place > 0)
    session, length = session[later], np.minimum(place[later], max_length)
    step = np.arange(max_length)
    source = np.minimum(later[:, None] - length[:, None] + step, len(sessions.clicks) - 1)
    history = np.where(step < length[:, None], sessions.clicks[source], 0)
    return Examples(history.astype(np.int64), length, sessions.clicks[later].astype(np.int64), session,
                    {"country": sessions.country[session], "month": sessions.month[session]})


class Negatives:
    """Items drawn uniformly or by popularity, never the positive."""

    def __init__(self, sessions: Sessions, items: int):
        counts = np.bincount(sessions.clicks, minlength=items + 1)[1:]
        self.cumulative = {"uniform": np.arange(1, items + 1) / items,
                           "popularity": np.cumsum(counts) / counts.sum()}

    def _draw(self, kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        cumulative = self.cumulative[kind]
        drawn = np.searchsorted(cumulative, random.random(shape), "right")
        return 1 + np.minimum(drawn, len(cumulative) - 1)

    def draw(self, kind: str, positive: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """[..., count] item rows for positives [...]."""
        drawn = self._draw(kind, (*positive.shape, count), random)
        while (again := drawn == positive[..., None]).any():
            drawn[again] = self._draw(kind, (int(again.sum()),), random)
        return drawn

    def mixed(self, positive: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """[..., count]: half of them of each kind."""
        return np.concatenate([self.draw("uniform", positive, count - count // 2, random),
                               self.draw("popularity", positive, count // 2, random)], -1)


def batches(examples: Examples, size: int, random: Optional[np.random.Generator] = None) -> Iterator[np.ndarray]:
    """Indices of batches whose histories have one length, so that nothing is padded; a generator shuffles them."""
    order = np.arange(len(examples)) if random is None else random.permutation(len(examples))
    order = order[np.argsort(examples.length[order], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(examples.length[order])) + 1)
    cut = [part for members in groups for part in np.array_split(members, -(-len(members) // size))]
    for place in range(len(cut)) if random is None else random.permutation(len(cut)):
        yield cut[place]


class Features:
    """Item rows as the fields of one config."""

    def __init__(self, config: Config, attributes: dict[str, np.ndarray]):
        self.config = config
        self.attributes = attributes
        self.interest = config["interests"][0]

    def columns(self, names: list[str], rows: np.ndarray,
                random: Optional[np.random.Generator] = None) -> dict[str, torch.Tensor]:
        """The item and its attributes. A generator makes some items unknown, half of them with their attributes."""
        described = rows
        if random is not None:
            dropped = random.random(rows.shape) < DROP_ITEM
            described = np.where(dropped & (random.random(rows.shape) < 0.5), 0, rows)
            rows = np.where(dropped, 0, rows)
        return {name: torch.from_numpy(rows if name == "item" else self.attributes[name][described].astype(np.int64))
                for name in names}

    def _single(self, kind: str, examples: Examples, index: np.ndarray,
                random: Optional[np.random.Generator]) -> dict[str, torch.Tensor]:
        columns = {}
        for name in group(self.config, kind):
            values = examples.single[name][index].astype(np.int64)
            if random is not None:
                unknown = field_of(self.config, name)["unknown_row"]
                values = np.where(random.random(len(values)) < DROP_SINGLE, unknown, values)
            columns[name] = torch.from_numpy(values)
        return columns

    def batch(self, examples: Examples, index: np.ndarray, candidates: np.ndarray,
              random: Optional[np.random.Generator] = None) -> Batch:
        """The batch of these examples, all of one length, with candidates [B, C]."""
        length = int(examples.length[index[0]])
        history = examples.history[index, :length]
        name = self.interest["name"]
        return Batch(self._single("user", examples, index, random), self._single("context", examples, index, random),
                     {name: self.columns(self.interest["history"], history, random)},
                     {name: torch.full((len(index),), length)},
                     self.columns(group(self.config, "candidate"), candidates, random))
