"""Reads a TensorFlow checkpoint without TensorFlow: PREFIX.index, a LevelDB table, and the bytes in PREFIX.data-*.

tf.train.Saver names tensors as the graph does. tf.train.Checkpoint and Keras name them by a path through their objects,
and store the graph's names in one more tensor, from which the graph's names are taken again here.
"""
from __future__ import annotations

import mmap
import re
from typing import Callable, Mapping, NamedTuple

import numpy as np

from dien.sources import protobuf_wire as wire
from dien.sources.crc32c import crc32c, masked
from dien.sources.leveldb_table import TableError, entries, varint

# Variables that an optimiser adds beside the model's, by the names that TensorFlow 1, Keras and object paths give them.
OPTIMISER = (r".*/(Adam|Adagrad|Ftrl|RMSProp|Momentum|Adadelta)(_\d+)?|(.*/)?beta[12]_power(_\d+)?|(.*/)?global_step|"
             r"(training(_\d+)?/)?(Adam|Adagrad|Ftrl|RMSprop|SGD|Adadelta|Adamax|Nadam)(_\d+)?/.*|"
             r"(optimizer|save_counter|keras_api)(/.*)?|.*/[.]OPTIMIZER_SLOT/.*|(.*/)?(total|count)(_\d+)?")
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 8: "<c8", 9: "<i8", 10: "?", 14: "bf16", 17: "<u2",
          18: "<c16", 19: "<f2", 22: "<u4", 23: "<u8"}
_STRING = 7
_BIG_ENDIAN = 1
_VERSION = 1                  # of the format, that a reader must know at least
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_ATTRIBUTE = "/.ATTRIBUTES/VARIABLE_VALUE"


class _Entry(NamedTuple):
    """Where a tensor lies. One that is stored in slices has no place of its own."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: list[list[tuple[int, int]]]  # each slice's start and length in each dimension; a length of -1 is all of it


def shape_of(data: bytes) -> tuple[int, ...]:
    """A TensorShapeProto."""
    return tuple(wire.signed(wire.number(wire.message(size), 1)) for size in wire.parts(wire.message(data), 2))


def _slice_of(data: bytes) -> list[tuple[int, int]]:
    extents = [wire.message(extent) for extent in wire.parts(wire.message(data), 1)]
    return [(wire.number(extent, 1), wire.number(extent, 2, -1)) for extent in extents]


def _entry(data: bytes) -> _Entry:
    read = wire.message(data)
    shapes = wire.parts(read, 2)
    return _Entry(wire.number(read, 1), shape_of(shapes[-1]) if shapes else (), wire.number(read, 3), wire.number(read, 4),
                  wire.number(read, 5), wire.number(read, 6), [_slice_of(each) for each in wire.parts(read, 7)])


# ---- keys of slices: OrderedCode, whose bytes sort as the values do

def ordered_unsigned(value: int) -> bytes:
    """A count of bytes, and the number in as many bytes with the highest first."""
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def ordered_text(value: bytes) -> bytes:
    """A text whose end, 00 01, cannot occur within."""
    escaped = {0: b"\0\xff", 255: b"\xff\0"}
    return b"".join(escaped.get(byte, bytes([byte])) for byte in value) + b"\0\x01"


def ordered_signed(value: int) -> bytes:
    """Two's complement, whose first bits are turned into the number of bytes."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    header = ((1 << size) - 1) << 7 * size
    return ((value & ((1 << 8 * size) - 1)) ^ header).to_bytes(size, "big")


def slice_key(name: str, extents: list[tuple[int, int]]) -> bytes:
    """The key under which one slice of a tensor is stored."""
    key = ordered_unsigned(0) + ordered_text(name.encode()) + ordered_unsigned(len(extents))
    return key + b"".join(ordered_signed(start) + ordered_signed(length) for start, length in extents)


