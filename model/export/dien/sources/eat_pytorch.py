"""The DIEN of lyhue1991's eat_pytorch_in_20_days (notebook 7-8), a descendant of prediction-flow's.

Its AUGRU cell multiplies the attention with a gate that writes, in the order update, reset, candidate. Its AGRU cell has no
update gate at all. It has no shared tables, and its output is a logit.
"""
from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources import prediction_flow
from dien.sources.fold import torch_cell
from dien.sources.layers import recurrence
from dien.sources.source import ConversionError, Source

RENAMED = {"num_features": "number_features", "cat_features": "category_features", "seq_features": "sequence_features"}
RULES: dict[str, rules.Rule] = {
    **{own: prediction_flow.RULES[name] for own, name in RENAMED.items()},
    **{key: prediction_flow.RULES[key] for key in ("attention_groups", "max_length", "groups", "use_negsampling")},
    "mlp_hidden_layers": rules.units, "mlp_activation": rules.optional(rules.text), "d_out": rules.count,
    "cat_nums": rules.mapping}


class Dialect(prediction_flow.Dialect):
    """The notebook's names, and its cells."""

    framework = "eat-pytorch"
    layers = "mlp"
    cells = {**prediction_flow.CELLS, "AUGRU": "augru-and"}
    hidden = "mlp_hidden_layers"
    activation = "mlp_activation"

    def evolution(self, source: Source, prefix: str, gru_type: str, units: int) -> dict[str, np.ndarray]:
        """The second recurrence; AGRU's cell has the rows of two gates."""
        if gru_type in ("GRU", "AIGRU"):
            return recurrence(source, prefix, units)
        if gru_type == "AUGRU":
            return recurrence(source, f"{prefix}.rnn", units, suffix="", order="urc")
        parts = []
        for name, shape in (("weight_ih", (2 * units, units)), ("weight_hh", (2 * units, units)), ("bias_ih", (2 * units,)),
                            ("bias_hh", (2 * units,))):
            reset, candidate = np.split(source.take(f"{prefix}.rnn.{name}", shape), 2)
            parts.append(np.concatenate([reset, np.zeros_like(reset), candidate]))
        return torch_cell(*parts, order="ruc")

    def check(self, architecture: Mapping[str, Any]) -> None:
        """Refuse an output of several units."""
        if architecture.get("d_out", 1) != 1:
            raise ConversionError(f"architecture key d_out is {architecture['d_out']}: a probability of a click is one logit")


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    renamed = {RENAMED.get(key, key): value for key, value in architecture.items()}
    return prediction_flow.convert_dialect(renamed, source, options, Dialect(), {**prediction_flow.RULES, **RULES})
