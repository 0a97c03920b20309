"""Turns requests as clients send them into table rows and numbers, and refuses those that the server refuses.

The words and the JSON pointer of each refusal are the server's (proto/json_decode.c, server/scoring/resolve.c), so that a
request which a tool takes is one that can be served. tests/support/bad_requests.py holds both to one table of cases. The
server's limits on lengths are flags of the server, and are not known here.
"""
from __future__ import annotations

import math
from typing import Any, Mapping, NoReturn, Optional, Sequence, Union

import numpy as np
import torch

from dien.model.config import Config, field_of, group
from dien.model.network import Batch
from dien.model.vocabulary import Vocabulary

Request = Mapping[str, Any]
ABSENT = None  # a value that is left out: JSON's null
FIELDS_MAX = 256
EXACT = 2.0 ** 53
GROUPS = {"history": "behaviour", "user": "user", "context": "context", "candidates": "candidate"}  # in the server's order
TIMEOUT_MAX = 86_400_000
USER_ID = "A user id is UTF-8 without U+0000: 1 to 256 characters of ASCII, or up to 100 of any kind."


class RequestError(ValueError):
    """A request that the server would refuse: its detail, and the JSON pointer to the place."""

    def __init__(self, detail: str, *places: Union[str, int]):
        self.detail = detail
        self.pointer = "".join(f"/{str(place).replace('~', '~0').replace('/', '~1')}" for place in places)
        super().__init__(f"{self.pointer}: {detail}" if places else detail)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(value: Any) -> Optional[int]:
    """A number as the integer of 64 bits that it is: 29, 29.0; or None."""
    if not _is_number(value) or (isinstance(value, float) and not (abs(value) < EXACT and value == math.trunc(value))):
        return None
    return int(value) if -2 ** 63 <= value < 2 ** 64 else None


def _decimal(value: Any) -> Optional[int]:
    """An integer as text: no plus, no leading zero, at most 64 bits."""
    if not isinstance(value, str):
        return None
    digits = value[1:] if value.startswith("-") else value
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and len(value) > 1):
        return None
    return int(value) if -2 ** 63 <= int(value) < 2 ** 64 else None


class _Table:
    """One group of a request in columns."""

    def __init__(self, name: str, rows: bool = False):
        self.name, self.is_rows, self.present = name, rows, False
        self.count = 0
        self.columns: dict[str, list[Any]] = {}

    def place(self, field: str, i: int) -> Sequence[Union[str, int]]:
        """Where value i of a field was sent."""
        if self.is_rows:
            return [self.name, i, field]
        return [self.name, field, i] if self.name in ("history", "candidates") else [self.name, field]

    @classmethod
    def of_singles(cls, name: str, node: Any) -> "_Table":
        """{"country": 29}"""
        if not isinstance(node, dict):
            raise RequestError("This must be an object of fields, each with one value.", name)
        table = cls(name)
        table._check_width(len(node))
        table.columns = {field: [value] for field, value in node.items() if value is not None}
        table.count = 1 if table.columns else 0
        table.present = True
        return table

    @classmethod
    def of_either(cls, name: str, node: Any) -> "_Table":
        """{"item": ["A13"]} or [{"item": "A13"}]"""
        if isinstance(node, Mapping):
            return cls._of_columns(name, node)
        if isinstance(node, list):
            return cls._of_rows(name, node)
        raise RequestError("This must be an object of columns or an array of row objects.", name)

    @classmethod
    def _of_columns(cls, name: str, node: Mapping[str, Any]) -> "_Table":
        table = cls(name)
        table._check_width(len(node))
        for field, values in node.items():
            if values is None:
                continue
            if not isinstance(values, (list, tuple)):
                raise RequestError("A column must be an array.", name, field)
            table.columns[field] = list(values)
        table.count = max(map(len, table.columns.values()), default=0)
        table.present = True
        return table

    @classmethod
    def _of_rows(cls, name: str, node: list[Any]) -> "_Table":
        table = cls(name, rows=True)
        names: dict[str, None] = {}
        for i, row in enumerate(node):
            if not isinstance(row, Mapping):
                raise RequestError("A row must be an object.", name, i)
            names.update((field, None) for field, value in row.items() if value is not None)
            table._check_width(len(names))
        table.columns = {field: [row.get(field) for row in node] for field in names}
        table.count, table.present = len(node), True
        return table

    def _check_width(self, width: int) -> None:
        if width > FIELDS_MAX:
            raise RequestError(f"A group may have at most {FIELDS_MAX} fields.", self.name)


def _candidates(node: Any) -> _Table:
    table = _Table.of_either("candidates", node)
    if table.count == 0 or not table.columns:
        raise RequestError("A request needs at least one candidate.", "candidates")
    return table


