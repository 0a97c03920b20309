"""The authors' TensorFlow 1 code (mouna99/dien): Model_DIN_V2_Gru_Vec_attGru_Neg, which is DIEN, and its siblings.

It is not the paper's network. The reset gate comes before the recurrent product. Attention is an MLP with a query layer.
The attention score shortens the update gate, u' = (1 - a) u, which is augru-or. Dice takes its statistics from each batch
and stores none. A Dice checkpoint therefore has no score of its own until data is given to freeze the statistics on. Names
of variables are matched by their ends, because the scopes around them differ and TensorFlow invents some of them.
"""
from __future__ import annotations

import re
from typing import Any, Mapping

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.fold import Norm
from dien.sources.layers import Layer
from dien.sources.source import ConversionError, Source, required
from dien.sources.tensorflow_cell import cell, part
from dien.sources.tensorflow_checkpoint import OPTIMISER

FIELDS = {"uid": "user", "mid": "item", "cat": "item"}
# The class of the model, which train.py chooses, determines the evolution. The tensors do not show it.
CELLS = {"Gru_Vec_attGru": "augru-or", "Gru_QA_attGru": "agru", "Gru_att_Gru": "aigru", "Gru_Gru_att": "gru+pooling"}
RULES: dict[str, rules.Rule] = {
    "n_uid": rules.count, "n_mid": rules.count, "n_cat": rules.count, "EMBEDDING_DIM": rules.count,
    "HIDDEN_SIZE": rules.count, "ATTENTION_SIZE": rules.count, "use_dice": rules.flag, "max_length": rules.length,
    "batch_norm_eps": rules.positive, "mlp_input_order": rules.names, "groups": rules.groups, "model": rules.text}
INPUT_ORDER = ("uid", "item(mid,cat)", "sum over history(mid,cat)", "item*sum", "final_state2")
AUXILIARY = r"(.*/)?(bn1gru|f[123]gru)/.*"
BATCH_NORM_EPSILON = 1e-3
KEEP = "last"
UNKNOWN_ROW = 0  # the data iterator gives 0 to ids that its vocabularies lack; user 0 is the most frequent one


def _named(source: Source, name: str) -> str:
    """The variable whose name is this, or ends in it under scopes of its own."""
    found = [each for each in source.left if each == name or each.endswith(f"/{name}")]
    if not found:
        raise ConversionError(f"tensor {name} is missing")
    if len(found) > 1 and name not in found:
        raise ConversionError(f"tensor {name}: {', '.join(found)} where one was expected")
    return name if name in found else found[0]


def _dense(source: Source, scope: str, inputs: int, units: int = -1) -> Layer:
    weight = source.take(_named(source, f"{scope}/kernel"), (inputs, units)).T
    return Layer(weight, source.take(_named(source, f"{scope}/bias"), (len(weight),)))


def _alpha(source: Source, expected: str, units: int) -> np.ndarray:
    """The slopes of a PReLU.

    TensorFlow invents the name of the scope (prelu_, prelu1/prelu_prelu1, prelu_1/prelu). If the expected name is missing,
    the only PReLU of this size is taken.
    """
    found = [name for name in source.left if name == expected or name.endswith(f"/{expected}")]
    if not found:
        found = [name for name in source.left
                 if re.fullmatch(r"(.*/)?prelu\w*(/prelu\w*)?", name) and source.left[name].shape == (units,)]
    if len(found) != 1:
        raise ConversionError(f"tensor {expected} is missing" if not found else f"{expected}: one of {', '.join(found)}?")
    return source.take(found[0], (units,))


def _top(source: Source, inputs: int, epsilon: float, dice: bool) -> list[Layer]:
    """The MLP, with the BatchNorm of its input folded into its first layer."""
    layers = []
    for place in (1, 2, 3):
        layer = _dense(source, f"f{place}", inputs)
        if place == 1:
            parts = (source.take(_named(source, f"bn1/{name}"), (inputs,))
                     for name in ("gamma", "beta", "moving_mean", "moving_variance"))
            layer.norm_input(Norm.of(*parts, epsilon=epsilon))
        if place < 3 and dice:
            alpha = source.take(_named(source, f"dice_{place}/alphadice_{place}"), (layer.units,))
            layer.activate("dice", alpha=alpha, gain=np.ones(1), offset=np.zeros(1))  # until they are calibrated
        elif place < 3:
            layer.activate("prelu", alpha=_alpha(source, f"prelu{place}/prelu_prelu{place}", layer.units))
        layers.append(layer)
        inputs = layer.units
    return layers


def _attention(source: Source, model: Model, target: int, units: int) -> Config:
    query = _dense(source, "f11_1", target, units)
    query.activate("prelu", alpha=_alpha(source, "prelu_", units))
    layers, width = [], 4 * units
    for place in (1, 2, 3):
        layer = _dense(source, f"f{place}_att1_1", width)
        if place < 3:
            layer.activate("sigmoid")
        layers.append(layer)
        width = layer.units
    prefix = "interests.interest.attention"
    return {"kind": "mlp", "query": model.layer(f"{prefix}.query", query), "inputs": ["q", "k", "q-k", "q*k"],
            "layers": model.stack(prefix, layers), "normalise": "softmax"}


