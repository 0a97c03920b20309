"""Rewrites that change the notation and not the function, in float64: BatchNorm into a linear layer, cells into ours."""
from __future__ import annotations

import numpy as np


def batch_norm_before(weight: np.ndarray, bias: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
                      variance: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear layer [out, in] that does the work of BatchNorm on its input and itself."""
    gain = gamma / np.sqrt(variance + epsilon)
    return weight * gain, bias + weight @ (beta - mean * gain)


def tf1_cell(gates: np.ndarray, gates_bias: np.ndarray, candidate: np.ndarray, candidate_bias: np.ndarray,
             inputs: int) -> dict[str, np.ndarray]:
    """A TensorFlow 1 GRU cell as ours. Its kernels are [inputs + units, out] with reset before update; its update gate
    keeps the old state, h' = u h + (1 - u) c, so that the write gate is v = 1 - u = sigmoid(-x)."""
    reset, keep = np.split(gates.T, 2)
    rows = np.concatenate([reset, -keep, candidate.T])
    reset_bias, keep_bias = np.split(gates_bias, 2)
    return {"weight_input": rows[:, :inputs], "weight_hidden": rows[:, inputs:],
            "bias": np.concatenate([reset_bias, -keep_bias, candidate_bias])}
