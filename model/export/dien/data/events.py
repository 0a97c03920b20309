"""The events of a recipe's files, encoded and ordered by user and time, and the attributes of its items.

The files are read once, a piece at a time. Encoded rows go to 16 files in a temporary folder, by the hash of the user; each
is sorted alone and mapped. So memory holds the vocabularies and a sixteenth of the encoded rows, not the files.
"""
from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np

from dien.data import tables
from dien.data.columns import MISSING, Fault, Values, merge_known, numbers
from dien.data.recipe import Recipe
from dien.model.vocabulary import hash_strings

PARTITIONS = 16
DATE_PARTS = 6  # year, month, day, hour, minute, second
Progress = Callable[[int], None]  # told the number of rows of each piece


@dataclass
class Events:
    """N events ordered by history (a session, or else a user), then time, then line."""

    offsets: np.ndarray            # [histories + 1]
    user: np.ndarray               # [N] uint64, the user's hash; the session's where there is no user
    item: np.ndarray               # [N] int32, rows of the item table
    time: np.ndarray               # [N] float64
    line: np.ndarray               # [N] int64: place of the file times LINES_MAX, plus the line
    kind: np.ndarray               # [N] int16, place in `kinds`
    label: np.ndarray              # [N] float32; 1 for every click
    columns: dict[str, np.ndarray]  # by field that an event has of its own
    kinds: list[str]
    files: list[str]
    folder: Optional[tempfile.TemporaryDirectory[str]] = None

    def __len__(self) -> int:
        return len(self.item)

    def place(self, event: int) -> str:
        """The file and line of an event."""
        file, line = divmod(int(self.line[event]), tables.LINES_MAX)
        return f"{self.files[file]}:{line}"


@dataclass
class Dataset:
    """The events, and by field how its values are encoded and, for the items', the value of each row."""

    recipe: Recipe
    values: dict[str, Values]
    attributes: dict[str, np.ndarray]  # raw, [item rows]
    events: Events
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)  # fault: number of rows, the first of them
    described: Optional[np.ndarray] = None  # [item rows]: in the table of items

    def attribute(self, name: str) -> np.ndarray:
        """An attribute as the network reads it, by item row; row 0, the unknown item, has none."""
        finished = self.values[name].finished(self.attributes[name])
        return self.values[name].set_matrix()[finished] if self.values[name].field.kind == "multi" else finished


def hashes_of(column: Sequence[Any]) -> np.ndarray:
    """A 64-bit hash of each value's text."""
    texts = [str(value).encode() for value in column]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return hash_strings(np.frombuffer(b"".join(texts), np.uint8), offsets)


def _seconds(text: Any) -> float:
    """A date or time of ISO 8601 as seconds since 1970; without a zone it is UTC."""
    when = datetime.fromisoformat(str(text).strip())
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def times(columns: list[Sequence[Any]], fault: Fault) -> np.ndarray:
    """Times as numbers: a column of numbers, of ISO 8601, or columns of year, month, day, hour, minute, second."""
    if len(columns) > 1:
        parts = [numbers(column, fault).astype(np.int64) for column in columns]
        day = parts[2] - 1 if len(parts) > 2 else 0
        month = parts[1] - 1 if len(parts) > 1 else 0
        date = ((parts[0] - 1970).astype("M8[Y]").astype("M8[M]") + month).astype("M8[D]") + day
        seconds = date.astype("M8[s]").astype(np.float64)
        for part, unit in zip(parts[3:], (3600, 60, 1)):
            seconds += part * unit
        return seconds
    column = columns[0]
    first = next((value for value in column if value not in MISSING), None)
    if _is_number(first):
        read = numbers(column, fault)
    else:
        known: dict[Any, float] = {}
        read = np.empty(len(column))
        for place, value in enumerate(column):
            if value not in known:
                try:
                    known[value] = _seconds(value)
                except ValueError as error:
                    raise fault(place, f"{value!r} is neither a number nor a time such as 2026-11-27T12:00:00") from error
            read[place] = known[value]
    if np.isnan(read).any():
        raise fault(int(np.flatnonzero(np.isnan(read))[0]), "the time is missing")
    return read


