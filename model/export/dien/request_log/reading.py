"""Reads the files of a request log: zstd frames of JSON lines, up to the last frame that is whole."""
from __future__ import annotations

import io
import json
import os
from typing import Any, BinaryIO, Iterable, Iterator, Union

from dien.request_log.records import Record

Path = Union[str, "os.PathLike[str]"]
ENDINGS = (".jsonl.zst", ".jsonl.zst.open", ".jsonl")
CHUNK = 1 << 16


def files_of(place: Path) -> list[str]:
    """The files of a directory in the order of time, that which is being written last; or the one file."""
    name = os.fspath(place)
    if not os.path.isdir(name):
        return [name]
    found = sorted(each for each in os.listdir(name) if each.startswith("requests-") and each.endswith(ENDINGS))
    if not found:
        raise FileNotFoundError(f"{name}: no file of a request log, requests-*.jsonl.zst")
    return [os.path.join(name, each) for each in found]


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """The contents of each whole frame. EOFError if the last one is cut off."""
    import zstandard
    decompressor = zstandard.ZstdDecompressor()
    left = file.read(CHUNK)
    while left:
        frame, made = decompressor.decompressobj(), io.BytesIO()
        while not frame.eof:
            if not left:
                raise EOFError
            made.write(frame.decompress(left))
            left = frame.unused_data if frame.eof else file.read(CHUNK)
        yield made.getvalue()
        left = left or file.read(CHUNK)


class Reader:
    """The records of some files or directories, in their order. `damaged` names, once all is read, each file of which a
    part could not be: the last frame after a crash, or of a file that is being written."""

    def __init__(self, places: Union[Path, Iterable[Path]]):
        listed = [places] if isinstance(places, (str, os.PathLike)) else list(places)
        self.files = [name for place in listed for name in files_of(place)]
        self.damaged: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        self.damaged = []
        for name in self.files:
            yield from self._file(name)

    def _pieces(self, name: str) -> Iterator[bytes]:
        with open(name, "rb") as file:
            if name.endswith(".jsonl"):
                yield file.read()
                return
            try:
                import zstandard
            except ImportError as error:
                raise ValueError(f"{name}: reading it needs python3-zstandard") from error
            try:
                yield from _frames(file)
            except EOFError:
                self.damaged.append(f"{name}: the last frame is cut off")
            except zstandard.ZstdError as error:
                self.damaged.append(f"{name}: {error}")

    def _file(self, name: str) -> Iterator[Record]:
        number = 0
        for piece in self._pieces(name):
            for line in piece.splitlines():
                number += 1
                yield Record(_object(line, name, number))


def _object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        members = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{name}: line {number}: {error}") from error
    if not isinstance(members, dict) or "time" not in members:
        raise ValueError(f"{name}: line {number}: no record of a request log")
    return members


def read(places: Union[Path, Iterable[Path]]) -> Iterator[Record]:
    """The records of files or directories."""
    return iter(Reader(places))
