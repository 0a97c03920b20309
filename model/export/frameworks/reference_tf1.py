"""The authors' TensorFlow 1 code (mouna99/dien), class Model_DIN_V2_Gru_Vec_attGru_Neg with PReLU.

It is not the paper's network: the reset gate comes before the recurrent product, attention is an MLP with a query layer,
and the attention score shortens the update gate, u' = (1 - a) u, which is augru-or. Its Dice takes the statistics of
whatever batch it is given and stores none, so a Dice checkpoint has no score of its own and is refused.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from config import Config
from frameworks.fold import batch_norm_before, tf1_cell
from frameworks.source import ConversionError, Source

FIELDS = {"uid": "uid", "mid": "mid", "cat": "cat"}  # wire name: what the variable's name begins with
ATTENTION_LAYERS = (80, 40, 1)
MLP_LAYERS = (200, 80, 2)
OPTIMISER = r".*/Adam(_1)?|(.*/)?beta[12]_power|global_step"


def _config(architecture: dict[str, Any], rows: dict[str, int]) -> Config:
    width, units = architecture["EMBEDDING_DIM"], architecture["HIDDEN_SIZE"]
    attention = [{"units": n, "activation": "sigmoid"} for n in ATTENTION_LAYERS[:-1]]
    mlp = [{"units": n, "activation": "prelu"} for n in MLP_LAYERS[:-1]]
    return {
        "format": "dien/1", "name": architecture.get("name", "reference-tf1"), "version": architecture.get("version", "1"),
        "metadata": {"converted_from": architecture["source"]},
        "tables": {name: {"rows": rows[name], "width": width} for name in FIELDS},
        "fields": [{"name": name, "kind": "categorical", "table": name, "ids": "index", "unknown_row": 0}
                   for name in FIELDS],
        "groups": {"user": ["uid"], "behaviour": ["mid", "cat"], "candidate": ["mid", "cat"]},
        "interests": [{
            "name": "interest", "history": ["mid", "cat"], "target": ["mid", "cat"],
            "max_length": architecture["max_length"], "keep": "last",
            "extractor": {"cell": "gru", "units": units, "reset": "before"},
            "attention": {"kind": "mlp", "query": {"units": units, "activation": "prelu"},
                          "inputs": ["q", "k", "q-k", "q*k"],
                          "layers": [*attention, {"units": ATTENTION_LAYERS[-1], "activation": "linear"}],
                          "normalise": "softmax"},
            "evolution": {"cell": "augru-or", "units": units, "reset": "before"},
        }],
        "mlp": {"inputs": ["user.uid", "candidate.mid", "candidate.cat", "history_sum.interest", "product.interest",
                           "interest.interest"],
                "layers": [*mlp, {"units": MLP_LAYERS[-1], "activation": "linear"}]},
        "output": {"kind": "softmax", "positive": 0},
    }


def _dense(source: Source, scope: str, inputs: int, units: int) -> dict[str, np.ndarray]:
    return {"weight": source.take(f"{scope}/kernel", (inputs, units)).T, "bias": source.take(f"{scope}/bias", (units,))}


def _cell(source: Source, scope: str, inputs: int, units: int) -> dict[str, np.ndarray]:
    """A cell under `scope`; whether the cell's own name is part of its variables depends on the TensorFlow version."""
    gates = source.find(rf"{scope}/(\w*cell\w*/)?gates/kernel").rsplit("/", 1)[0]
    candidate = source.find(rf"{scope}/(\w*cell\w*/)?candidate/kernel").rsplit("/", 1)[0]
    return tf1_cell(source.take(f"{gates}/kernel", (inputs + units, 2 * units)),
                    source.take(f"{gates}/bias", (2 * units,)),
                    source.take(f"{candidate}/kernel", (inputs + units, units)),
                    source.take(f"{candidate}/bias", (units,)), inputs)


def _top(source: Source, inputs: int, epsilon: float) -> dict[str, np.ndarray]:
    """The MLP, with the BatchNorm of its input folded into its first layer."""
    tensors, width = {}, inputs
    for place, units in enumerate(MLP_LAYERS):
        layer = _dense(source, f"f{place + 1}", width, units)
        if place == 0:
            norm = (source.take(f"bn1/{name}", (inputs,)) for name in ("gamma", "beta", "moving_mean", "moving_variance"))
            layer["weight"], layer["bias"] = batch_norm_before(layer["weight"], layer["bias"], *norm, epsilon)
        if units != MLP_LAYERS[-1]:
            layer["alpha"] = source.take(f"prelu{place + 1}/prelu_prelu{place + 1}", (units,))
        tensors.update({f"mlp.layers.{place}.{name}": tensor for name, tensor in layer.items()})
        width = units
    return tensors


def _attention(source: Source, target: int, units: int) -> dict[str, np.ndarray]:
    query = _dense(source, "f11_1", target, units)
    query["alpha"] = source.take(source.find(r"(.*/)?prelu_"), (units,))  # its scope name is empty
    tensors, width = {f"query.{name}": tensor for name, tensor in query.items()}, 4 * units
    for place, layer_units in enumerate(ATTENTION_LAYERS):
        layer = _dense(source, f"f{place + 1}_att1_1", width, layer_units)
        tensors.update({f"layers.{place}.{name}": tensor for name, tensor in layer.items()})
        width = layer_units
    return tensors


def convert(architecture: dict[str, Any], source: Source) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    if architecture.get("use_dice") or any("dice" in name for name in source.left):
        raise ConversionError("this Dice takes its statistics from each batch and stores none: there is nothing to freeze")
    source.drop(OPTIMISER, "the optimiser's")
    source.drop(r"(bn1gru|f[123]gru)/.*", "the auxiliary loss's net")
    width, units = architecture["EMBEDDING_DIM"], architecture["HIDDEN_SIZE"]
    tensors = {f"tables.{name}": source.take(f"{stem}_embedding_var", (-1, width)) for name, stem in FIELDS.items()}
    parts = {"extractor": _cell(source, "gru1", 2 * width, units), "attention": _attention(source, 2 * width, units),
             "evolution": _cell(source, "gru2", units, units)}
    for part, weights in parts.items():
        tensors.update({f"interests.interest.{part}.{name}": tensor for name, tensor in weights.items()})
    tensors.update(_top(source, 7 * width + units, architecture["batch_norm_eps"]))
    rows = {name: tensors[f"tables.{name}"].shape[0] for name in FIELDS}
    return _config(architecture, rows), tensors
