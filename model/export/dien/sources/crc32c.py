"""CRC-32C (Castagnoli), with which TensorFlow and LevelDB check their files, at the speed of numpy.

The checksum is linear in the data, so a large input is cut into lanes of 1 KiB that advance side by side. Their states
are then joined in order.
"""
from __future__ import annotations

import functools
from typing import Union

import numpy as np

LANE = 1024          # bytes of a lane
LANES_LEAST = 32     # fewer cost more in numpy's calls than one byte after another
LANES_MOST = 16384   # that advance together: 16 MiB
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ONES = 0xFFFFFFFF
Bytes = Union[bytes, bytearray, memoryview]


@functools.lru_cache(maxsize=None)
def _byte_table() -> np.ndarray:
    """What a state of one byte becomes after a byte of zeros."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@functools.lru_cache(maxsize=None)
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the low and the high half of a state become after four bytes of zeros."""
    table, halves = _byte_table(), []
    for shift in (0, 16):
        states = np.arange(65536, dtype=np.uint32) << np.uint32(shift)
        for _ in range(4):
            states = table[states & 255] ^ (states >> 8)
        halves.append(states)
    return halves[0], halves[1]


def _advance(words: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The states [lanes] after words [steps, lanes] of four bytes each."""
    low, high = _word_tables()
    for word in words:
        x = states ^ word
        states = low.take(x & 65535) ^ high.take(x >> 16)
    return states


@functools.lru_cache(maxsize=None)
def _lane_tables() -> list[list[int]]:
    """For each byte of a state, the state after a lane of zeros."""
    states = np.concatenate([np.arange(256, dtype=np.uint32) << np.uint32(shift) for shift in (0, 8, 16, 24)])
    advanced = _advance(np.zeros((LANE // 4, 1), np.uint32), states)
    return advanced.reshape(4, 256).tolist()


def crc32c(data: Bytes, before: int = 0) -> int:
    """The checksum of the data, or of what `before` is the checksum of followed by the data."""
    view, state = memoryview(data).cast("B"), before ^ _ONES
    done = 0
    while (lanes := min((len(view) - done) // LANE, LANES_MOST)) >= LANES_LEAST:
        words = np.frombuffer(view[done:done + lanes * LANE], "<u4").reshape(lanes, LANE // 4)
        byte0, byte1, byte2, byte3 = _lane_tables()
        for lane in _advance(np.ascontiguousarray(words.T), np.zeros(lanes, np.uint32)).tolist():
            state = byte0[state & 255] ^ byte1[(state >> 8) & 255] ^ byte2[(state >> 16) & 255] ^ byte3[state >> 24] ^ lane
        done += lanes * LANE
    table = _byte_table().tolist()
    for byte in view[done:]:
        state = table[(state ^ byte) & 255] ^ (state >> 8)
    return state ^ _ONES


def masked(checksum: int) -> int:
    """A checksum as it is stored, so that a checksum of data with checksums in it stays a good one."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & _ONES
