"""A field's values as numbers: ids as rows of an embedding table, dense values as floats, several values as one set.

Row 0 stands for an unknown or missing value. Rows keep their places from one training to the next: new ids follow the
old ones.
"""
from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Union

import numpy as np

from dien.data.recipe import Field
from dien.model.vocabulary import Id, Vocabulary

MISSING = ("", None)
ID_TYPES = {str, int, type(None)}  # True and 1.0 would be found as 1
Fault = Callable[[int, str], ValueError]  # (place in the column, fault) to the error with file and line


class _Bad(ValueError):
    """A value that is none of its kind."""


class _Rows(dict[Any, int]):
    """Rows by the value as the file has it. A value that is not there yet becomes an id, and is kept under both."""

    def __init__(self, ids: "Ids"):
        super().__init__()
        self.ids = ids

    def __missing__(self, value: Any) -> int:
        row = self.ids.row(value)
        self[value] = row
        return row


class Ids:
    """The ids of one field, in the order of their rows from 1."""

    def __init__(self, kind: str, known: Optional[Sequence[Id]] = None):
        self.kind = kind
        self.ids: list[Id] = list(known or [])
        self.kept = len(self.ids)  # ids of an earlier training, which stay whatever their number
        self.frozen = False        # True: an id that is not there is unknown
        self.rows: dict[Id, int] = {each: row for row, each in enumerate(self.ids, 1)}
        self._cache = _Rows(self)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, value: Any) -> int:
        """The row of one value; a new id gets the next."""
        if value in MISSING:
            return 0
        found = self.rows.get(key := self._id(value))
        if found is None and not self.frozen:
            self.ids.append(key)
            found = self.rows[key] = len(self.ids)
        return found or 0

    def _id(self, value: Any) -> Id:
        if self.kind == "string":
            if isinstance(value, (list, dict, float, bool)):
                raise _Bad(f"{value!r} is not a string")
            text = str(value)
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise _Bad(f"{value!r} is not Unicode text") from error
            return text
        if type(value) not in (int, str):
            raise _Bad(f"{value!r} is not an integer")
        try:
            number = int(value)
        except ValueError as error:
            raise _Bad(f"{value!r} is not an integer") from error
        if not -2**63 <= number < 2**64:
            raise _Bad(f"{value} is beyond 64 bits")
        return number

    def encode(self, column: Sequence[Any], fault: Fault) -> np.ndarray:
        """The rows of a column, int32."""
        try:
            if not set(map(type, column)) <= ID_TYPES:
                raise _Bad
            return np.fromiter(map(self._cache.__getitem__, column), np.int32, len(column))
        except (_Bad, TypeError):
            pass
        for place, value in enumerate(column):
            try:
                self.row(value)
            except (_Bad, TypeError) as error:
                raise fault(place, str(error)) from error
        raise fault(0, "a value is no id")

    def drop_rare(self, counts: np.ndarray, least: int) -> np.ndarray:
        """Keep the new ids that `counts` (by row) has `least` times. Returns the new row of each old one."""
        keep = counts >= least
        keep[:self.kept + 1] = True
        renumbered = np.where(keep, np.cumsum(keep) - 1, 0).astype(np.int32)
        if not keep.all():
            self.ids = [each for each, stays in zip(self.ids, keep[1:]) if stays]
            self.rows = {each: row for row, each in enumerate(self.ids, 1)}
            self._cache.clear()
        return renumbered

    def vocabulary(self) -> Vocabulary:
        """The ids as a vocabulary, whose entry i has row 1 + i."""
        ids: Any = self.ids or ([""] if self.kind == "string" else [0])
        return Vocabulary.of_strings(ids) if self.kind == "string" else Vocabulary.of_integers(ids)

    def packed(self) -> dict[str, Any]:
        """The ids for a checkpoint, where a list of a million would be slow."""
        if self.kind == "integer":
            keys = np.array(self.ids, np.uint64 if any(int(each) >= 2**63 for each in self.ids) else np.int64)
            return {"kind": self.kind, "unsigned": keys.dtype == np.uint64, "keys": keys.view(np.int64)}
        encoded = [str(each).encode() for each in self.ids]
        return {"kind": self.kind, "lengths": np.array([len(each) for each in encoded], np.int64),
                "bytes": np.frombuffer(b"".join(encoded), np.uint8).copy()}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Ids":
        """The ids of a checkpoint."""
        if packed["kind"] == "integer":
            keys = np.asarray(packed["keys"])
            return cls("integer", (keys.view(np.uint64) if packed["unsigned"] else keys).tolist())
        data, ends = np.asarray(packed["bytes"]).tobytes(), np.cumsum(np.asarray(packed["lengths"])).tolist()
        return cls("string", [data[begin:end].decode() for begin, end in zip([0, *ends], ends)])


def numbers(column: Sequence[Any], fault: Fault) -> np.ndarray:
    """A column of numbers, float64; NaN where it is missing."""
    try:
        values = np.array([np.nan if value in MISSING else value for value in column]).astype(np.float64)
        if not np.isinf(values).any() and not any(type(value) is bool for value in column):
            return values
    except (ValueError, TypeError):
        pass
    for place, value in enumerate(column):
        try:
            if value not in MISSING and (type(value) is bool or not np.isfinite(float(value))):
                raise ValueError
        except (ValueError, TypeError) as error:
            raise fault(place, f"{value!r} is not a finite number") from error
    return np.array([np.nan if value in MISSING else float(value) for value in column])


