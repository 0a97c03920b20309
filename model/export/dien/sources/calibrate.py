"""Freezes the statistics of a Dice that takes them from each batch, on requests that stand for its data."""
from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dien.model.config import Config
from dien.model.model_directory import Scorer
from dien.model.network import DIEN
from dien.model.wire import Request
from dien.sources.fold import Norm


class _Recorder(DIEN):
    """Keeps the input of each Dice."""

    def __init__(self, config: Config, dtype: torch.dtype):
        super().__init__(config, dtype)
        self.seen: dict[str, list[np.ndarray]] = {}

    def _dice(self, prefix: str, x: Tensor) -> Tensor:
        self.seen.setdefault(prefix, []).append(x.detach().reshape(-1, x.shape[-1]).numpy().copy())
        return super()._dice(prefix, x)


def freeze(config: Config, tensors: dict[str, np.ndarray], layers: Sequence[str],
           statistics: Callable[[np.ndarray], Norm], requests: Sequence[Request]) -> int:
    """Set the gain and offset of the layers. Returns the number of (user, candidate) pairs.

    Each layer is set from its inputs after the layers before it have been frozen. The scores of these requests are then
    the scores that they would have as one batch.
    """
    rows = 0
    for layer in layers:
        scorer = Scorer(config, tensors, network=_Recorder)
        for request in requests:
            scorer.score(request)
        x = np.concatenate(scorer.network.seen[layer])
        norm = statistics(x)
        tensors[f"{layer}.gain"], tensors[f"{layer}.offset"] = norm.gain, norm.offset
        rows = len(x)
    return rows
