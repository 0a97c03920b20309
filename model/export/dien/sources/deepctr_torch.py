"""DeepCTR-Torch's DIEN (shenweichen/DeepCTR-Torch).

The extractor is nn.GRU. For GRU (attention pools its states) and AIGRU the evolution is nn.GRU too. For AGRU and AUGRU
(a u) it is the package's own cell, which has torch's gate order but an update gate that writes. BatchNorm stands after the
linear layer. Feature columns keep the order in which they were declared.
"""
from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources import feature_columns as columns
from dien.sources.builder import Model, groups_of
from dien.sources.layers import Layer, activate, check_units, linear, norm, recurrence
from dien.sources.source import ConversionError, Source, one_of, required

CELLS = {"GRU": "gru+pooling", "AIGRU": "aigru", "AGRU": "agru", "AUGRU": "augru-and"}
RULES: dict[str, rules.Rule] = {
    "gru_type": rules.anything, "item_features": rules.names, "max_length": rules.length, "att_hidden_units": rules.units,
    "att_activation": rules.text, "att_weight_normalization": rules.flag, "dnn_hidden_units": rules.units,
    "dnn_activation": rules.text, "use_bn": rules.flag, "sparse_features": rules.names, "dense_features": rules.names,
    "dense_dimensions": rules.named(rules.count, "integers"), "feature_order": rules.names,
    "embedding_names": rules.named(rules.text, "names"), "groups": rules.groups, "task": rules.anything}
DICE_EPSILON = 1e-8
KEEP = "last"      # the package takes arrays of a fixed length; Keras's pad_sequences, which its examples use, cuts the front


def _stack(source: Source, prefix: str, inputs: int, activation: str, use_bn: bool) -> list[Layer]:
    """The package's DNN: lists of linears, of BatchNorms and of activations side by side."""
    layers: list[Layer] = []
    while source.under(f"{prefix}.linears.{len(layers)}."):
        place = len(layers)
        layer = linear(source, f"{prefix}.linears.{place}", inputs)
        if use_bn:
            layer.norm_output(norm(source, f"{prefix}.bn.{place}", layer.units))
        activate(source, layer, f"{prefix}.activation_layers.{place}", activation, DICE_EPSILON)
        layers.append(layer)
        inputs = layer.units
    if not layers:
        raise ConversionError(f"tensor {prefix}.linears.0.weight is missing")
    return layers


def _key(named: str) -> str:
    """The tensor of an embedding."""
    return f"embedding_dict.{named}.weight"


def _drop_unread(source: Source, widths_are_given: bool) -> None:
    """Embeddings of multi-valued features that are no history: the package makes them, and its DIEN never reads them.

    A sparse feature that the architecture file forgot would look the same, if a dense feature could take up its width.
    """
    left = source.under("embedding_dict.")
    if left and not widths_are_given:
        raise ConversionError(f"tensor embedding_dict.{left[0]}: it is of a multi-valued feature, which this DIEN does not read, "
                              "or of a feature that sparse_features lacks: add dense_dimensions, which tells them apart")
    source.drop(r"embedding_dict[.].*", "a multi-valued feature that is no history: DeepCTR-Torch's DIEN never reads it")


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    if architecture.get("task", "binary") != "binary":
        raise ConversionError(f"architecture key task is {architecture['task']!r}: "
                              "only binary has a sigmoid of the logit as score")
    cell = CELLS[one_of(architecture, "gru_type", CELLS)]
    source.drop(r"interest_extractor[.]auxiliary_net[.].*", "the auxiliary loss's net")
    source.drop(r"embedding_dict[.]neg_hist_.*", "the auxiliary loss's negatives")
    model = Model(source, architecture, "deepctr-torch", groups_of(architecture))
    required(architecture, "sparse_features")
    sparse, dense = columns.declared(architecture, "sparse_features"), columns.declared(architecture, "dense_features")
    columns.sparse_fields(architecture, source, model, sparse, _key)
    items = required(architecture, "item_features")
    target = [feature for feature in sparse if feature in items]  # the order of the columns, not of the list
    if sorted(target) != sorted(items):
        raise ConversionError("architecture key item_features: each of them must be one of sparse_features")
    history = list(columns.histories(architecture, source, model, target, _key).values())
    extractor = recurrence(source, "interest_extractor.gru", sum(map(model.width, history)))
    prefix, width = "interest_evolution.interest_evolution", extractor["weight_hidden"].shape[1]
    evolution = recurrence(source, f"{prefix}.rnn", width, "", "ruc") if cell in ("agru", "augru-and") else \
        recurrence(source, prefix, width)
    interest = model.interest("interest", history, target, required(architecture, "max_length"), options["keep"] or KEEP,
                              extractor, evolution, cell)
    units = interest["extractor"]["units"]
    unit = "interest_evolution.attention.local_att"
    attention = _stack(source, f"{unit}.dnn", 4 * units, required(architecture, "att_activation"), False)
    check_units(attention, architecture.get("att_hidden_units"), "att_hidden_units")
    attention.append(linear(source, f"{unit}.dense", attention[-1].units, 1))
    interest["attention"] = {
        "kind": "mlp", "inputs": ["q", "k", "q-k", "q*k"],
        "layers": model.stack("interests.interest.attention", attention),
        "normalise": "softmax" if required(architecture, "att_weight_normalization") else "none"}
    first = "dnn.linears.0.weight"
    rest = source.shape(first)[1] - units - sum(model.width(name) for name in sparse)
    sure = columns.dense_fields(architecture, model, dense, rest, first)
    _drop_unread(source, sure)
    layers = _stack(source, "dnn", source.shape(first)[1], required(architecture, "dnn_activation"),
                    bool(required(architecture, "use_bn")))
    check_units(layers, architecture.get("dnn_hidden_units"), "dnn_hidden_units")
    last = linear(source, "linear", layers[-1].units, 1, bias=False)
    last.bias = source.take("out.bias", (1,))
    model.mlp(["interest.interest", *(f"{model.group_of(name)}.{name}" for name in [*sparse, *dense])],
              [*layers, last])
    return model.finish()