class Values:
    """How one field's column becomes an array: int32 rows, or float32 numbers [N, width of the wire]."""

    def __init__(self, field: Field, state: Optional[dict[str, Any]] = None):
        state = state or {}
        self.field = field
        self.frozen = False
        self.ids = Ids.unpacked(state["ids"]) if "ids" in state else Ids("integer" if field.kind == "integer" else "string")
        self.edges = np.asarray(state.get("edges", []), np.float64)
        self.scale = np.asarray(state.get("scale", []), np.float64)
        self.sets: list[tuple[int, ...]] = [()]           # kind multi: each set of rows that was met
        self._of_set: dict[tuple[int, ...], int] = {(): 0}
        self._of_text: dict[Any, int] = {}

    def freeze(self) -> None:
        """Ids that are not there yet are unknown from now on."""
        self.frozen = self.ids.frozen = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        kind = self.field.kind
        if kind == "bands":
            return {"edges": self.edges}
        return {"scale": self.scale} if kind == "dense" else {"ids": self.ids.packed()}

    @property
    def is_dense(self) -> bool:
        """Its values are numbers on the wire."""
        return self.field.kind in ("dense", "multi")

    @property
    def rows(self) -> int:
        """Rows of its table, the unknown one included."""
        return len(self.edges) + 2 if self.field.kind == "bands" else len(self.ids) + 1

    @property
    def numbers(self) -> int:
        """The numbers of a value on the wire, for a dense or multi-valued field."""
        return len(self.field.columns) if self.field.kind == "dense" else max(1, len(self.ids))

    def raw(self, columns: list[Sequence[Any]], fault: Fault) -> np.ndarray:
        """Values to store while the file is read: int32 [N], or float32 [N, columns] with NaN for missing ones."""
        kind = self.field.kind
        if kind in ("string", "integer"):
            return self.ids.encode(columns[0], fault)
        if kind == "multi":
            return self._encode_sets(columns[0], fault)
        return np.stack([numbers(column, fault) for column in columns], 1).astype(np.float32)

    def _encode_sets(self, column: Sequence[Any], fault: Fault) -> np.ndarray:
        places = np.empty(len(column), np.int32)
        for place, value in enumerate(column):
            key = tuple(value) if isinstance(value, list) else value
            if key not in self._of_text:
                parts = [] if key in MISSING else (list(key) if isinstance(key, tuple) else str(key).split(self.field.split))
                try:
                    rows = tuple(sorted({self.ids.row(part) for part in parts if part not in MISSING} - {0}))
                except _Bad as error:
                    raise fault(place, str(error)) from error
                if rows not in self._of_set:
                    self._of_set[rows] = len(self.sets)
                    self.sets.append(rows)
                self._of_text[key] = self._of_set[rows]
            places[place] = self._of_text[key]
        return places

    def empty(self, count: int) -> np.ndarray:
        """`count` missing values in the form of raw()."""
        if self.field.kind in ("dense", "bands"):
            return np.full((count, len(self.field.columns)), np.nan, np.float32)
        return np.zeros(count, np.int32)

    def learn(self, raw: np.ndarray) -> None:
        """Take the edges of bands or the scale of numbers from raw values, unless a checkpoint gave them."""
        if self.field.kind == "bands" and not len(self.edges):
            known = raw[~np.isnan(raw)]
            inner = np.linspace(0, 1, self.field.bands + 1)[1:-1]
            self.edges = np.unique(np.quantile(known, inner)) if len(known) else np.zeros(0)
        if self.field.kind == "dense" and not len(self.scale):
            with np.errstate(all="ignore"):
                scale = np.sqrt(np.nanmean(np.square(raw, dtype=np.float64), 0)) if len(raw) else np.ones(raw.shape[1])
            self.scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)

    def set_matrix(self) -> np.ndarray:
        """[sets, numbers]: each set as numbers, pooled: 1 for each of its values, or 1/n."""
        matrix = np.zeros((len(self.sets), self.numbers), np.float32)
        for place, rows in enumerate(self.sets):
            if rows:
                matrix[place, np.array(rows) - 1] = 1 if self.field.pool == "sum" else 1 / len(rows)
        return matrix

    def finished(self, raw: np.ndarray) -> np.ndarray:
        """Raw values as the network reads them: int32 rows, or float32 numbers divided by their scale. Sets stay places
        of set_matrix()."""
        if self.field.kind == "bands":
            filled = np.nan_to_num(raw[:, 0])
            return np.where(np.isnan(raw[:, 0]), 0, 1 + np.searchsorted(self.edges, filled, "right")).astype(np.int32)
        if self.field.kind == "dense":
            return (np.nan_to_num(raw) / self.scale).astype(np.float32)
        return raw


def merge_known(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Raw attributes of a checkpoint over which those of today are laid; a missing one of today changes nothing."""
    known = ~np.isnan(new).any(1) if new.ndim == 2 else new != 0
    merged = new.copy()
    count = min(len(old), len(new))
    keep = ~known[:count]
    merged[:count][keep] = old[:count][keep]
    return merged


Array = Union[np.ndarray, np.memmap]
