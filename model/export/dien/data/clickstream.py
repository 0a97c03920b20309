"""The clickstream to train on: UCI data set 553, "Clickstream data for online shopping" (CC BY 4.0), read and split.

The user brings the file (.csv or .csv.gz, unchanged). Sessions are in time order, clicks in the order of the session.
The file's description of an item follows from its code, except for one click of 165,474. It is therefore an attribute of
the item. The description that most clicks give is used.
"""
from __future__ import annotations

import csv
import gzip
from collections import Counter
from dataclasses import dataclass
from typing import Iterator

import numpy as np

PRICE_BANDS = 5
UNKNOWN_ITEM = 0  # item rows count from 1

# attribute: the file's column
COLUMNS = {"category": "page 1 (main category)", "colour": "colour", "location": "location",
           "photograph": "model photography", "price": "price", "page": "page"}

# The meaning of the codes, from the data set's code book.
LABELS = {
    "category": {"1": "trousers", "2": "skirts", "3": "blouses", "4": "sale"},
    "colour": {"1": "beige", "2": "black", "3": "blue", "4": "brown", "5": "burgundy", "6": "gray", "7": "green",
               "8": "navy blue", "9": "of many colors", "10": "olive", "11": "pink", "12": "red", "13": "violet",
               "14": "white"},
    "location": {"1": "top left", "2": "top in the middle", "3": "top right", "4": "bottom left",
                 "5": "bottom in the middle", "6": "bottom right"},
}


@dataclass
class Sessions:
    """S sessions with N clicks in all; item rows count from 1 in the order of the catalogue."""

    clicks: np.ndarray   # [N] item rows
    offsets: np.ndarray  # [S + 1]
    country: np.ndarray  # [S]
    month: np.ndarray    # [S]

    def __len__(self) -> int:
        return len(self.country)

    def part(self, begin: int, end: int) -> "Sessions":
        """The sessions begin .. end - 1."""
        first, last = self.offsets[begin], self.offsets[end]
        return Sessions(self.clicks[first:last], self.offsets[begin:end + 1] - first, self.country[begin:end],
                        self.month[begin:end])


@dataclass
class Catalogue:
    """The items and, for each attribute, the value of every item row (row 0, the unknown item, has 0)."""

    codes: list[str]
    attributes: dict[str, np.ndarray]  # [1 + items]
    price_edges: list[int]             # band b holds edges[b - 1] <= price < edges[b]


def _rows(path: str) -> Iterator[dict[str, str]]:
    with (gzip.open(path, "rt", encoding="utf-8", newline="") if path.endswith(".gz")
          else open(path, "rt", encoding="utf-8", newline="")) as file:
        yield from csv.DictReader(file, delimiter=";")


def _catalogue(rows: list[dict[str, str]]) -> Catalogue:
    described: dict[str, Counter[tuple[int, ...]]] = {}
    for row in rows:
        values = tuple(int(row[column]) for column in COLUMNS.values())
        described.setdefault(row["page 2 (clothing model)"], Counter())[values] += 1
    codes = sorted(described, key=lambda code: (code[0], int(code[1:])))
    table = np.array([described[code].most_common(1)[0][0] for code in codes])
    attributes = {name: np.concatenate([[0], table[:, place]]) for place, name in enumerate(COLUMNS)}
    prices = attributes.pop("price")
    edges = np.unique(np.quantile(prices[1:], np.linspace(0, 1, PRICE_BANDS + 1)[1:-1]).astype(int))
    attributes["price_band"] = np.concatenate([[0], 1 + np.searchsorted(edges, prices[1:], "right")])
    return Catalogue(codes, attributes, edges.tolist())


def read(path: str) -> tuple[Catalogue, Sessions]:
    """The catalogue, and all sessions by session id, which is by time."""
    rows = list(_rows(path))
    catalogue = _catalogue(rows)
    row_of = {code: row for row, code in enumerate(catalogue.codes, 1)}
    session = np.array([int(row["session ID"]) for row in rows])
    order = np.lexsort((np.array([int(row["order"]) for row in rows]), session))
    column = {name: np.array([int(row[name]) for row in rows])[order] for name in ("country", "month")}
    clicks = np.array([row_of[row["page 2 (clothing model)"]] for row in rows])[order]
    starts = np.flatnonzero(np.diff(session[order], prepend=-1))
    offsets = np.append(starts, len(clicks))
    return catalogue, Sessions(clicks, offsets, column["country"][starts], column["month"][starts])


@dataclass
class Split:
    """Sessions by time: the first 80% train, the last eighth of these validates, the last 20% tests."""

    train: Sessions
    validation: Sessions
    test: Sessions
    known: Sessions  # train and validation: the baselines count these


def split(sessions: Sessions) -> Split:
    """The split that every number in the README is from."""
    known = int(len(sessions) * 0.8)
    train = known - known // 8
    return Split(sessions.part(0, train), sessions.part(train, known), sessions.part(known, len(sessions)),
                 sessions.part(0, known))
