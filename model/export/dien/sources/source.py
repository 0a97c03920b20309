"""The tensors of a foreign checkpoint: each is taken once, dropped by name for a stated reason, or an error."""
from __future__ import annotations

import re
from typing import Any, Callable, Collection, Mapping, Optional, Sequence

import numpy as np


class ConversionError(ValueError):
    """The checkpoint contradicts its framework or architecture, or has no faithful equivalent."""


class Source:
    """Hands out float64 copies and records which tensors are left."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.left = dict(tensors)
        self.dropped: dict[str, str] = {}
        self.notes: list[str] = []
        self.proven = False  # whether the framework's own scores will be compared, so that a misunderstanding shows
        # Dice layers, in order, whose statistics must still be taken from data, and the function from x [rows, units] to a Norm.
        self.calibrate: tuple[list[str], Optional[Callable[[np.ndarray], Any]]] = ([], None)

    def find(self, pattern: str) -> str:
        """The one name left that the whole pattern matches."""
        names = [name for name in self.left if re.fullmatch(pattern, name)]
        if len(names) != 1:
            raise ConversionError(f"{pattern}: {', '.join(names) or 'no tensor'} where one was expected")
        return names[0]

    def has(self, name: str) -> bool:
        """Whether a tensor of this name is left."""
        return name in self.left

    def under(self, prefix: str) -> list[str]:
        """The names left that begin with this prefix, as they go on after it."""
        return [name[len(prefix):] for name in self.left if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that must be there."""
        if name not in self.left:
            raise ConversionError(f"tensor {name} is missing")
        return self.left[name].shape

    def take(self, name: str, shape: Optional[Sequence[int]] = None) -> np.ndarray:
        """The tensor of this name in float64; -1 in the shape fits any size, no shape fits any."""
        tensor_shape = self.shape(name)
        tensor = self.left.pop(name)
        if shape is not None and (len(tensor_shape) != len(shape)
                                  or any(want not in (-1, have) for want, have in zip(shape, tensor_shape))):
            wanted = ", ".join("any" if size == -1 else str(size) for size in shape)
            raise ConversionError(f"tensor {name} has shape {list(tensor_shape)}, not [{wanted}]")
        return np.asarray(tensor).astype(np.float64)

    def drop(self, pattern: str, reason: str) -> None:
        """Leave out every tensor whose whole name matches, and remember why."""
        for name in [name for name in self.left if re.fullmatch(pattern, name)]:
            del self.left[name]
            self.dropped[name] = reason

    def note(self, text: str) -> None:
        """Say something to the person who converts."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(self) -> None:
        """Every tensor must have been taken or dropped by now."""
        if self.left:
            raise ConversionError(f"no use for tensor {', '.join(sorted(self.left))}")


# Keys of an architecture file that cannot change a score.
REMARKS = (r"notes?|comments?|description|source|framework|peer.*|(\w*_)?(commit|version)|seed|checks|\w*statistics|"
           r"request_layout|variable_names|\w*_difference|name|score|alpha|aux_\w+|\w*loss_alpha|use_negsampling|"
           r"\w*dropout(_\w+)?|\w*_regularizer|l2_reg_\w+|init_std|learning_rate|optimizer|loss|device|dtype")
# Keys for sizes that the tensors' shapes settle.
SIZES = r"(\w*_)?(embedding|embed)_(dims?|sizes?)|\w*vocab(ulary)?_sizes?|n_\w+"


def check_entry(entry: Mapping[str, Any], known: Collection[str], source: Source, where: str) -> None:
    """Refuse keys of one feature's entry that nobody reads; with the framework's own scores they are only noted."""
    for key in entry:
        if key in known or re.fullmatch(REMARKS, key):
            continue
        if not source.proven:
            raise ConversionError(f"{where}: {key} is not understood. Remove it if it says nothing about the network, or bring "
                                  "the framework's own scores with --samples")
        source.note(f"{where}: {key} is not understood; the samples' scores tell whether it matters")


def required(architecture: Mapping[str, Any], key: str) -> Any:
    """A value that the architecture file must give, because the tensors cannot."""
    if key not in architecture:
        raise ConversionError(f"architecture key {key} is missing")
    return architecture[key]


def one_of(architecture: Mapping[str, Any], key: str, choices: Collection[str]) -> str:
    """A required choice among names."""
    value = required(architecture, key)
    if value not in choices:
        raise ConversionError(f"architecture key {key} is {value!r}, not one of {', '.join(choices)}")
    return value