def _evolution(architecture: Mapping[str, Any], source: Source) -> str:
    """The evolution cell, by the class that the architecture file names."""
    named = f"{architecture.get('model', '')} {architecture.get('source', '')}"
    found = [cell for name, cell in CELLS.items() if name in named]
    if not found:
        source.note("the architecture file names no class of model.py: taken as Model_DIN_V2_Gru_Vec_attGru_Neg, DIEN")
    return found[0] if found else "augru-or"


def _inputs(architecture: Mapping[str, Any]) -> list[str]:
    """The MLP's inputs in their order, which the architecture file may spell out."""
    ours = {"uid": ["user.uid"], "item(mid,cat)": ["candidate.mid", "candidate.cat"],
            "sum over history(mid,cat)": ["history_sum.interest"], "item*sum": ["product.interest"],
            "final_state2": ["interest.interest"], "final_state": ["interest.interest"], "att_fea": ["interest.interest"]}
    inputs = []
    for name in architecture.get("mlp_input_order", INPUT_ORDER):
        if name not in ours:
            raise ConversionError(f"architecture key mlp_input_order: {name} is not one of {', '.join(ours)}")
        inputs += ours[name]
    return inputs


def _embeddings(source: Source, model: Model, vocabularies: Mapping[str, Mapping[str, int]]) -> None:
    """The three tables, and the vocabularies that the authors' scripts pickle beside the data."""
    for name, kind in FIELDS.items():
        table = model.table(name, source.take(_named(source, f"{name}_embedding_var"), (-1, -1)))
        rows = model.config["tables"][table]["rows"]
        vocabulary = ""
        if name in vocabularies:
            places = {row: text for text, row in vocabularies[name].items()}
            if sorted(places) != list(range(rows)) or len(places) != len(vocabularies[name]):
                raise ConversionError(f"vocabulary of {name}: its {len(vocabularies[name])} entries are not "
                                      f"the table's rows 0 to {rows - 1}")
            vocabulary = model.vocabulary(name, [places[row] for row in range(rows)])
        model.categorical(name, table, UNKNOWN_ROW, ["user"] if kind == "user" else ["behaviour", "candidate"], vocabulary)


def dice_statistics(x: np.ndarray) -> Norm:
    """The authors' Dice over a batch [rows, units]: epsilon within the mean of squares, and again beside its root."""
    epsilon = 1e-9
    mean = x.mean(0)
    gain = 1 / (np.sqrt((np.square(x - mean) + epsilon).mean(0)) + epsilon)
    return Norm(gain, -mean * gain)


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    dice = bool(architecture.get("use_dice")) or any("dice" in name for name in source.left)
    if dice and not options["calibrate"]:
        raise ConversionError("this Dice takes its statistics from each batch and stores none, so there is nothing to freeze: "
                              "give requests to take them from with --calibrate FILE")
    source.drop(OPTIMISER, "the optimiser's")
    source.drop(AUXILIARY, "the auxiliary loss's net")
    groups: dict[str, list[str]] = {"user": ["uid"], "context": [], "behaviour": ["mid", "cat"], "candidate": ["mid", "cat"]}
    if "groups" in architecture and {name: sorted(each) for name, each in groups_of(architecture).items()} \
            != {name: sorted(each) for name, each in groups.items()}:
        raise ConversionError("architecture key groups: the authors' model has user uid, behaviour and candidate mid and cat")
    model = Model(source, architecture, "reference-tf1", groups)
    _embeddings(source, model, options["vocabularies"])
    items = ["mid", "cat"]
    width = sum(model.width(name) for name in items)
    units = source.shape(part(source, "gru1", "candidate/kernel"))[1]
    for key, value in (("EMBEDDING_DIM", model.width("mid")), ("HIDDEN_SIZE", units)):
        if architecture.get(key, value) != value:
            raise ConversionError(f"architecture key {key} is {architecture[key]}, the tensors have {value}")
    evolution = _evolution(architecture, source)
    interest = model.interest("interest", items, items, required(architecture, "max_length"), options["keep"] or KEEP,
                              cell(source, "gru1", width, units), cell(source, "gru2", units, units), evolution)
    interest["attention"] = _attention(source, model, width, units)
    inputs = _inputs(architecture)
    layers = _top(source, sum(map(model.input_width, inputs)), architecture.get("batch_norm_eps", BATCH_NORM_EPSILON), dice)
    model.mlp(inputs, layers)
    model.config["output"] = {"kind": "softmax", "positive": 0}
    if dice:
        source.calibrate = (["mlp.layers.0", "mlp.layers.1"], dice_statistics)
        source.note("Dice: its statistics are frozen on the requests of --calibrate")
    return model.finish()
