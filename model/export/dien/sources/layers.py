"""Stacks of layers in PyTorch state dicts: linear layers, BatchNorm, and activations with parameters of their own."""
from __future__ import annotations

import re
from typing import Any, Optional, Sequence, Union

import numpy as np

from dien.sources.fold import Norm, norm_after, norm_before, torch_cell
from dien.sources.source import ConversionError, Source

BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, which all four frameworks leave
LEAKY_SLOPE = 0.01         # torch.nn.LeakyReLU's default
PLAIN = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "silu": "silu", "swish": "silu", "linear": "linear",
         "identity": "linear", "none": "linear", "prelu": "prelu", "dice": "dice", "leakyrelu": "prelu"}
Names = Union[None, str, Sequence[Optional[str]]]


class Layer:
    """One layer of ours: config entry and tensors."""

    def __init__(self, weight: np.ndarray, bias: Optional[np.ndarray] = None):
        self.weight = weight
        self.bias = np.zeros(len(weight)) if bias is None else bias
        self.activation = "linear"
        self.more: dict[str, Any] = {}                # config keys beside the activation
        self.parameters: dict[str, np.ndarray] = {}   # the activation's tensors
        self.norms: list[str] = []                    # where a BatchNorm was folded in, for --inspect

    @property
    def units(self) -> int:
        return len(self.weight)

    def norm_output(self, norm: Norm) -> None:
        """Fold in a BatchNorm between this layer's product and its activation."""
        self.weight, self.bias = norm_after(self.weight, self.bias, norm)
        self.norms.append("after")

    def norm_input(self, norm: Norm) -> None:
        """Fold in a BatchNorm of this layer's input."""
        self.weight, self.bias = norm_before(self.weight, self.bias, norm)
        self.norms.append("before")

    def activate(self, kind: str, **parameters: np.ndarray) -> None:
        """Set the activation; a parameter of one value stands for all units."""
        self.activation = kind
        self.parameters = {name: np.broadcast_to(value.reshape(-1), (self.units,)) for name, value in parameters.items()}


def activation_name(name: Optional[str]) -> str:
    """A framework's name of an activation as FORMAT.md's."""
    known = PLAIN.get(str(name).lower())
    if known is None:
        raise ConversionError(f"activation {name} has no equivalent here: {', '.join(sorted(set(PLAIN.values())))}")
    return known


def linear(source: Source, prefix: str, inputs: int, units: int = -1, bias: bool = True) -> Layer:
    """torch.nn.Linear, with or without a bias."""
    weight = source.take(f"{prefix}.weight", (units, inputs))
    return Layer(weight, source.take(f"{prefix}.bias", (len(weight),)) if bias else None)


def recurrence(source: Source, prefix: str, inputs: int, suffix: str = "_l0", order: str = "rzc") -> dict[str, np.ndarray]:
    """torch.nn.GRU of one layer, or a cell that names its parameters alike, with its gates in this order."""
    units = source.shape(f"{prefix}.weight_hh{suffix}")[-1]
    shapes = {"weight_ih": (3 * units, inputs), "weight_hh": (3 * units, units), "bias_ih": (3 * units,), "bias_hh": (3 * units,)}
    return torch_cell(*(source.take(f"{prefix}.{name}{suffix}", shape) for name, shape in shapes.items()), order=order)


def norm(source: Source, prefix: str, units: int, epsilon: float = BATCH_NORM_EPSILON, affine: bool = True) -> Norm:
    """torch.nn.BatchNorm1d with its running statistics, with or without affine parameters."""
    source.drop(rf"{re.escape(prefix)}[.]num_batches_tracked", "a count of batches")
    gamma = source.take(f"{prefix}.weight", (units,)) if affine else np.ones(units)
    beta = source.take(f"{prefix}.bias", (units,)) if affine else np.zeros(units)
    return Norm.of(gamma, beta, source.take(f"{prefix}.running_mean", (units,)),
                   source.take(f"{prefix}.running_var", (units,)), epsilon=epsilon)


