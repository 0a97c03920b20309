"""Turns requests as clients send them into table rows and numbers.

The module covers ids, unknown ids, attributes, and lists in the form of columns or of rows. The requests come from our
own tools, so a fault is a plain ValueError that names the field.
"""
from __future__ import annotations

from typing import Any, Mapping, Sequence, Union

import numpy as np
import torch

from dien.model.config import Config, field_of, group
from dien.model.network import Batch
from dien.model.vocabulary import Id, Vocabulary

Request = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
ABSENT = object()  # a row of the row form that leaves an attribute out


def columns_of(table: Union[Columns, Sequence[Mapping[str, Any]]]) -> dict[str, list[Any]]:
    """History or candidates in either form as columns."""
    if isinstance(table, Mapping):
        return {name: list(column) for name, column in table.items()}
    names = dict.fromkeys(name for row in table for name in row)
    return {name: [row.get(name, ABSENT) for row in table] for name in names}


class Wire:
    """How one model reads requests."""

    def __init__(self, config: Config, vocabularies: Mapping[str, Vocabulary], attributes: Mapping[str, np.ndarray]):
        self.config = config
        self.vocabularies = vocabularies
        self.attributes = attributes

    def row(self, field: Config, value: Id) -> int:
        """The table row of an id."""
        first, place = field.get("first_row", 0), None
        if field["ids"] == "index":
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"field {field['name']}: {value!r} is not an index")
            place = value
        else:
            vocabulary = self.vocabularies[field["vocabulary"]]
            if not isinstance(value, str if vocabulary.strings else int):
                raise ValueError(f"field {field['name']}: {value!r} is of the wrong type")
            place = vocabulary.find(value)
        if place is None or first + place >= self.config["tables"][field["table"]]["rows"]:
            return field["unknown_row"]
        return first + place

    def _value(self, field: Config, value: Any) -> Any:
        if field["kind"] == "categorical":
            return self.row(field, value)
        values = [value] if field.get("width", 1) == 1 else value
        if len(values) != field.get("width", 1):
            raise ValueError(f"field {field['name']}: {value!r} is not {field.get('width', 1)} numbers")
        return np.asarray(values, np.float32)  # the wire's numbers are float32

    def column(self, name: str, given: Columns, count: int) -> torch.Tensor:
        """One field's values: [count] rows or [count, width] numbers. The parent gives the values left out."""
        field = field_of(self.config, name)
        values = given.get(name, [ABSENT] * count)
        if len(values) != count:
            raise ValueError(f"field {name}: {len(values)} values where {count} belong")
        if any(value is ABSENT for value in values):
            if "attribute_of" not in field:
                raise ValueError(f"field {name} is missing")
            parents = self.column(field["attribute_of"], given, count)
            filled = self.attributes[name][parents.numpy()]
        read = [filled[i] if value is ABSENT else self._value(field, value) for i, value in enumerate(values)]
        if field["kind"] == "categorical":
            return torch.tensor(np.array(read, np.int64))
        return torch.tensor(np.array(read, np.float32).reshape(count, field.get("width", 1)))

    def _single(self, kind: str, request: Request) -> dict[str, torch.Tensor]:
        given = {name: [value] for name, value in (request.get(kind) or {}).items()}
        return {name: self.column(name, given, 1) for name in group(self.config, kind)}

    def _history(self, interest: Config, given: Columns) -> dict[str, torch.Tensor]:
        """The kept end of the columns that one interest reads, as a batch of one."""
        count = max((len(given[name]) for name in self._closure(interest) if name in given), default=0)
        kept = slice(0, interest["max_length"])
        if interest["keep"] == "last":
            kept = slice(max(0, count - interest["max_length"]), count)
        return {name: self.column(name, given, count)[kept].unsqueeze(0) for name in interest["history"]}

    def _closure(self, interest: Config) -> list[str]:
        """The interest's fields and their parents."""
        fields = [field_of(self.config, name) for name in interest["history"]]
        parents = [field["attribute_of"] for field in fields if "attribute_of" in field]
        return [field["name"] for field in fields] + parents

    def batch(self, request: Request) -> Batch:
        """One request as a batch of one user."""
        candidates = columns_of(request["candidates"])
        count = max(map(len, candidates.values()))
        given = columns_of(request.get("history") or {})
        history = {interest["name"]: self._history(interest, given) for interest in self.config["interests"]}
        return Batch(
            self._single("user", request), self._single("context", request), history,
            {name: torch.tensor([next(iter(columns.values())).shape[1]]) for name, columns in history.items()},
            {name: self.column(name, candidates, count).unsqueeze(0) for name in group(self.config, "candidate")})
