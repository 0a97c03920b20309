"""AUC with a confidence interval: the bootstrap draws whole sessions, because the clicks of one are not independent."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

REPLICATES = 1000


class Interval(NamedTuple):
    """A value and the bounds of its 95% interval."""

    value: float
    low: float
    high: float


class _Ranking:
    """All scores in order, with ties found, ready for any weights."""

    def __init__(self, positive: np.ndarray, negative: np.ndarray):
        scores = np.concatenate([positive, negative.ravel()])
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        self.tie_starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self.positives = len(positive)
        self.negatives_each = negative.shape[1]

    def auc(self, weight: np.ndarray) -> float:
        """The chance that a positive is above a negative, ties as one half; a weight for each example."""
        w = np.concatenate([weight, np.repeat(weight, self.negatives_each)])[self.order]
        is_positive = self.order < self.positives
        positive = np.add.reduceat(np.where(is_positive, w, 0.0), self.tie_starts)
        negative = np.add.reduceat(np.where(is_positive, 0.0, w), self.tie_starts)
        below = np.cumsum(negative) - negative
        return float((positive * (below + 0.5 * negative)).sum() / (positive.sum() * negative.sum()))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The AUC of positives [N] against all negatives [N, K]."""
    return _Ranking(positive, negative).auc(np.ones(len(positive)))


def bootstrap(positive: np.ndarray, negative: np.ndarray, session: np.ndarray) -> np.ndarray:
    """The AUC in each replicate. The sessions drawn are the same at every call, so those of two models are paired."""
    ranking, random = _Ranking(positive, negative), np.random.default_rng(0)
    count = int(session.max()) + 1

    def replicate() -> float:
        drawn = np.bincount(random.integers(count, size=count), minlength=count)
        return ranking.auc(drawn[session].astype(float))

    return np.array([replicate() for _ in range(REPLICATES)])


def interval(value: float, replicates: np.ndarray) -> Interval:
    """A value with the 95% percentile interval of its replicates."""
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Interval(value, float(low), float(high))
