"""The vocabulary's hash table (FORMAT.md, "Vocabularies"): built with whole-array operations, looked up slot by slot.

An id starts at slot hash & (S - 1); a slot holds 0 when empty, else entry + 1. Ten million entries take seconds.
"""
from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MIX_FIRST = 0xFF51AFD7ED558CCD
MIX_SECOND = 0xC4CEB9FE1A85EC53

Id = Union[int, str]


def _mix(x: np.ndarray) -> np.ndarray:
    shift = np.uint64(33)
    x = x ^ (x >> shift)
    x = x * np.uint64(MIX_FIRST)
    x = x ^ (x >> shift)
    x = x * np.uint64(MIX_SECOND)
    return x ^ (x >> shift)


def hash_integers(ids: np.ndarray) -> np.ndarray:
    """The 64-bit hash of each id."""
    return _mix(np.ascontiguousarray(ids if ids.dtype == np.uint64 else ids.astype(np.int64)).view(np.uint64))


def hash_strings(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The 64-bit hash of each string data[offsets[i]:offsets[i + 1]]; goes byte by byte through all strings at once."""
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    starts, descending = offsets[:-1][order], -lengths[order]
    state = np.full(len(order), FNV_OFFSET, np.uint64)
    for place in range(int(lengths.max(initial=0))):
        active = int(np.searchsorted(descending, -place))  # the strings longer than `place`
        state[:active] ^= data[starts[:active] + place]
        state[:active] *= np.uint64(FNV_PRIME)
    hashes = np.empty_like(state)
    hashes[order] = state
    return _mix(hashes)


def _place(start: np.ndarray) -> np.ndarray:
    """The slot of each entry, for start slots in ascending order, as if the table had no end."""
    rank = np.arange(len(start))
    return rank + np.maximum.accumulate(start - rank)


def fill_slots(hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """The slots of a table that holds entry i under hashes[i], and the longest probe."""
    size = 1
    while size * 3 < len(hashes) * 4:
        size *= 2
    start = (hashes & np.uint64(size - 1)).astype(np.int64)
    order = np.argsort(start, kind="stable")
    start = start[order]
    slot = _place(start)
    wrapped = int((slot >= size).sum())
    if wrapped:  # the last entries go on from slot 0, ahead of those that start there
        order, start = np.roll(order, wrapped), np.roll(start, wrapped)
        start[:wrapped] -= size
        slot = _place(np.maximum(start, 0))
    slots = np.zeros(size, np.int32)
    slots[slot] = order + 1
    return slots, int((slot - start).max()) + 1


class Vocabulary:
    """One vocabulary as its tensors."""

    def __init__(self, tensors: dict[str, np.ndarray], probe: int):
        self.tensors = tensors
        self.probe = probe
        self.strings = "bytes" in tensors
        self.entries = len(tensors["offsets"]) - 1 if self.strings else len(tensors["keys"])

    @classmethod
    def of_integers(cls, ids: Union[np.ndarray, Sequence[int]]) -> "Vocabulary":
        """Entry i is ids[i]. With an id of 2^63 or more the keys are unsigned, and no id may be negative."""
        is_unsigned = len(ids) > 0 and int(max(ids)) > np.iinfo(np.int64).max
        if is_unsigned and int(min(ids)) < 0:
            raise ValueError("ids below 0 and ids of 2^63 or more do not fit into one vocabulary")
        keys = np.ascontiguousarray(ids, np.uint64 if is_unsigned else np.int64)
        if len(keys) == 0 or len(np.unique(keys)) != len(keys):
            raise ValueError("a vocabulary needs one id or more, each once")
        slots, probe = fill_slots(hash_integers(keys))
        return cls({"slots": slots, "keys": keys}, probe)

    @classmethod
    def of_strings(cls, ids: Sequence[str]) -> "Vocabulary":
        """Entry i is ids[i]."""
        if len(ids) == 0 or len(set(ids)) != len(ids):
            raise ValueError("a vocabulary needs one id or more, each once")
        encoded = [text.encode() for text in ids]
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(ids)), out=offsets[1:])
        data = np.frombuffer(b"".join(encoded), np.uint8)
        slots, probe = fill_slots(hash_strings(data, offsets))
        return cls({"slots": slots, "offsets": offsets, "bytes": data}, probe)

    def config(self) -> dict[str, object]:
        """Its entry in config.json."""
        return {"type": "string" if self.strings else "integer", "entries": self.entries, "probe": self.probe}

    def entry(self, i: int) -> Id:
        """The id of entry i."""
        if not self.strings:
            return int(self.tensors["keys"][i])
        begin, end = self.tensors["offsets"][i:i + 2]
        return self.tensors["bytes"][begin:end].tobytes().decode()

    def find(self, key: Id) -> Optional[int]:
        """The entry of an id, or None."""
        slots = self.tensors["slots"]
        if isinstance(key, str):
            data = np.frombuffer(key.encode(), np.uint8)
            hashed = int(hash_strings(data, np.array([0, len(data)]))[0])
        else:
            hashed = int(hash_integers(np.array([key & (2**64 - 1)], np.uint64))[0])
        for step in range(self.probe):
            held = int(slots[(hashed + step) & (len(slots) - 1)])
            if held == 0:
                return None
            if self.entry(held - 1) == key:
                return held - 1
        return None
