"""Rewrites in float64 that keep the function: BatchNorm is folded into a linear layer, cells take our form."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Norm(NamedTuple):
    """A BatchNorm at inference: gain * x + offset."""

    gain: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, *,
           epsilon: float) -> "Norm":
        gain = gamma / np.sqrt(variance + epsilon)
        return cls(gain, beta - mean * gain)


def norm_before(weight: np.ndarray, bias: np.ndarray, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """One linear layer [out, in] for BatchNorm followed by this layer."""
    return weight * norm.gain, bias + weight @ norm.offset


def norm_after(weight: np.ndarray, bias: np.ndarray, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """One linear layer [out, in] for this layer followed by BatchNorm."""
    return weight * norm.gain[:, None], bias * norm.gain + norm.offset


def batch_norm_before(weight: np.ndarray, bias: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
                      variance: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """norm_before() of BatchNorm's own parameters."""
    return norm_before(weight, bias, Norm.of(gamma, beta, mean, variance, epsilon=epsilon))


def tf1_cell(gates: np.ndarray, gates_bias: np.ndarray, candidate: np.ndarray, candidate_bias: np.ndarray, *,
             inputs: int) -> dict[str, np.ndarray]:
    """A TensorFlow 1 GRU cell in our form.

    The cell's kernels are [inputs + units, out], with reset before update. Its update gate keeps the old state,
    h' = u h + (1 - u) c, so that the write gate is v = 1 - u = sigmoid(-x).
    """
    reset, keep = np.split(gates.T, 2)
    rows = np.concatenate([reset, -keep, candidate.T])
    reset_bias, keep_bias = np.split(gates_bias, 2)
    return {"weight_input": rows[:, :inputs], "weight_hidden": rows[:, inputs:],
            "bias": np.concatenate([reset_bias, -keep_bias, candidate_bias])}


def torch_cell(weight_input: np.ndarray, weight_hidden: np.ndarray, bias_input: np.ndarray, bias_hidden: np.ndarray, *,
               order: str = "rzc") -> dict[str, np.ndarray]:
    """A cell with the reset gate after the recurrent product, in our form.

    `order` names the gates in the order of the rows: r is reset, c the candidate, u an update gate that writes, and z an
    update gate that keeps the old state, so that v = 1 - z = sigmoid(-x).
    """
    def sorted_rows(rows: np.ndarray) -> np.ndarray:
        part = dict(zip(order, np.split(rows, 3)))
        return np.concatenate([part["r"], -part["z"] if "z" in part else part["u"], part["c"]])

    hidden = sorted_rows(bias_hidden)
    units = len(hidden) // 3
    summed = sorted_rows(bias_input)
    summed[:2 * units] += hidden[:2 * units]  # of the two biases only the candidate's are told apart
    return {"weight_input": sorted_rows(weight_input), "weight_hidden": sorted_rows(weight_hidden), "bias": summed,
            "bias_hidden": hidden[2 * units:]}