def read(recipe: Recipe, state: Optional[dict[str, Any]] = None, frozen: bool = False,
         progress: Progress = lambda rows: None) -> Dataset:
    """Read a recipe's files. `state` holds the fields of a checkpoint: ids keep their rows; with `frozen`, others are
    unknown."""
    return _Reading(recipe, state or {}, frozen, progress).read()


class _Reading:
    """One pass over the files."""

    def __init__(self, recipe: Recipe, state: dict[str, Any], frozen: bool, progress: Progress):
        self.recipe, self.data, self.progress = recipe, recipe["data"], progress
        self.values = {each.name: Values(each, state.get("values", {}).get(each.name)) for each in recipe.fields}
        if frozen:
            for values in self.values.values():
                values.freeze()
        self.state = state
        self.attribute_fields = recipe.group("attribute")
        self.own_fields = [each for each in recipe.fields if each.group not in ("item", "attribute")]
        self.kinds: dict[str, int] = {}
        self.attributes = {each.name: self.values[each.name].empty(1) for each in self.attribute_fields}
        self.described = np.zeros(1, bool)
        self.skipped: dict[str, tuple[int, str]] = {}

    def read(self) -> Dataset:
        """The whole pass."""
        if self.recipe.item_files:
            self._read_items()
        folder = tempfile.TemporaryDirectory(prefix="dien-events-")
        events = self._order(folder, self._spill(folder.name))
        if not len(events):
            raise ValueError(f"{', '.join(self.recipe.files)}: no events")
        self._finish(events)
        return Dataset(self.recipe, self.values, self.attributes, events, self.skipped,
                       self.described if self.recipe.item_files else None)

    def _put_attributes(self, rows: np.ndarray, raw: dict[str, np.ndarray]) -> None:
        """Lay raw values over those of the items' rows; missing ones change nothing, and of several the last one stays."""
        count = len(self.values[self.recipe.item.name].ids) + 1
        for name, values in raw.items():
            held = self.attributes[name]
            if len(held) < count:
                more = self.values[name].empty(max(count, 2 * len(held)) - len(held))
                held = self.attributes[name] = np.concatenate([held, more])
            known = ~np.isnan(values).any(1) if values.ndim == 2 else values != 0
            known &= rows != 0
            held[rows[known]] = values[known]

    def _read_items(self) -> None:
        """The table of items."""
        options, item = self.recipe["items"], self.recipe.item
        key = options["id"] or item.columns[0]
        names = [key, *(column for each in self.attribute_fields for column in each.columns)]
        for path in self.recipe.item_files:
            for piece in tables.pieces(path, names, options["format"], options["separator"]):
                rows = self.values[item.name].ids.encode(piece.columns[key], piece.error)
                raw = {each.name: self.values[each.name].raw([piece.columns[column] for column in each.columns], piece.error)
                       for each in self.attribute_fields}
                self._put_attributes(rows, raw)
                described = np.zeros(len(self.values[item.name].ids) + 1, bool)
                described[:len(self.described)] = self.described
                described[rows] = True
                self.described = described
        self.described[0] = False

    def _names(self) -> list[str]:
        """The columns of the events' files."""
        data = self.data
        fields = self.own_fields + ([] if self.recipe.item_files else self.attribute_fields)
        time = [data["time"]] if isinstance(data["time"], str) else data["time"]
        return [name for name in (data["user"], data["session"], data["item"], *time, data["order"], data["event"], data["label"],
                                  *(column for each in fields for column in each.columns)) if name]

    def _pieces(self) -> Iterator[tuple[int, tables.Piece]]:
        for place, path in enumerate(self.recipe.files):
            for piece in tables.pieces(path, self._names(), self.data["format"], self.data["separator"]):
                yield place, piece

    def _dtype(self) -> np.dtype:
        fields: list[Any] = [("history", "u8"), ("user", "u8"), ("time", "f8"), ("order", "f8"), ("line", "i8"), ("item", "i4"),
                             ("kind", "i2"), ("label", "f4")]
        for each in self.own_fields:
            empty = self.values[each.name].empty(1)
            fields.append((f"field {each.name}", empty.dtype, empty.shape[1:]))
        return np.dtype(fields)

    def _spill(self, folder: str) -> list[str]:
        """Encode each piece, and append its rows to the file of their history's partition."""
        paths = [os.path.join(folder, f"part-{part}") for part in range(PARTITIONS)]
        files = [open(path, "wb") for path in paths]
        try:
            for place, piece in self._pieces():
                records = self._encode(place, piece)
                part = (records["history"] % PARTITIONS).astype(np.int64)
                order = np.argsort(part, kind="stable")
                bounds = np.searchsorted(part[order], np.arange(PARTITIONS + 1))
                for index, file in enumerate(files):
                    records[order[bounds[index]:bounds[index + 1]]].tofile(file)
                self.progress(len(piece.lines))
        finally:
            for file in files:
                file.close()
        return paths

    def _skip(self, piece: tables.Piece, bad: np.ndarray, fault: str) -> None:
        count, first = self.skipped.get(fault, (0, f"{piece.path}:{piece.lines[np.flatnonzero(bad)[0]]}"))
        self.skipped[fault] = (count + int(bad.sum()), first)

    def _whole(self, piece: tables.Piece) -> tables.Piece:
        """The piece without rows that lack their user or item, if the recipe lets them be skipped."""
        for role in ("user", "session", "item"):
            if not (name := self.data[role]):
                continue
            bad = np.array([value in MISSING for value in piece.columns[name]], bool)
            if bad.any():
                if self.data["bad_rows"] == "refuse":
                    raise piece.error(int(np.flatnonzero(bad)[0]), f"the {role} is missing in column {name!r}; "
                                      "bad_rows = \"skip\" leaves such rows out")
                self._skip(piece, bad, f"without {role}")
                good = np.flatnonzero(~bad)
                piece = tables.Piece(piece.path, piece.lines[good],
                                     {key: [column[i] for i in good] for key, column in piece.columns.items()})
        return piece

    def _encode(self, place: int, piece: tables.Piece) -> np.ndarray:
        """The records of one piece."""
        piece = self._whole(piece)
        data, columns = self.data, piece.columns
        records = np.zeros(len(piece.lines), self._dtype())
        if not len(records):
            return records
        records["line"] = place * tables.LINES_MAX + piece.lines
        keys = {role: hashes_of(columns[data[role]]) for role in ("user", "session") if data[role]}
        records["user"] = keys.get("user", keys.get("session", 0))
        records["history"] = keys.get("session", keys.get("user", 0))
        time = [data["time"]] if isinstance(data["time"], str) else data["time"]
        records["time"] = times([columns[name] for name in time], piece.error) if data["time"] else records["line"]
        if data["order"]:
            records["order"] = numbers(columns[data["order"]], piece.error)
        records["item"] = self.values[self.recipe.item.name].ids.encode(columns[data["item"]], piece.error)
        records["label"] = 1
        if data["label"]:
            labels = numbers(columns[data["label"]], piece.error)
            if np.isnan(labels).any():
                raise piece.error(int(np.flatnonzero(np.isnan(labels))[0]), f"the label is missing in column {data['label']!r}")
            records["label"] = labels >= data["label_from"]
        if data["event"]:
            records["kind"] = [self.kinds.setdefault(str(value), len(self.kinds)) for value in columns[data["event"]]]
        for each in self.own_fields:
            records[f"field {each.name}"] = self.values[each.name].raw([columns[name] for name in each.columns], piece.error)
        if not self.recipe.item_files and self.attribute_fields:
            self._put_attributes(records["item"], {each.name: self.values[each.name].raw(
                [columns[name] for name in each.columns], piece.error) for each in self.attribute_fields})
        return records

    def _order(self, folder: tempfile.TemporaryDirectory[str], paths: list[str]) -> Events:
        """Sort each partition, and write its columns behind those of the one before it."""
        dtype = self._dtype()
        names = [name for name in dtype.names or () if name not in ("history", "order")]
        total = sum(os.path.getsize(path) for path in paths) // dtype.itemsize
        arrays: dict[str, np.ndarray] = {}
        for name in names:
            kind, shape = dtype[name].base, (total, *dtype[name].shape)
            arrays[name] = (np.memmap(os.path.join(folder.name, f"column-{names.index(name)}"), kind, "w+", shape=shape)
                            if total else np.zeros(shape, kind))
        counts, begin = [], 0
        for path in paths:
            records = np.fromfile(path, dtype)
            os.remove(path)
            order = np.lexsort((records["line"], records["order"], records["time"], records["history"]))
            history = records["history"][order]
            if len(order):
                counts.append(np.diff(np.append(np.flatnonzero(np.append(True, history[1:] != history[:-1])), len(order))))
            for name in names:
                arrays[name][begin:begin + len(order)] = records[name][order]
            begin += len(order)
        offsets = np.zeros(sum(map(len, counts)) + 1, np.int64)
        np.cumsum(np.concatenate([*counts, np.zeros(0, np.int64)]), out=offsets[1:])
        return Events(offsets, arrays["user"], arrays["item"], arrays["time"], arrays["line"], arrays["kind"], arrays["label"],
                      {each.name: arrays[f"field {each.name}"] for each in self.own_fields}, list(self.kinds),
                      self.recipe.files, folder)

    def _finish(self, events: Events) -> None:
        """Drop rare ids, learn bands and scales, and lay today's attributes over those of the checkpoint."""
        item = self.recipe.item
        count = len(self.values[item.name].ids) + 1
        self.attributes = {name: np.concatenate([raw, self.values[name].empty(max(0, count - len(raw)))])[:count]
                           for name, raw in self.attributes.items()}
        self.described = np.append(self.described, np.zeros(max(0, count - len(self.described)), bool))
        renumbered = self._drop_rare(item.name, item.min_count, [events.item], self.described)
        stays = np.append(True, renumbered[1:] != 0)
        self.attributes = {name: raw[stays] for name, raw in self.attributes.items()}
        self.described = self.described[stays]
        for each in self.attribute_fields:
            raw = self.attributes[each.name]
            if each.kind in ("string", "integer") and each.min_count > 1:
                self._drop_rare(each.name, each.min_count, [raw])
            old = self.state.get("attributes", {}).get(each.name)
            if old is not None:
                self.attributes[each.name] = self._over_old(each.name, raw, old)
            self.values[each.name].learn(self.attributes[each.name][1:])
        for each in self.own_fields:
            if each.kind in ("string", "integer"):
                self._drop_rare(each.name, each.min_count, [events.columns[each.name]])
            self.values[each.name].learn(events.columns[each.name])

    def _over_old(self, name: str, raw: np.ndarray, old: Any) -> np.ndarray:
        """Today's raw attributes over those of the checkpoint, whose sets are listed by their rows."""
        values = self.values[name]
        if values.field.kind != "multi":
            return merge_known(np.asarray(old), raw)
        places = np.zeros(len(old["places"]), np.int32)
        known = {rows: place for place, rows in enumerate(values.sets)}
        for index, listed in enumerate(old["sets"]):
            rows: tuple[int, ...] = tuple(listed)
            if rows not in known:
                known[rows] = len(values.sets)
                values.sets.append(rows)
            places[np.asarray(old["places"]) == index] = known[rows]
        return merge_known(places, raw)

    def _drop_rare(self, name: str, least: int, arrays: list[np.ndarray], described: Optional[np.ndarray] = None) -> np.ndarray:
        """Map the rows of rare ids to 0 in the arrays. A described item counts once for its description."""
        ids = self.values[name].ids
        counts = sum((np.bincount(array, minlength=len(ids) + 1) for array in arrays), np.zeros(len(ids) + 1, np.int64))
        if described is not None:
            counts = np.maximum(counts, described)
        if ids.frozen:
            return np.arange(len(ids) + 1)
        renumbered = ids.drop_rare(counts, least)
        if (renumbered != np.arange(len(renumbered))).any():
            for array in arrays:
                array[:] = renumbered[array]
        return renumbered


def packed_attributes(dataset: Dataset) -> dict[str, Any]:
    """The raw attributes for a checkpoint."""
    packed: dict[str, Any] = {}
    for name, raw in dataset.attributes.items():
        values = dataset.values[name]
        packed[name] = {"places": raw, "sets": [list(rows) for rows in values.sets]} if values.field.kind == "multi" else raw
    return packed
