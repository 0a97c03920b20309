"""The two protobuf messages of the request log: a stored history (proto/history.proto), a request (proto/score.proto).

They are decoded here, so that a reader of the log needs no compiler of messages. Fields that are not read are skipped.
"""
from __future__ import annotations

import struct
from typing import Any, Iterator, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
ENCODING = 1


class MessageError(ValueError):
    """Bytes that are not the message."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and the place behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise MessageError("a number is cut off or too long")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value & (1 << 64) - 1, at


def fields(data: bytes) -> Iterator[tuple[int, Union[int, bytes]]]:
    """Each field's number, and its value: an integer, or bytes. Fixed ones are bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: Union[int, bytes]
        if kind == VARINT:
            value, at = _varint(data, at)
        else:
            if kind == BYTES:
                size, at = _varint(data, at)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                raise MessageError(f"a field of kind {kind}")
            value, at = data[at:at + size], at + size
            if at > len(data):
                raise MessageError("a field is cut off")
        yield key >> 3, value


def _bytes(value: Union[int, bytes]) -> bytes:
    if isinstance(value, int):
        raise MessageError("a number where a text or a message is due")
    return value


def _text(value: Union[int, bytes]) -> str:
    return _bytes(value).decode()


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _numbers(value: Union[int, bytes]) -> list[int]:
    """One number, or packed ones."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def _reals(value: Union[int, bytes]) -> list[float]:
    data = _bytes(value)
    if len(data) % 8:
        raise MessageError("a real is cut off")
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def _in_vectors(reals: list[float], width: int) -> list[Any]:
    if width == 0:
        return reals
    if len(reals) % width:
        raise MessageError("a vector is cut off")
    return [reals[at:at + width] for at in range(0, len(reals), width)]


def _run(data: bytes) -> list[Any]:
    """A HistoryRun's values; None for a behaviour without the field."""
    absent, width = 0, 0
    integers: list[int] = []
    strings: list[str] = []
    reals: list[float] = []
    for number, value in fields(data):
        if number == 1:
            absent = _numbers(value)[0]
        elif number == 2:
            integers += map(_signed, _numbers(value))
        elif number == 3:
            strings.append(_text(value))
        elif number == 4:
            reals += _reals(value)
        elif number == 5:
            width = _numbers(value)[0]
    return [None] * absent + integers + strings + _in_vectors(reals, width)


def _named(data: bytes, name_number: int, part_number: int) -> tuple[str, list[bytes]]:
    """A message's name, and its parts."""
    name, parts = "", []
    for number, value in fields(data):
        if number == name_number:
            name = _text(value)
        elif number == part_number:
            parts.append(_bytes(value))
    return name, parts


def history_of(data: bytes) -> dict[str, list[Any]]:
    """A HistoryRecord's behaviours as columns, oldest first."""
    encoding, lists = 0, []
    for number, value in fields(data):
        if number == 3:
            encoding = _numbers(value)[0]
        elif number == 6:
            lists.append(_bytes(value))
    if encoding != ENCODING:
        raise MessageError(f"a history in encoding {encoding}; this reader knows {ENCODING}")
    columns: dict[str, list[Any]] = {}
    for each in lists:
        for column in _named(each, 1, 4)[1]:
            name, runs = _named(column, 1, 2)
            if name in columns:
                raise MessageError(f"two columns {name!r}")
            columns[name] = [value for run in runs for value in _run(run)]
    return columns


def _column(data: bytes) -> tuple[str, list[Any]]:
    """A Column of score.proto."""
    name, width = "", 0
    values: list[Any] = []
    reals: list[float] = []
    for number, value in fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            values += map(_signed, _numbers(value))
        elif number == 3:
            values.append(_text(value))
        elif number == 4:
            reals += _reals(value)
        elif number == 5:
            width = _numbers(value)[0]
        elif number == 6:
            values += _numbers(value)
    return name, values + _in_vectors(reals, width)


def _table(data: bytes) -> dict[str, list[Any]]:
    return dict(_column(_bytes(value)) for number, value in fields(data) if number == 1)


def _singles(data: bytes) -> dict[str, Any]:
    """A table of one row, as `user` and `context` are in JSON."""
    return {name: values[0] for name, values in _table(data).items() if values}


# Of a ScoreRequest: a field's number, its name in JSON, how its value is read.
_MEMBERS: dict[int, tuple[str, Any]] = {
    1: ("user_id", _text), 2: ("user", _singles), 3: ("context", _singles), 4: ("history", _table), 5: ("history_token", _text),
    6: ("history_append", _table), 7: ("candidates", _table), 8: ("top_k", int), 9: ("explain", bool), 10: ("timeout_ms", int),
    11: ("partial", bool), 12: ("event_id", _text)}


def user_field(user: str) -> bytes:
    """The user_id of a ScoreRequest, to stand behind its other fields."""
    text = user.encode()
    size, length = b"", len(text)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return b"\x0a" + size + bytes([length]) + text


def request_of(data: bytes) -> dict[str, Any]:
    """A ScoreRequest or a HistoryRequest as the JSON request of the same meaning."""
    request: dict[str, Any] = {}
    for number, value in fields(data):
        if number not in _MEMBERS:
            continue
        name, read = _MEMBERS[number]
        if (read in (int, bool)) != isinstance(value, int):
            raise MessageError(f"{name} is of another kind")
        made = read(value)
        if made or name not in ("top_k", "explain", "timeout_ms", "partial"):
            request[name] = made
    return request