def activate(source: Source, layer: Layer, prefix: str, name: Optional[str], dice_epsilon: float) -> None:
    """Give a layer the activation of this name, whose parameters, if it has any, are under `prefix`."""
    kind = activation_name(name)
    if str(name).lower() == "leakyrelu":
        layer.activate("prelu", alpha=np.array([LEAKY_SLOPE]))
    elif kind == "prelu":
        layer.activate("prelu", alpha=source.take(f"{prefix}.weight"))
    elif kind == "dice":
        alpha = source.take(f"{prefix}.alpha")
        affine = source.has(f"{prefix}.bn.weight") or source.has(f"{prefix}.bn.bias")
        statistics = norm(source, f"{prefix}.bn", layer.units, dice_epsilon, affine)
        layer.activate("dice", alpha=alpha, gain=statistics.gain, offset=statistics.offset)
    else:
        layer.activate(kind)


def per_layer(names: Names, count: int) -> list[Optional[str]]:
    """One activation's name for each hidden layer."""
    if names is None or isinstance(names, str):
        return [names] * count
    if len(names) != count:
        raise ConversionError(f"{len(names)} activations for {count} hidden layers")
    return list(names)


def check_units(layers: Sequence[Layer], units: Optional[Sequence[int]], what: str) -> None:
    """The sizes in the architecture file must agree with those of the tensors."""
    have = [layer.units for layer in layers]
    if units is not None and list(units) != have:
        raise ConversionError(f"{what}: the architecture file says {list(units)}, the tensors have {have}")


class _Sequential:
    """Reads torch.nn.Sequential: modules by their places; those without parameters leave only a gap."""

    def __init__(self, source: Source, prefix: str):
        self.source, self.prefix = source, prefix
        self.parts: dict[int, set[str]] = {}
        for name in source.under(f"{prefix}."):
            place, _, part = name.partition(".")
            if not place.isdigit():
                raise ConversionError(f"no use for tensor {prefix}.{name}")
            self.parts.setdefault(int(place), set()).add(part)

    def kind(self, place: int) -> str:
        parts = self.parts.get(place, set())
        if any(part == "alpha" or part.startswith("bn.") for part in parts):
            return "dice"
        if parts & {"running_mean", "running_var", "num_batches_tracked"}:
            return "norm"
        if not parts:
            return "none"
        return "linear" if len(self.source.shape(f"{self.prefix}.{place}.weight")) == 2 else "prelu"


def sequential(source: Source, prefix: str, inputs: int, activations: Names, dice_epsilon: float,
               row_epsilon: Optional[float] = None, last_linear: bool = True) -> list[Layer]:
    """The layers of a Sequential of Linear, BatchNorm, activation, Dropout in that order; only Linear is required.

    With `last_linear` the last Linear has no activation. A BatchNorm ahead of the first Linear belongs to the input.
    """
    modules = _Sequential(source, prefix)
    places = [place for place in sorted(modules.parts) if modules.kind(place) == "linear"]
    if not places:
        raise ConversionError(f"tensor {prefix}.0.weight is missing")
    first = [place for place in sorted(modules.parts) if place < places[0]]
    names = per_layer(activations, len(places) - last_linear)
    entry = [norm(source, f"{prefix}.{place}", inputs) for place in first if modules.kind(place) == "norm"]
    layers = []
    for i, place in enumerate(places):
        layer = linear(source, f"{prefix}.{place}", inputs)
        for each in entry:
            layer.norm_input(each)
        entry = []
        if i < len(names):
            after = place + 1
            if modules.kind(after) == "norm":
                layer.norm_output(norm(source, f"{prefix}.{after}", layer.units))
                after += 1
            if row_epsilon is not None:
                layer.activate("dice-row", alpha=source.take(f"{prefix}.{after}.alpha"))
                layer.more["epsilon"] = row_epsilon
            else:
                activate(source, layer, f"{prefix}.{after}", names[i], dice_epsilon)
        layers.append(layer)
        inputs = layer.units
    return layers
