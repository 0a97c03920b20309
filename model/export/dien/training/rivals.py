"""The baselines of a recipe's report: popularity, and a first-order Markov chain of items backed off to it."""
from __future__ import annotations

import numpy as np

from dien.data.sequences import Sequences

BACK_OFF = 3.0  # the weight of popularity in the chain, in clicks
PIECE = 65_536


class Popularity:
    """A candidate's score is its share of the clicks in training."""

    def __init__(self, counts: np.ndarray):
        clicks = counts + 1e-9
        self.share = clicks / clicks.sum()

    def score(self, sequences: Sequences, places: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Scores [N, C]."""
        return self.share[candidates]


class Markov:
    """P(next | last) of the targets in training. Pairs are one sorted array, since a million items have no square table."""

    def __init__(self, sequences: Sequences, places: np.ndarray, popularity: Popularity):
        self.popularity = popularity
        self.items = len(popularity.share)
        pairs = []
        for begin in range(0, len(places), PIECE):
            some = places[begin:begin + PIECE]
            pairs.append(sequences.last_item(some) * self.items + sequences.events.item[some])
        self.pairs, self.counts = np.unique(np.concatenate(pairs), return_counts=True)
        self.leaving = np.bincount(self.pairs // self.items, self.counts, self.items)

    def score(self, sequences: Sequences, places: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Scores [N, C]."""
        last = sequences.last_item(places)[:, None]
        wanted = last * self.items + candidates
        at = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        found = np.where(self.pairs[at] == wanted, self.counts[at], 0)
        return (found + BACK_OFF * self.popularity.share[candidates]) / (self.leaving[last] + BACK_OFF)
