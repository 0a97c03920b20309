"""The two baselines that a sequence model must beat: popularity, and a first-order Markov chain of items."""
from __future__ import annotations

import numpy as np

from dien.data.clickstream import Sessions
from dien.data.examples import Examples

BACK_OFF = (0.3, 1.0, 3.0, 10.0, 30.0)  # candidates for the weight of popularity in the chain


class Popularity:
    """A candidate's score is its share of all clicks."""

    def __init__(self, sessions: Sessions, items: int):
        counts = np.bincount(sessions.clicks, minlength=items + 1) + 1e-9
        self.share = counts / counts.sum()

    def score(self, examples: Examples, candidates: np.ndarray) -> np.ndarray:
        """Scores [N, C]."""
        return self.share[candidates]


class Markov:
    """P(next | last), backed off to popularity; `lift` divides by popularity, which suits negatives drawn by it."""

    def __init__(self, sessions: Sessions, items: int, back_off: float, lift: bool = False):
        inside = np.ones(len(sessions.clicks), bool)
        inside[sessions.offsets[:-1]] = False
        after = np.flatnonzero(inside)
        pairs = np.zeros((items + 1, items + 1))
        np.add.at(pairs, (sessions.clicks[after - 1], sessions.clicks[after]), 1)
        share = Popularity(sessions, items).share
        self.chance = (pairs + back_off * share) / (pairs.sum(1, keepdims=True) + back_off)
        if lift:
            self.chance = self.chance / share

    def score(self, examples: Examples, candidates: np.ndarray) -> np.ndarray:
        """Scores [N, C]."""
        last = examples.history[np.arange(len(examples)), examples.length - 1]
        return self.chance[last[:, None], candidates]