def _user_id(node: Any) -> None:
    if not isinstance(node, str):
        raise RequestError("The user_id must be a string.", "user_id")
    widest = max((len(character.encode("utf-8", "replace")) for character in node), default=0)
    if not 1 <= len(node) <= 256 or "\0" in node or len(node) * widest > 400:
        raise RequestError(USER_ID, "user_id")


def _held(name: str) -> NoReturn:
    raise RequestError("A history that the server holds is not known here: give the history itself.", name)


def _member(name: str, node: Any) -> Optional[_Table]:
    """One member of a request; a group of fields is returned."""
    if name in ("user", "context"):
        return _Table.of_singles(name, node)
    if name == "history":
        return _Table.of_either(name, node)
    if name == "candidates":
        return _candidates(node)
    if name == "user_id":
        _user_id(node)
    elif name in ("history_token", "history_append"):
        _held(name)
    elif name in ("explain", "partial"):
        if not isinstance(node, bool):
            raise RequestError("This must be true or false.", name)
    elif name in ("top_k", "timeout_ms"):
        most = 2 ** 63 - 1 if name == "top_k" else TIMEOUT_MAX
        value = _integer(node)
        if value is None or not 1 <= value <= most:
            raise RequestError(f"This must be an integer from 1 to {most}.", name)
    else:
        raise RequestError("A request has no such member.", name)
    return None


def tables_of(request: Any) -> dict[str, _Table]:
    """The groups of a request. `scores`, which a sample has besides, is the caller's."""
    if not isinstance(request, Mapping):
        raise RequestError("A request must be an object.")
    known = ("user_id", "user", "context", "history", "history_token", "history_append", "candidates", "top_k", "explain",
             "timeout_ms", "partial")
    tables = {name: _Table(name) for name in GROUPS}
    for name, node in request.items():
        if name == "scores":
            continue
        if name not in known:
            raise RequestError("A request has no such member.", name)
        table = _member(name, node) if node is not None else None
        if table is not None:
            tables[name] = table
    if not tables["candidates"].present:
        raise RequestError("A request must have candidates.", "candidates")
    if request.get("user_id") is not None and not tables["history"].present:
        _held("user_id")
    return tables


