"""Reads a LevelDB table: sorted keys and values in blocks. The index of a TensorFlow checkpoint is one.

A table ends in a footer of 48 bytes, which leads to an index block, which leads to the blocks of entries. Each block is
followed by its compression (none or snappy) and a checksum of both.
"""
from __future__ import annotations

import struct
from typing import Iterator

from dien.sources.crc32c import crc32c, masked

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
_TRAILER = 5                  # of a block: its compression and its checksum
_PLAIN, _SNAPPY = 0, 1
_SIZE_MAX = 2 ** 31 - 1       # of a block


class TableError(ValueError):
    """The bytes are no table, or a damaged one."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at this place, seven bits a byte with the lowest first, and the place after it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise TableError("a number ends early")
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value & (2 ** 64 - 1), at


def snappy(data: bytes) -> bytes:
    """What a snappy block holds: literals, and copies of what came before."""
    size, at = varint(data, 0)
    if size > _SIZE_MAX:
        raise TableError(f"snappy: {size} bytes announced")
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, extra = tag & 3, (0, 1, 2, 4)[tag & 3]
        length, offset = (tag >> 2) + 1, 0
        if kind == 0 and length > 60:  # the length stands in 1 to 4 bytes of its own
            extra = length - 60
            length = int.from_bytes(data[at:at + extra], "little") + 1
        elif kind:
            offset = int.from_bytes(data[at:at + extra], "little")
        if kind == 1:
            length, offset = (length - 1 & 7) + 4, offset | (tag >> 5) << 8
        if at + extra + (length if kind == 0 else 0) > len(data) or len(out) + length > size:
            raise TableError("snappy: a piece is longer than its block")
        at += extra
        if kind == 0:
            out += data[at:at + length]
            at += length
        elif not 0 < offset <= len(out):
            raise TableError("snappy: a copy from before the beginning")
        else:
            piece = bytes(out[-offset:len(out) - offset + length] if offset > length else out[-offset:])
            out += (piece * (length // len(piece) + 1))[:length]
    if len(out) != size:
        raise TableError(f"snappy: {len(out)} bytes where {size} are announced")
    return bytes(out)


def _block(data: bytes, handle: bytes) -> bytes:
    """The content of the block that a handle (offset, size) names."""
    offset, at = varint(handle, 0)
    size, _ = varint(handle, at)
    if offset + size + _TRAILER > len(data):
        raise TableError(f"a block at byte {offset} ends after the file")
    content, kind = data[offset:offset + size], data[offset + size]
    stored, = struct.unpack_from("<I", data, offset + size + 1)
    if masked(crc32c(data[offset:offset + size + 1])) != stored:
        raise TableError(f"the checksum (CRC) of the block at byte {offset} is wrong: the file is damaged")
    if kind not in (_PLAIN, _SNAPPY):
        raise TableError(f"the block at byte {offset} is compressed by method {kind}, which is neither none nor snappy")
    return snappy(content) if kind == _SNAPPY else content


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A block's keys and values. A key leaves out the bytes that it shares with the one before."""
    if len(block) < 4:
        raise TableError("a block without an end")
    end, key, at = len(block) - 4 * (1 + struct.unpack("<I", block[-4:])[0]), b"", 0
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise TableError("an entry is longer than its block")
        key = key[:shared] + block[at:at + own]
        yield key, block[at + own:at + own + length]
        at += own + length
    if at != end:
        raise TableError("a block's restart points are beyond it")


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of a table, in order."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise TableError("it does not end as a LevelDB table does")
    footer = data[-FOOTER:-8]
    _block(data, footer)            # of filters and the like: TensorFlow has none, but a flipped bit is one all the same
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    for _, handle in _entries(_block(data, footer[at:])):
        yield from _entries(_block(data, handle))
