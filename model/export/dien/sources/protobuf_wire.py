"""Reads protobuf messages without their schema: fields by number, as integers or bytes."""
from __future__ import annotations

from typing import Iterator, Union

from dien.sources.leveldb_table import TableError, varint

Value = Union[int, bytes]
Message = dict[int, list[Value]]


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Each field's number and value: integers of varint and fixed fields, bytes of the others."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise TableError(f"a protobuf field of type {kind}")
        size, at = varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(data):
            raise TableError("a protobuf message ends early")
        content = data[at:at + size]
        at += size
        yield number, content if kind == 2 else int.from_bytes(content, "little")


def message(data: bytes) -> Message:
    """The fields by number, each a list in order."""
    found: Message = {}
    for number, value in fields(data):
        found.setdefault(number, []).append(value)
    return found


def number(read: Message, field: int, otherwise: int = 0) -> int:
    """The last value of a number's field."""
    value = read.get(field, [otherwise])[-1]
    if not isinstance(value, int):
        raise TableError(f"protobuf field {field} is no number")
    return value


def signed(value: int) -> int:
    """An int64, which a varint holds as its two's complement."""
    return value - 2 ** 64 if value >= 2 ** 63 else value


def parts(read: Message, field: int) -> list[bytes]:
    """Every value of a field of bytes, texts or messages."""
    values = read.get(field, [])
    found = [value for value in values if isinstance(value, bytes)]
    if len(found) != len(values):
        raise TableError(f"protobuf field {field} is a number")
    return found


def text(read: Message, field: int) -> str:
    """The last value of a text's field."""
    return parts(read, field)[-1].decode("utf-8", "replace") if field in read else ""


def varints(data: bytes) -> Iterator[int]:
    """The numbers of a packed field."""
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value
