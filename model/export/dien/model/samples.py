"""Random requests for a model: for samples.json, and to compare a server with PyTorch.

Ids are drawn from the vocabularies, so no request repeats anyone's session. One id in eight is unknown to the model;
histories are empty, short, of max_length and beyond; an attribute may be left out, as FORMAT.md allows.
"""
from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from dien.model.config import Config, field_of, group
from dien.model.vocabulary import Vocabulary
from dien.model.wire import EXACT

UNKNOWN = 0.125
CANDIDATE_COUNTS = (1, 2, 5, 16, 17, 40)
PAIRS_MAX = 80_000   # behaviours times candidates of one request: so many take a second in float64
ORDINARY_MAX = 1000  # behaviours, where no limit is meant to be met


class RequestMaker:
    """Draws requests for one model."""

    def __init__(self, config: Config, vocabularies: Mapping[str, Vocabulary], random: np.random.Generator):
        self.config = config
        self.vocabularies = vocabularies
        self.random = random

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def value(self, name: str) -> Any:
        """A value of a field as a client sends it."""
        field = field_of(self.config, name)
        if field["kind"] == "dense":
            values = np.round(self.random.normal(0, 1, field.get("width", 1)), 3).tolist()
            return values if len(values) > 1 else values[0]
        if "pool" in field:
            ids = [self.id(field) for _ in range(int(self.random.integers(field["values"] + 1)))]
            large = any(isinstance(each, int) and abs(each) >= EXACT for each in ids)
            return list(map(str, ids)) if large else ids
        return self.id(field)

    def id(self, field: Config) -> Any:
        """An id of a categorical field."""
        unknown = self.chance(UNKNOWN)
        if field["ids"] == "index":
            rows = self.config["tables"][field["table"]]["rows"]
            return int(self.random.integers(rows, 2**40)) if unknown else int(self.random.integers(rows))
        vocabulary = self.vocabularies[field["vocabulary"]]
        if not unknown:
            return vocabulary.entry(int(self.random.integers(vocabulary.entries)))
        drawn = int(self.random.integers(2**62))
        return f"unknown {drawn}" if vocabulary.strings else drawn

    def columns(self, names: list[str], count: int) -> dict[str, list[Any]]:
        """Columns of these fields; an attribute whose parent is there may be left out."""
        sent = [name for name in names
                if field_of(self.config, name).get("attribute_of") not in names or self.chance(0.5)]
        return {name: [self.value(name) for _ in range(count)] for name in sent}

    def rows(self, columns: dict[str, list[Any]], count: int) -> list[dict[str, Any]]:
        """These fields as rows; a row may lack an attribute that another has."""
        return [{name: column[i] for name, column in columns.items()
                 if "attribute_of" not in field_of(self.config, name) or self.chance(0.8)} for i in range(count)]

    def history(self, length: int) -> Any:
        """A history of this length; interests that read other fields than the first have lengths of their own."""
        columns: dict[str, list[Any]] = {}
        counts: dict[str, int] = {}
        for interest in self.config["interests"]:
            names = [name for name in interest["history"] if name not in counts]
            count = length if not counts else int(self.random.integers(0, interest["max_length"] + 3))
            columns.update(self.columns(names, count))
            counts.update(dict.fromkeys(names, count))
        if len(set(counts.values())) == 1 and self.chance(0.4):
            return self.rows(columns, length)
        return columns

    def request(self, length: int, count: int) -> dict[str, Any]:
        """A request with `length` behaviours and `count` candidates."""
        request: dict[str, Any] = {kind: {name: self.value(name) for name in group(self.config, kind)}
                                   for kind in ("user", "context") if group(self.config, kind)}
        request["history"] = self.history(length)
        columns = self.columns(group(self.config, "candidate"), count)
        request["candidates"] = self.rows(columns, count) if self.chance(0.4) else columns
        return request

    def requests(self, count: int) -> list[dict[str, Any]]:
        """`count` requests; the first seven have histories of every interesting length."""
        longest = self.config["interests"][0]["max_length"]
        lengths = [0, 1, 2, longest, longest + 1, longest + 7]
        lengths += self.random.integers(0, min(longest, ORDINARY_MAX) + 1, max(0, count - len(lengths))).tolist()
        return [self.request(length, min(int(self.random.choice(CANDIDATE_COUNTS)), max(1, PAIRS_MAX // max(length, 1))))
                for length in lengths[:count]]
