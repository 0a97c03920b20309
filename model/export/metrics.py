"""AUC with a confidence interval: the bootstrap draws whole sessions, since clicks of one session are not independent."""
from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

REPLICATES = 1000


class Auc(NamedTuple):
    """An AUC and the bounds of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


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


def auc_interval(positive: np.ndarray, negative: np.ndarray, session: np.ndarray, seed: int = 0,
                 replicates: Optional[int] = None) -> Auc:
    """The AUC with the 95% percentile interval over sessions."""
    ranking, random = _Ranking(positive, negative), np.random.default_rng(seed)
    count = int(session.max()) + 1
    drawn = [ranking.auc(np.bincount(random.integers(count, size=count), minlength=count)[session].astype(float))
             for _ in range(replicates or REPLICATES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Auc(auc(positive, negative), float(low), float(high))
