"""Stores embedding tables in fewer bits: F16, BF16, or I8 with a scale for each row (FORMAT.md)."""
from __future__ import annotations

from typing import Mapping

import numpy as np

from dien.model.safetensors import BF16, Tensor

TABLE_TYPES = ("f32", "f16", "bf16", "i8")
LARGEST = 127  # the range is symmetric, so that a row's sign does not change its error


def _i8(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A table's rows as whole numbers, and the scale [rows] of each."""
    scale = (np.abs(values).max(axis=1) / LARGEST).astype(np.float32)
    scale[scale == 0] = 1  # a row of zeros stays one
    steps = np.rint(values / scale[:, None].astype(np.float64))
    return np.clip(steps, -LARGEST, LARGEST).astype(np.int8), scale


def _half(name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(f"tensor {name} has values beyond what F16 can hold: store it as bf16 or i8")
    return halves


def tables(tensors: Mapping[str, np.ndarray], kind: str) -> dict[str, Tensor]:
    """The tensors with each float table in this type; the others are as they were."""
    stored: dict[str, Tensor] = dict(tensors)
    for name, values in tensors.items():
        if not name.startswith("tables.") or kind == "f32":
            continue
        if kind == "f16":
            stored[name] = _half(name, values)
        elif kind == "bf16":
            stored[name] = BF16.rounded(values)
        else:
            stored[name], stored[f"{name}.scale"] = _i8(values)
    return stored
