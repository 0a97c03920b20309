"""The safetensors container: named tensors in one file, read and written with numpy alone.

Eight bytes of header length (little-endian), a JSON header, the data. The writer puts wide elements first and pads the
header with spaces, so that every tensor is aligned to its element. The reader trusts nothing: each fault is an error
that names the tensor.
"""
from __future__ import annotations

import json
import os
from typing import Any, Mapping, NamedTuple, Union

import numpy as np

DATA_ALIGNMENT = 64
MAX_HEADER = 100_000_000

NUMPY_TYPES = {
    "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "I16": np.dtype("<i2"), "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"), "U8": np.dtype("u1"), "BOOL": np.dtype("bool"),
}
TYPE_NAMES = {dtype: name for name, dtype in NUMPY_TYPES.items() if name != "BF16"}


class SafetensorsError(ValueError):
    """The file is not a valid safetensors container."""


class BF16(NamedTuple):
    """A bfloat16 tensor, which numpy has no type for: the upper halves of float32."""

    bits: np.ndarray  # uint16

    @classmethod
    def rounded(cls, values: np.ndarray) -> "BF16":
        """Round finite float32 values to the nearest bfloat16, ties to even."""
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        return cls(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"))

    def widened(self) -> np.ndarray:
        """The values in float32, exactly."""
        return (self.bits.astype("<u4") << 16).view("<f4")


Tensor = Union[np.ndarray, BF16]


def _typed(name: str, tensor: Tensor) -> tuple[str, np.ndarray]:
    """The type's name in the file, and the elements as they are stored."""
    if isinstance(tensor, BF16):
        return "BF16", np.ascontiguousarray(tensor.bits, "<u2")
    stored = np.require(tensor, tensor.dtype.newbyteorder("<"), "C")
    if stored.dtype not in TYPE_NAMES:
        raise SafetensorsError(f"tensor {name}: safetensors has no type for {stored.dtype}")
    return TYPE_NAMES[stored.dtype], stored


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors to a new file, then move it to `path` in one step."""
    typed = {name: _typed(name, tensor) for name, tensor in tensors.items()}
    order = sorted(typed, key=lambda name: -typed[name][1].itemsize)
    header, end = {}, 0
    for name in order:
        dtype, stored = typed[name]
        header[name] = {"dtype": dtype, "shape": list(stored.shape), "data_offsets": [end, end + stored.nbytes]}
        end += stored.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % DATA_ALIGNMENT)
    part = f"{os.fspath(path)}.part"
    with open(part, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            typed[name][1].tofile(file)
    os.replace(part, path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise SafetensorsError(f"header: {name!r} is there twice")
    return dict(pairs)


def _header(raw: np.ndarray) -> tuple[dict[str, Any], int]:
    """The parsed header and the place where the data starts."""
    if raw.size < 8:
        raise SafetensorsError("the file ends within the header length")
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if length > min(MAX_HEADER, raw.size - 8):
        raise SafetensorsError(f"the header of {length} bytes does not fit the file")
    try:
        header = json.loads(raw[8:8 + length].tobytes().decode(), object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SafetensorsError(f"header: {error}") from error
    if not isinstance(header, dict):
        raise SafetensorsError("header: not a JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _slice(name: str, entry: Any, size: int) -> tuple[np.dtype, list[int], int, int]:
    """One header entry, checked against itself and the size of the data."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"tensor {name}: needs exactly dtype, shape and data_offsets")
    dtype = NUMPY_TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    shape, offsets = entry["shape"], entry["data_offsets"]
    if dtype is None:
        raise SafetensorsError(f"tensor {name}: unknown dtype {entry['dtype']!r}")
    if not isinstance(shape, list) or not all(map(_natural, shape)):
        raise SafetensorsError(f"tensor {name}: shape is not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise SafetensorsError(f"tensor {name}: data_offsets is not a pair of places")
    begin, end = offsets
    count = 1
    for extent in shape:
        count *= extent
    if not begin <= end <= size or end - begin != count * dtype.itemsize:
        raise SafetensorsError(f"tensor {name}: data_offsets {offsets} do not fit shape {shape} of "
                               f"{entry['dtype']} in {size} bytes of data")
    return dtype, shape, begin, end


def read_stored(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Map the file and return its tensors as they are stored, without copying."""
    raw = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.empty(0, np.uint8)
    header, start = _header(raw)
    data = np.asarray(raw[start:])
    slices = {name: _slice(name, entry, data.size) for name, entry in header.items()}
    place = 0
    for name, (dtype, _, begin, end) in sorted(slices.items(), key=lambda item: item[1][2:]):
        if begin != place:
            fault = "overlaps another" if begin < place else "leaves a hole before it"
            raise SafetensorsError(f"tensor {name}: {fault}")
        place = end
    if place != data.size:
        raise SafetensorsError(f"{data.size - place} bytes after the last tensor belong to none")
    stored: dict[str, Tensor] = {}
    for name, (dtype, shape, begin, end) in slices.items():
        array = data[begin:end].view(dtype).reshape(shape)
        stored[name] = BF16(array) if header[name]["dtype"] == "BF16" else array
    return stored


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The file's tensors as numpy arrays; bfloat16 arrives as float32."""
    return {name: tensor.widened() if isinstance(tensor, BF16) else tensor
            for name, tensor in read_stored(path).items()}