class _Checkpoint:
    """The entries of an index, and the bytes of the shards, which are mapped and not read before they are used."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        with open(f"{prefix}.index", "rb") as file:
            read = dict(entries(file.read()))
        header = wire.message(read.pop(b"", b""))
        if not wire.number(header, 1):
            raise TableError("the table is no checkpoint's: it has no header")
        if wire.number(header, 2) == _BIG_ENDIAN:
            raise TableError("its numbers are big-endian")
        versions = wire.parts(header, 3)
        needed = wire.number(wire.message(versions[-1]), 2) if versions else 0
        if needed > _VERSION:
            raise TableError(f"its format has version {needed}, and version {_VERSION} is read here")
        self.shards = wire.number(header, 1)
        self.entries = {key: _entry(value) for key, value in read.items()}
        self.mapped: dict[int, memoryview] = {}

    def shard(self, number: int) -> memoryview:
        """The bytes of PREFIX.data-NUMBER-of-COUNT."""
        if number not in self.mapped:
            with open(f"{self.prefix}.data-{number:05d}-of-{self.shards:05d}", "rb") as file:
                file.seek(0, 2)
                self.mapped[number] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b"")
        return self.mapped[number]

    def content(self, entry: _Entry, name: str) -> memoryview:
        """The bytes of an entry."""
        shard = self.shard(entry.shard)
        if entry.offset + entry.size > len(shard):
            raise TableError(f"tensor {name} ends at byte {entry.offset + entry.size} of a data file of {len(shard)} bytes")
        return shard[entry.offset:entry.offset + entry.size]

    def values(self, entry: _Entry, name: str) -> np.ndarray:
        """The numbers of an entry."""
        content = self.content(entry, name)
        if masked(crc32c(content)) != entry.checksum:
            raise TableError(f"tensor {name}: the checksum (CRC) of its data is wrong: the file is damaged")
        return decoded(content, entry.dtype, entry.shape, name)

    def tensor(self, key: bytes, name: str) -> np.ndarray:
        """A tensor, put together if it is stored in slices."""
        entry = self.entries[key]
        if not entry.slices:
            return self.values(entry, name)
        total, held = _count(entry.shape, name), 0
        found: list[tuple[tuple[slice, ...], np.ndarray]] = []
        for extents in entry.slices:
            part = self.entries.get(slice_key(name, extents))
            if part is None:
                raise TableError(f"tensor {name}: the slice at {[start for start, _ in extents]} is missing")
            place = tuple(slice(start, start + length if length >= 0 else size)
                          for (start, length), size in zip(extents, entry.shape))
            found.append((place, self.values(part, name)))
            held += found[-1][1].size
        if held != total or any(tuple(each.stop - each.start for each in place) != values.shape for place, values in found):
            raise TableError(f"tensor {name}: its slices do not make up its shape {list(entry.shape)}")
        whole = np.empty(entry.shape, found[0][1].dtype)
        for place, values in found:
            whole[place] = values
        return whole

    def text(self, key: bytes) -> bytes:
        """A tensor of one string: its length, that length's checksum, and its bytes."""
        name = key.decode("utf-8", "replace")
        content = bytes(self.content(self.entries[key], name))
        size, at = varint(content, 0)
        state = crc32c(size.to_bytes(4 if size < 2 ** 32 else 8, "little"))
        stored = int.from_bytes(content[at:at + 4], "little")
        whole = crc32c(content[at:], state)
        if stored != masked(state) or masked(whole) != self.entries[key].checksum or len(content) != at + 4 + size:
            raise TableError(f"tensor {name}: the checksum (CRC) of its text is wrong: the file is damaged")
        return content[at + 4:]


def _count(shape: tuple[int, ...], name: str) -> int:
    count = 1
    for size in shape:
        count *= size
    if min(shape, default=0) < 0 or count > 2 ** 40:
        raise TableError(f"tensor {name} has the shape {list(shape)}")
    return count


def decoded(content: memoryview, dtype: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Numbers of a TensorFlow type from their bytes; bfloat16 is widened."""
    if dtype not in DTYPES:
        raise TableError(f"tensor {name} has TensorFlow's type {dtype}, which is none of numbers")
    kind = DTYPES[dtype]
    numbers = np.dtype("<u2" if kind == "bf16" else kind)
    if len(content) != _count(shape, name) * numbers.itemsize:
        raise TableError(f"tensor {name}: {len(content)} bytes for the shape {list(shape)}")
    values = np.frombuffer(content, numbers).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if kind == "bf16" else values


def _graph_names(text: bytes) -> dict[str, str]:
    """The graph's name of each variable, by the path that is its key. Optimisers' variables keep their paths."""
    found: dict[str, str] = {}
    for node in wire.parts(wire.message(text), 1):
        for attribute in wire.parts(wire.message(node), 2):
            read = wire.message(attribute)
            key, name = wire.text(read, 3), wire.text(read, 2)
            if name and not re.match(r"optimizer/|save_counter/|keras_api/|.*/[.]OPTIMIZER_SLOT/", key):
                found[key] = name
    return {key: name for key, name in found.items() if list(found.values()).count(name) == 1}


def read(prefix: str, note: Callable[[str], None]) -> Mapping[str, np.ndarray]:
    """Every tensor of numbers, by the name that the graph gives it."""
    checkpoint = _Checkpoint(prefix)
    keys = [key for key in checkpoint.entries if not key.startswith(b"\0")]  # those that are no slices
    graph = _OBJECT_GRAPH.encode()
    names = _graph_names(checkpoint.text(graph)) if graph in keys else {}
    texts = [key.decode("utf-8", "replace") for key in keys if checkpoint.entries[key].dtype == _STRING and key != graph]
    if texts:
        note(f"{', '.join(texts)}: text, which no model reads")
    tensors = {}
    for key in keys:
        if checkpoint.entries[key].dtype != _STRING:
            name = key.decode("utf-8", "replace")
            tensors[names.get(name, name.removesuffix(_ATTRIBUTE))] = checkpoint.tensor(key, name)
    return tensors
