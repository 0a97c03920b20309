"""Measures of scores against labels: AUC, AUC within each user, log loss, calibration, hit rate and NDCG.

A row is one candidate: its score, label, weight, and the user or list that it belongs to.
"""
from __future__ import annotations

from typing import Optional

import numpy as np

TOP = 10
DECILES = 10


def grouped_auc(scores: np.ndarray, labels: np.ndarray, group: np.ndarray, weight: Optional[np.ndarray] = None
                ) -> tuple[np.ndarray, np.ndarray]:
    """The AUC within each group that has both labels, ties as one half, and the group's weight."""
    weight = np.ones(len(scores)) if weight is None else weight
    order = np.lexsort((scores, group))
    scores, labels, group, weight = scores[order], labels[order] > 0, group[order], weight[order]
    fresh = np.append(True, (scores[1:] != scores[:-1]) | (group[1:] != group[:-1]))
    starts = np.flatnonzero(fresh)
    positive = np.add.reduceat(np.where(labels, weight, 0.0), starts)
    negative = np.add.reduceat(np.where(labels, 0.0, weight), starts)
    _, of = np.unique(group[starts], return_inverse=True)
    total_positive, total_negative = np.bincount(of, positive), np.bincount(of, negative)
    before = np.cumsum(negative) - negative
    below = before - before[np.append(True, of[1:] != of[:-1])][of]
    won = np.bincount(of, positive * (below + 0.5 * negative))
    both = (total_positive > 0) & (total_negative > 0)
    return won[both] / (total_positive * total_negative)[both], (total_positive + total_negative)[both]


def auc(scores: np.ndarray, labels: np.ndarray, weight: Optional[np.ndarray] = None) -> float:
    """The chance that a positive is above a negative; NaN without one of them."""
    values, _ = grouped_auc(scores, labels, np.zeros(len(scores), np.int64), weight)
    return float(values[0]) if len(values) else float("nan")


def gauc(scores: np.ndarray, labels: np.ndarray, user: np.ndarray, weight: Optional[np.ndarray] = None) -> float:
    """The mean of the users' AUCs by their number of rows; users with one label do not count."""
    values, weights = grouped_auc(scores, labels, user, weight)
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def log_loss(scores: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    """The mean negative log-likelihood; scores are kept 1e-7 from 0 and 1, which float32 rounds to."""
    p = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(np.average(-np.where(labels > 0, np.log(p), np.log1p(-p)), weights=weight))


def calibration(scores: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> list[dict[str, float]]:
    """Ten groups of equal weight in the order of their scores: the mean score beside the share of positives."""
    order = np.argsort(scores, kind="stable")
    scores, labels, weight = scores[order].astype(np.float64), (labels[order] > 0).astype(np.float64), weight[order]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    decile = np.minimum((middle * DECILES).astype(int), DECILES - 1)
    rows = []
    for place in range(DECILES):
        chosen = decile == place
        if chosen.any():
            rows.append({"decile": place + 1, "rows": int(chosen.sum()),
                         "score": float(np.average(scores[chosen], weights=weight[chosen])),
                         "positives": float(np.average(labels[chosen], weights=weight[chosen]))})
    return rows


def top(scores: np.ndarray, labels: np.ndarray, lists: np.ndarray) -> dict[str, float]:
    """Hit rate and NDCG at 10 over lists that have a positive and two candidates or more. Ties are in the order of a fixed
    shuffle, so that a constant score gains nothing by the positive's place."""
    shuffled = np.random.default_rng(0).permutation(len(scores))
    order = shuffled[np.lexsort((-scores[shuffled], lists[shuffled]))]
    labels, lists = labels[order] > 0, lists[order]
    starts = np.flatnonzero(np.append(True, lists[1:] != lists[:-1])) if len(lists) else np.zeros(0, np.int64)
    of = np.cumsum(np.append(True, lists[1:] != lists[:-1])) - 1 if len(lists) else np.zeros(0, np.int64)
    rank = np.arange(len(lists)) - starts[of]
    size, positives = np.bincount(of), np.bincount(of, labels)
    inside = labels & (rank < TOP)
    gain = np.bincount(of, inside / np.log2(rank + 2), len(starts))
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(TOP) + 2))])[np.minimum(positives, TOP).astype(int)]
    fit = (positives > 0) & (size > 1)
    if not fit.any():
        return {"hit_rate": float("nan"), "ndcg": float("nan"), "lists": 0}
    hits = np.bincount(of, inside, len(starts)) > 0
    return {"hit_rate": float(hits[fit].mean()), "ndcg": float((gain[fit] / ideal[fit]).mean()), "lists": int(fit.sum())}
