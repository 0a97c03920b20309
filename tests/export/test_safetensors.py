"""model/export/safetensors.py: what is written comes back, aligned; what is malformed is refused by name."""

import json
import struct

import numpy as np
import pytest

from dien.model import safetensors
from dien.model.safetensors import BF16, SafetensorsError

TENSORS = {
    "bytes": np.arange(5, dtype=np.uint8), "halves": np.linspace(-1, 1, 6, dtype=np.float16).reshape(2, 3),
    "long": np.array([-2**63, 2**63 - 1]), "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "int8": np.array([[-128, 127]], np.int8), "int32": np.array([7, -7], np.int32),
    "none": np.empty((0, 4), np.float32),
    "doubles": np.array([np.pi]), "flags": np.array([True, False]), "transposed": np.arange(6.0).reshape(2, 3).T,
}


def test_round_trip(tmp_path):
    safetensors.write(tmp_path / "t", TENSORS)
    back = safetensors.read(tmp_path / "t")
    assert set(back) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert np.array_equal(back[name], tensor), name


def test_layout(tmp_path):
    """Wide types first, data on a 64-byte boundary, each tensor on its element's, no holes."""
    safetensors.write(tmp_path / "t", TENSORS)
    raw = (tmp_path / "t").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert (8 + length) % 64 == 0
    header = json.loads(raw[8:8 + length])
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    place = 0
    for name, entry in entries:
        begin, end = entry["data_offsets"]
        assert begin == place and begin % TENSORS[name].itemsize == 0, name
        place = end
    assert 8 + length + place == len(raw)
    sizes = [TENSORS[name].itemsize for name, _ in entries]
    assert sizes == sorted(sizes, reverse=True)


def test_bfloat16_rounds_to_nearest_even(tmp_path):
    cases = {1.0: 1.0, 1.00390625: 1.0, 1.01171875: 1.015625, 1.005: 1.0078125, -3.1415927: -3.140625, 0.0: 0.0}
    tensor = BF16.rounded(np.array(list(cases), np.float32))
    safetensors.write(tmp_path / "t", {"b": tensor})
    assert safetensors.read(tmp_path / "t")["b"].tolist() == list(cases.values())


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def container(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


MALFORMED = {
    "empty file": (b"", "header length"),
    "cut in the length": (b"\1\0\0", "header length"),
    "header longer than the file": (struct.pack("<Q", 2**63) + b"{}", "does not fit"),
    "not JSON": (container(b"{nope"), "header"),
    "not UTF-8": (container(b'{"\xff": 1}'), "header"),
    "not an object": (container([]), "not a JSON object"),
    "a name twice": (container(b'{"w": 1, "w": 2}'), "'w' is there twice"),
    "entry of another kind": (container({"w": 3}), "tensor w"),
    "a key too many": (container({"w": {**entry(), "more": 1}}), "tensor w"),
    "unknown type": (container({"w": entry(dtype="F31")}), "tensor w: unknown dtype"),
    "type of another kind": (container({"w": entry(dtype=["F32"])}), "tensor w: unknown dtype"),
    "negative size": (container({"w": entry(shape=(-2,))}), "tensor w: shape"),
    "size true": (container({"w": entry(shape=(True, 2))}), "tensor w: shape"),
    "one offset": (container({"w": entry(offsets=(0,))}), "tensor w: data_offsets"),
    "past the end": (container({"w": entry(shape=(4,), offsets=(0, 16))}), "tensor w: data_offsets"),
    "backwards": (container({"w": entry(offsets=(8, 0))}), "tensor w: data_offsets"),
    "shape does not fit": (container({"w": entry(shape=(3,))}), "tensor w: data_offsets"),
    "shape overflows": (container({"w": entry(shape=(2**62, 2**62))}), "tensor w: data_offsets"),
    "overlap": (container({"v": entry(), "w": entry(shape=(1,), offsets=(4, 8))}), "tensor w: overlaps"),
    "hole": (container({"w": entry(shape=(1,), offsets=(4, 8))}), "tensor w: leaves a hole"),
    "left over": (container({"w": entry(shape=(1,), offsets=(0, 4))}), "4 bytes after the last tensor"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path, case):
    raw, message = MALFORMED[case]
    (tmp_path / "t").write_bytes(raw)
    with pytest.raises(SafetensorsError, match=message):
        safetensors.read(tmp_path / "t")


def test_unaligned_is_readable(tmp_path):
    """Other writers do not align; numpy copes, and so do we."""
    header = {"b": entry("U8", (1,), (0, 1)), "w": entry("F32", (1,), (1, 5))}
    (tmp_path / "t").write_bytes(container(header, b"\x07" + struct.pack("<f", 2.5)))
    back = safetensors.read(tmp_path / "t")
    assert back["b"].tolist() == [7] and back["w"].tolist() == [2.5]


def test_no_type_for_complex(tmp_path):
    with pytest.raises(SafetensorsError, match="tensor c"):
        safetensors.write(tmp_path / "t", {"c": np.array([1j])})
    assert not list(tmp_path.iterdir())
