"""The tensors of a foreign checkpoint: each is taken once, dropped by name for a stated reason, or an error."""
from __future__ import annotations

import re
from typing import Mapping, Sequence

import numpy as np


class ConversionError(ValueError):
    """The checkpoint is not what its framework and architecture promise."""


class Source:
    """Hands out float64 copies and keeps account."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.left = dict(tensors)
        self.dropped: dict[str, str] = {}

    def find(self, pattern: str) -> str:
        """The one name left that the whole pattern matches."""
        names = [name for name in self.left if re.fullmatch(pattern, name)]
        if len(names) != 1:
            raise ConversionError(f"{pattern}: {', '.join(names) or 'no tensor'} where one was expected")
        return names[0]

    def take(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """The tensor of this name in float64; -1 in the shape fits any size."""
        if name not in self.left:
            raise ConversionError(f"tensor {name} is missing")
        tensor = self.left.pop(name)
        if len(tensor.shape) != len(shape) or any(want not in (-1, have) for want, have in zip(shape, tensor.shape)):
            raise ConversionError(f"tensor {name} has shape {list(tensor.shape)}, not {list(shape)}")
        return tensor.astype(np.float64)

    def drop(self, pattern: str, reason: str) -> None:
        """Leave out every tensor whose whole name matches, and remember why."""
        for name in [name for name in self.left if re.fullmatch(pattern, name)]:
            del self.left[name]
            self.dropped[name] = reason

    def finish(self) -> None:
        """Every tensor must have been taken or dropped by now."""
        if self.left:
            raise ConversionError(f"no use for tensor {', '.join(sorted(self.left))}")
