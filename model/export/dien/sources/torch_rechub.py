"""torch-rechub's DIEN (datawhalechina/torch-rechub) from 0.8.0 on.

Each history feature has its own interest: nn.GRU, bilinear attention on the target feature of the same place, and an AUGRU
(a u). This AUGRU has nine matrices, multiplied from the right, and no bias inside the reset product. The Dice of the top
takes its statistics across the units of each row. Versions 0.4 to 0.7 start their AUGRU from a random state, so that they
have no score to reproduce. They are recognised by the attention matrix inside the cell.
"""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.fold import torch_cell
from dien.sources.layers import check_units, recurrence, sequential
from dien.sources.source import ConversionError, Source, check_entry, required

RULES: dict[str, rules.Rule] = {
    "features": rules.features, "target_features": rules.features, "history_features": rules.features,
    "neg_history_features": rules.optional(rules.features), "mlp_params": rules.mapping, "max_length": rules.length,
    "mlp_input_order": rules.names, "batch_norm_eps": rules.positive, "dice_eps": rules.positive, "groups": rules.groups,
    "history_labels": rules.anything}
MLP_KEYS = ("dims", "dropout", "activation", "output_layer")
FEATURE_KEYS = ("name", "type", "vocab_size", "embed_dim", "pooling", "shared_with", "padding_idx", "max_length")
BATCH_NORM_EPSILON = 1e-5
DICE_EPSILON = 1e-3
KEEP = "last"    # the package's pad_sequences cuts the front
UNKNOWN_ROW = 0  # the padding's row, of zeros


def _features(architecture: Mapping[str, Any], source: Source, key: str) -> list[dict[str, Any]]:
    features = required(architecture, key)
    for feature in features:
        check_entry(feature, FEATURE_KEYS, source, f"architecture key {key}, {feature.get('name')}")
    return features


def _field(source: Source, model: Model, feature: Mapping[str, Any], groups: list[str]) -> None:
    """A sparse or dense feature."""
    name, kind = feature["name"], feature.get("type", "sparse")
    if kind == "dense":
        model.dense(name, int(feature.get("embed_dim", 1)), groups)
    elif kind == "sparse":
        model.categorical(name, _table(source, model, feature), UNKNOWN_ROW, groups)
    else:
        raise ConversionError(f"feature {name}: a {kind} feature outside the histories has no equivalent here")


def _table(source: Source, model: Model, feature: Mapping[str, Any]) -> str:
    owner = feature.get("shared_with") or feature["name"]
    if owner in model.config["tables"]:
        return owner
    return model.table(owner, source.take(f"embedding.embed_dict.{owner}.weight", (-1, feature.get("embed_dim", -1))))


def _interest(architecture: Mapping[str, Any], source: Source, model: Model, place: int, keep: Optional[str]) -> str:
    """The interest of the history and the target feature at this place."""
    feature, target = architecture["history_features"][place], architecture["target_features"][place]
    table = _table(source, model, feature)
    name = model.behaviour_name(feature["name"], table, target["name"])
    model.categorical(name, table, UNKNOWN_ROW, ["behaviour"])
    if feature.get("padding_idx") is None:
        source.note(f"history {feature['name']} has no padding_idx: torch-rechub lets its padding count as behaviours, "
                    "these scores are those of unpadded histories")
    extractor = recurrence(source, f"interest_extractor_layers.{place}", model.width(name))
    prefix = f"interest_evolving_layers.{place}"
    width = extractor["weight_hidden"].shape[1]

    def rows(letter: str) -> np.ndarray:
        return np.concatenate([source.take(f"{prefix}.augru_cell.{letter}{gate}", (width, width)).T for gate in "ruh"])

    bias = np.concatenate([source.take(f"{prefix}.augru_cell.b{gate}", (1, width))[0] for gate in "ruh"])
    evolution = torch_cell(rows("W"), rows("U"), bias, np.zeros_like(bias), order="ruc")
    lengths = architecture["max_length"] if "max_length" in architecture else feature.get("max_length")
    if lengths is None:
        raise ConversionError("architecture key max_length is missing")
    length = lengths.get(feature["name"], lengths.get(name)) if isinstance(lengths, dict) else lengths
    title = model.new_interest(name)
    interest = model.interest(title, [name], [target["name"]], length, keep or KEEP, extractor, evolution, "augru-and")
    interest["attention"] = {"kind": "bilinear", "normalise": "softmax"}
    model.tensors[f"interests.{title}.attention.matrix"] = source.take(f"{prefix}.Wa", (width, width))
    return f"interest.{title}"


def _check(architecture: Mapping[str, Any], source: Source) -> None:
    rules.check(architecture, RULES, source)
    old = [name for name in source.left if name.endswith("augru_cell.Wa")]
    if old:
        raise ConversionError(f"tensor {old[0]}: this is torch-rechub 0.4 to 0.7, whose AUGRU starts from a random state at "
                              "every call, so the model has no score of its own. Train it again with 0.8.0 or later")
    check_entry(architecture.get("mlp_params", {}), MLP_KEYS, source, "architecture key mlp_params")
    if str(architecture.get("mlp_params", {}).get("activation", "dice")).lower() != "dice":
        raise ConversionError("architecture key mlp_params: torch-rechub's DIEN has Dice and no other activation")


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    _check(architecture, source)
    groups = groups_of(architecture)
    model = Model(source, architecture, "torch-rechub", groups)
    features, targets = _features(architecture, source, "features"), _features(architecture, source, "target_features")
    histories = _features(architecture, source, "history_features")
    if len(targets) < len(histories):
        raise ConversionError(f"{len(histories)} history features for {len(targets)} target features")
    for feature in [*targets, *features]:
        where = [group for group in ("user", "context", "candidate") if feature["name"] in groups[group]]
        if not where:
            raise ConversionError(f"groups: feature {feature['name']} is in none of user, context and candidate")
        _field(source, model, feature, where)
    inputs = [_interest(architecture, source, model, place, options["keep"]) for place in range(len(histories))]
    for feature in architecture.get("neg_history_features") or []:
        source.drop(rf"embedding[.]embed_dict[.]{re.escape(feature['name'])}[.]weight", "the auxiliary loss's negatives")
    inputs += [f"candidate.{feature['name']}" for feature in targets]
    for dense in (False, True):  # the package puts all dense values behind the embeddings
        inputs += [f"{model.group_of(feature['name'])}.{feature['name']}" for feature in features
                   if (feature.get("type") == "dense") == dense]
    if architecture.get("batch_norm_eps", BATCH_NORM_EPSILON) != BATCH_NORM_EPSILON:
        raise ConversionError(f"architecture key batch_norm_eps: torch-rechub's is {BATCH_NORM_EPSILON}")
    layers = sequential(source, "mlp.mlp", sum(map(model.input_width, inputs)), None, DICE_EPSILON,
                        architecture.get("dice_eps", DICE_EPSILON))
    check_units(layers[:-1], architecture.get("mlp_params", {}).get("dims"), "mlp_params.dims")
    model.mlp(inputs, layers)
    return model.finish()