class Wire:
    """How one model reads requests."""

    def __init__(self, config: Config, vocabularies: Mapping[str, Vocabulary], attributes: Mapping[str, np.ndarray]):
        self.config = config
        self.vocabularies = vocabularies
        self.attributes = attributes

    def row(self, field: Config, value: Any, *places: Union[str, int]) -> int:
        """The table row of an id."""
        def refuse(rule: str) -> NoReturn:
            raise RequestError(f'The field "{field["name"]}" must be {rule}.', *places)

        first, is_index = field.get("first_row", 0), field["ids"] == "index"
        place: Optional[int]
        if not is_index and self.vocabularies[field["vocabulary"]].strings:
            if not isinstance(value, str) or "\0" in value:
                refuse("a string without U+0000")
            place = self.vocabularies[field["vocabulary"]].find(value)
        else:
            integer = _integer(value)
            integer = _decimal(value) if integer is None else integer
            if integer is None:
                refuse("an integer that is not negative, of at most 64 bits" if is_index
                       else "an integer from -2^63 to 2^64 - 1")
            if is_index and integer < 0:
                refuse("an integer that is not negative")
            place = integer if is_index else self.vocabularies[field["vocabulary"]].find(integer)
        if place is None or first + place >= self.config["tables"][field["table"]]["rows"]:
            return field["unknown_row"]
        return first + place

    def _several(self, field: Config, value: Any, places: Sequence[Union[str, int]]) -> list[int]:
        """The rows of a multi-valued field's ids, then -1 to the end."""
        most, is_text = field["values"], field["ids"] != "index" and self.vocabularies[field["vocabulary"]].strings
        kind = "strings without U+0000" if is_text else "integers, as numbers below 2^53 or as strings"
        refusal = RequestError(f'The field "{field["name"]}" must be an array of at most {most} {kind}.', *places)
        if not isinstance(value, (list, tuple)) or len(value) > most:
            raise refusal
        if not all(isinstance(each, str) and "\0" not in each for each in value) and not all(
                _is_number(each) and abs(_nearest(each)) < EXACT for each in value):
            raise refusal
        try:
            return [self.row(field, each, *places) for each in value] + [-1] * (most - len(value))
        except RequestError:
            raise refusal from None

    def _numbers(self, field: Config, value: Any, places: Sequence[Union[str, int]]) -> list[float]:
        width = field.get("width", 1)
        if width == 1:
            if not _is_number(value):
                raise RequestError(f'The field "{field["name"]}" must be a number.', *places)
            value = [value]
        elif not isinstance(value, (list, tuple)) or len(value) != width or not all(map(_is_number, value)):
            raise RequestError(f'The field "{field["name"]}" must be an array of {width} numbers.', *places)
        with np.errstate(over="ignore"):
            numbers = [np.float32(_nearest(each)) for each in value]  # the wire's numbers are float32
        if not np.isfinite(numbers).all():
            raise RequestError(f'The field "{field["name"]}" must be in the range of a 32-bit float.', *places)
        return numbers

    def _column(self, table: _Table, name: str) -> torch.Tensor:
        """One field's values: [count] rows, [count, values] rows, or [count, width] numbers. Its parent gives those left out."""
        field, count = field_of(self.config, name), self._count(table, name)
        sent = table.columns.get(name, [ABSENT] * count)
        filled: Optional[np.ndarray] = None
        read: list[Any] = []
        for i, value in enumerate(sent):
            places = table.place(name, i)
            if value is ABSENT:
                if "attribute_of" not in field:
                    raise RequestError(f'The field "{name}" must be given.', *places)
                if filled is None:
                    filled = self.attributes[name][self._column(table, field["attribute_of"]).numpy()]
                read.append(filled[i])
            elif "pool" in field:
                read.append(self._several(field, value, places))
            elif field["kind"] == "categorical":
                read.append(self.row(field, value, *places))
            else:
                read.append(self._numbers(field, value, places))
        if "pool" in field:
            return torch.tensor(np.array(read, np.int64).reshape(count, field["values"]))
        if field["kind"] == "categorical":
            return torch.tensor(np.array(read, np.int64))
        return torch.tensor(np.array(read, np.float32).reshape(count, field.get("width", 1)))

    def _count(self, table: _Table, name: str) -> int:
        """How many values the column of a field has: as many as were sent, or as its parent."""
        sent = table.columns.get(name)
        if sent is None:
            sent = table.columns.get(field_of(self.config, name).get("attribute_of", ""))
        return len(sent) if sent is not None else 0

    def _check_lengths(self, table: _Table, names: Sequence[str]) -> None:
        for name in names[1:]:
            length, expected = self._count(table, name), self._count(table, names[0])
            if length != expected:
                raise RequestError(f'The column "{name}" has {length} values, "{names[0]}" has {expected}; they must have the '
                                   "same number.", table.name, name)

    def _columns(self, table: _Table) -> dict[str, torch.Tensor]:
        """All columns of a group, checked in the server's order."""
        names = group(self.config, GROUPS[table.name])
        for sent, values in table.columns.items():
            if sent not in names:
                row = next((i for i, value in enumerate(values) if value is not ABSENT), 0)
                raise RequestError(f'The model has no {table.name} field "{sent}".',
                                   *(table.place(sent, row) if table.is_rows else [table.name, sent]))
        if table.name != "history" or table.count > 0 or table.columns:
            for name in names:
                if "attribute_of" not in field_of(self.config, name) and name not in table.columns:
                    raise RequestError(f'"{table.name}" lacks the field "{name}".', *([table.name] if table.present else []))
        if table.name == "history":
            for interest in self.config["interests"]:
                self._check_lengths(table, interest["history"])
        else:
            self._check_lengths(table, names)
            if table.name != "candidates" and names and self._count(table, names[0]) != 1:
                raise RequestError(f'The field "{names[0]}" must be one value.', *table.place(names[0], 0))
        parents = [name for name in names if "attribute_of" not in field_of(self.config, name)]
        columns = {name: self._column(table, name) for name in [*parents, *(each for each in names if each not in parents)]}
        return {name: columns[name] for name in names}

    def batch(self, request: Request) -> Batch:
        """One request as a batch of one user. RequestError if the server would refuse it."""
        tables = tables_of(request)
        columns = {name: self._columns(tables[name]) for name in GROUPS}
        history, lengths = {}, {}
        for interest in self.config["interests"]:
            name, count = interest["name"], len(columns["history"][interest["history"][0]])
            kept = slice(0, interest["max_length"])
            if interest["keep"] == "last":
                kept = slice(max(0, count - interest["max_length"]), count)
            history[name] = {field: columns["history"][field][kept].unsqueeze(0) for field in interest["history"]}
            lengths[name] = torch.tensor([min(count, interest["max_length"])])
        return Batch(columns["user"], columns["context"], history, lengths,
                     {name: column.unsqueeze(0) for name, column in columns["candidates"].items()})


def _nearest(number: Union[int, float]) -> float:
    """The nearest double; infinite beyond its range."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
