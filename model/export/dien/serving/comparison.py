"""Compares scores that were logged with those of another model: how far they are apart, and for whom."""
from __future__ import annotations

import collections
import heapq
from typing import Any, Mapping, Optional, Sequence

import numpy as np

MOST = 10  # users, and items, that are listed


def ranked(scores: np.ndarray) -> np.ndarray:
    """Indices in rank order, ties by their place, as the server ranks."""
    return np.argsort(-scores, kind="stable")


class _Group:
    """The differences of one user or one item."""
    __slots__ = ("count", "largest", "total")

    def __init__(self) -> None:
        self.count, self.largest, self.total = 0, 0.0, 0.0

    def add(self, differences: np.ndarray) -> None:
        """Absolute ones."""
        self.count += len(differences)
        self.largest = max(self.largest, float(differences.max()))
        self.total += float(differences.sum())


class Comparison:
    """Sums over requests. `top` is the length of the rankings whose overlap is measured."""

    def __init__(self, top: int = 10):
        self.top = top
        self.requests = self.scores = self.equal = self.same_first = 0
        self.largest = self.total = self.overlap = 0.0
        self.largest_request = ""
        self.users: collections.defaultdict[str, _Group] = collections.defaultdict(_Group)
        self.items: collections.defaultdict[str, _Group] = collections.defaultdict(_Group)

    def add(self, request_id: str, user: Optional[str], logged: np.ndarray, other: np.ndarray,
            items: Optional[Sequence[Any]] = None) -> None:
        """One request: its scores by candidate, and the other model's."""
        differences = np.abs(logged - other)
        largest = float(differences.max(initial=0.0))
        if not np.isfinite(largest):
            raise ValueError(f"request {request_id}: a score that is not a number")
        self.requests += 1
        self.scores += len(logged)
        self.equal += int((differences == 0).sum())
        self.total += float(differences.sum())
        if largest > self.largest or not self.largest_request:
            self.largest, self.largest_request = largest, request_id
        ours, theirs = ranked(logged)[:self.top], ranked(other)[:self.top]
        self.same_first += bool(len(ours)) and bool(ours[0] == theirs[0])
        self.overlap += len(set(ours.tolist()) & set(theirs.tolist())) / max(1, len(ours))
        if user is not None and len(differences):
            self.users[user].add(differences)
        if items is not None and largest > 0:
            for place in np.flatnonzero(differences):
                self.items[str(items[place])].add(differences[place:place + 1])

    @staticmethod
    def _worst(groups: Mapping[str, _Group]) -> list[dict[str, Any]]:
        worst = heapq.nlargest(MOST, groups.items(), key=lambda each: each[1].total / each[1].count)
        return [{"name": name, "mean": group.total / group.count, "largest": group.largest, "scores": group.count}
                for name, group in worst if group.largest > 0]

    def report(self) -> dict[str, Any]:
        """The numbers for people and programs."""
        requests, scores = max(1, self.requests), max(1, self.scores)
        return {"requests": self.requests, "scores": self.scores, "equal_bits": self.equal,
                "largest_difference": self.largest, "largest_in_request": self.largest_request,
                "mean_difference": self.total / scores, "same_first": self.same_first / requests,
                f"overlap_at_{self.top}": self.overlap / requests, "users": self._worst(self.users),
                "items": self._worst(self.items)}
