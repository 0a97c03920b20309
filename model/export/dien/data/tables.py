"""Tables of text as pieces of columns: CSV and JSON lines, plain, .gz or .zst, and Parquet. No file need fit in memory.

Every fault of a file is a ValueError with the file and the line.
"""
from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Iterator, Sequence

import numpy as np

PIECE_ROWS = 65_536
LINES_MAX = 2**40  # lines of one file are counted within this


@dataclass
class Piece:
    """Some rows of one file: the line of each, and the columns that were asked for."""

    path: str
    lines: np.ndarray  # [N]
    columns: dict[str, list[Any]]

    def error(self, row: int, fault: str) -> ValueError:
        """The error of one row."""
        return ValueError(f"{self.path}:{self.lines[row]}: {fault}")


def format_of(path: str, given: str = "") -> str:
    """The format by a file's name, unless one is given."""
    stem = path.lower()
    for coding in (".gz", ".zst"):
        stem = stem.removesuffix(coding)
    for ending, name in ((".csv", "csv"), (".tsv", "csv"), (".jsonl", "jsonl"), (".ndjson", "jsonl"), (".json", "jsonl"),
                         (".parquet", "parquet")):
        if stem.endswith(ending) and not given:
            return name
    if not given:
        raise ValueError(f"{path}: its name does not say its format; give `format`")
    return given


@contextmanager
def _text(path: str) -> Iterator[Any]:
    """The file's text, decompressed as its name says."""
    if path.endswith(".gz"):
        raw: Any = gzip.open(path, "rb")
    elif path.endswith(".zst"):
        try:
            import zstandard
        except ImportError as error:
            raise ValueError(f"{path}: .zst needs the module zstandard (Debian: python3-zstandard)") from error
        raw = zstandard.open(path, "rb")
    else:
        raw = open(path, "rb")
    with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8: {error}") from error
        except Exception as error:
            if not isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)) and type(error).__name__ != "ZstdError":
                raise
            raise ValueError(f"{path}: the compressed data is damaged or cut: {error}") from error


def missing_column(path: str, name: str, header: Sequence[str]) -> ValueError:
    """The error for a column that a file lacks."""
    near = difflib.get_close_matches(name, header, 1)
    hint = f"; is {near[0]!r} meant?" if near else ""
    return ValueError(f"{path}:1: there is no column {name!r}{hint} Its columns are {', '.join(map(repr, header))}")


def _csv(path: str, names: Sequence[str], separator: str, size: int) -> Iterator[Piece]:
    with _text(path) as text:
        reader = csv.reader(text, delimiter="\t" if ".tsv" in path and separator == "," else separator)
        try:
            header: list[str] = next(reader, [])
            places = []
            for name in names:
                if name not in header:
                    raise missing_column(path, name, header)
                places.append(header.index(name))
            rows: list[list[str]] = []
            lines: list[int] = []

            def piece() -> Piece:
                made = Piece(path, np.array(lines, np.int64), {})
                for row, cells in enumerate(rows):
                    if len(cells) != len(header):
                        raise made.error(row, f"{len(cells)} cells, where the heading has {len(header)}")
                made.columns = {name: list(map(itemgetter(place), rows)) for name, place in zip(names, places)}
                return made

            for cells in reader:
                if cells:
                    rows.append(cells)
                    lines.append(reader.line_num)
                    if len(rows) == size:
                        yield piece()
                        rows, lines = [], []
            if rows:
                yield piece()
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: {error}") from error


def _json_lines(path: str, names: Sequence[str], size: int) -> Iterator[Piece]:
    with _text(path) as text:
        objects: list[dict[str, Any]] = []
        lines: list[int] = []

        def piece() -> Piece:
            return Piece(path, np.array(lines, np.int64), {name: [each.get(name) for each in objects] for name in names})

        seen: set[str] = set()
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            if not isinstance(value, dict):
                raise ValueError(f"{path}:{number}: not a JSON object")
            seen.update(value)
            objects.append(value)
            lines.append(number)
            if len(objects) == size:
                yield piece()
                objects, lines = [], []
        for name in names:
            if name not in seen:
                raise missing_column(path, name, sorted(seen))
        if objects:
            yield piece()


def _parquet(path: str, names: Sequence[str], size: int) -> Iterator[Piece]:
    """Not run by our tests: Debian has no pyarrow."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{path}: Parquet needs the module pyarrow, which Debian does not have") from error
    with pyarrow.parquet.ParquetFile(path) as file:
        header = file.schema_arrow.names
        for name in names:
            if name not in header:
                raise missing_column(path, name, header)
        first = 1
        for batch in file.iter_batches(size, columns=list(names)):
            yield Piece(path, np.arange(first, first + batch.num_rows), batch.to_pydict())
            first += batch.num_rows


def pieces(path: str, names: Sequence[str], given_format: str = "", separator: str = ",",
           size: int = PIECE_ROWS) -> Iterator[Piece]:
    """The rows of a file, `size` at a time, with the columns `names`. Values are as the format has them."""
    names = list(dict.fromkeys(names))
    kind = format_of(path, given_format)
    if kind == "parquet":
        return _parquet(path, names, size)
    return _csv(path, names, separator, size) if kind == "csv" else _json_lines(path, names, size)


def header_of(path: str, given_format: str = "", separator: str = ",") -> list[str]:
    """The columns of a file; of JSON lines, the members of the first."""
    if format_of(path, given_format) == "csv":
        with _text(path) as text:
            return next(csv.reader(text, delimiter="\t" if ".tsv" in path and separator == "," else separator), [])
    if format_of(path, given_format) == "jsonl":
        with _text(path) as text:
            line = next((each for each in text if each.strip()), "{}")
            try:
                return list(json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}:1: {error}") from error
    return []


def size_of(paths: Sequence[str]) -> int:
    """The bytes of the files together, before decompression."""
    return sum(os.path.getsize(path) for path in paths)
