"""Reads the constants of a frozen TensorFlow graph (.pb), which were the variables of the model."""
from __future__ import annotations

import re
from typing import Mapping, NamedTuple

import numpy as np

from dien.sources import protobuf_wire as wire
from dien.sources.leveldb_table import TableError
from dien.sources.tensorflow_checkpoint import DTYPES, decoded, shape_of

LOOPS = ("Enter", "RefEnter", "LoopCond", "While", "StatelessWhile")
VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "RefVariable")
# The field of a TensorProto that holds values of a type one by one, and the numpy type of one such value.
_VALUES = {1: (5, "<f4"), 2: (6, "<f8"), 3: (7, "<i4"), 4: (7, "u1"), 5: (7, "<i2"), 6: (7, "i1"), 9: (10, "<i8"),
           10: (11, "?"), 14: (13, "<u2"), 17: (7, "<u2"), 19: (13, "<u2"), 22: (16, "<u4"), 23: (17, "<u8")}
_FIXED = (5, 6)
STATIC = ("this graph has no loop: its recurrences were unrolled for a fixed number of steps, and each step also runs over the "
          "padding behind a history, so that a score depends on the padding. It cannot be scored as a history of its own "
          "length. Convert the checkpoint that it was frozen from, or a graph with tf.nn.dynamic_rnn and sequence lengths")
UNFROZEN = ("this graph holds no values: its variables are in a checkpoint. Convert that, with the prefix of its .index file")


class _Node(NamedTuple):
    """An operation; `value` is the TensorProto of a constant."""

    name: str
    operation: str
    inputs: list[str]
    value: bytes


def _node(data: bytes) -> _Node:
    read = wire.message(data)
    value = b""
    for attribute in wire.parts(read, 5):
        pair = wire.message(attribute)
        if wire.text(pair, 1) == "value" and pair.get(2):
            value = (wire.parts(wire.message(wire.parts(pair, 2)[-1]), 8) or [b""])[-1]
    return _Node(wire.text(read, 1), wire.text(read, 2), [each.decode("utf-8", "replace") for each in wire.parts(read, 3)], value)


def _one_by_one(read: wire.Message, dtype: int, name: str) -> bytes:
    """Values that are fields of their own; the last one stands for all that follow."""
    if dtype not in _VALUES:
        raise TableError(f"tensor {name} has TensorFlow's type {dtype}, which is none of numbers")
    field, kind = _VALUES[dtype]
    packed = bytearray()
    for value in read.get(field, []):
        if isinstance(value, int):
            packed += value.to_bytes(np.dtype(kind).itemsize, "little") if field in _FIXED else \
                np.array(wire.signed(value) if kind[1:2] == "i" else value).astype(kind).tobytes()
        elif field in _FIXED:
            packed += value
        else:
            packed += b"".join(np.array(wire.signed(each) if kind[1:2] == "i" else each).astype(kind).tobytes()
                               for each in wire.varints(value))
    return bytes(packed)


def _constant(node: _Node) -> np.ndarray:
    read = wire.message(node.value)
    dtype, shapes = wire.number(read, 1), wire.parts(read, 2)
    shape = shape_of(shapes[-1]) if shapes else ()
    content = (wire.parts(read, 4) or [b""])[-1]
    if not content:
        content = _one_by_one(read, dtype, node.name)
        count, width = int(np.prod(shape, dtype=object)), np.dtype(_VALUES[dtype][1]).itemsize
        if count > 2 ** 31:
            raise TableError(f"tensor {node.name} has the shape {list(shape)}")
        last = content[-width:] or bytes(width)
        content += last * (count - len(content) // width)
    return decoded(memoryview(content), dtype, shape, node.name)


def read(path: str) -> Mapping[str, np.ndarray]:
    """The constants that stand for variables, by name: those that an Identity NAME/read passes on, or else all but scalars."""
    with open(path, "rb") as file:
        nodes = [_node(each) for each in wire.parts(wire.message(file.read()), 1)]
    if not nodes or not all(node.name and node.operation for node in nodes):
        raise TableError("it is no TensorFlow graph")
    if any(node.operation in VARIABLES for node in nodes):
        raise TableError(UNFROZEN)
    recurrent = [node for node in nodes if re.search(r"(^|/)gru", node.name)]
    if recurrent and not any(node.operation in LOOPS for node in nodes):
        raise TableError(STATIC)
    constants = {node.name: node for node in nodes if node.operation == "Const" and _type(node) in DTYPES}
    passed_on = {node.inputs[0] for node in nodes if node.operation == "Identity" and node.inputs
                 and node.name == f"{node.inputs[0]}/read"}
    chosen = [name for name in constants if name in passed_on] or \
        [name for name, node in constants.items() if _rank(node) and _type(node) in (1, 2, 14, 19)]
    return {name: _constant(constants[name]) for name in chosen}


def _type(node: _Node) -> int:
    return wire.number(wire.message(node.value), 1)


def _rank(node: _Node) -> int:
    shapes = wire.parts(wire.message(node.value), 2)
    return len(shape_of(shapes[-1])) if shapes else 0
