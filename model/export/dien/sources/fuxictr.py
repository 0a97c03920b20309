"""FuxiCTR's DIEN (reczoo/FuxiCTR, model_zoo/DIEN).

Each pair of target and sequence fields has a complete stack: nn.GRU, attention, and an evolution. The evolution is nn.GRU
or FuxiCTR's own cell (a u). The gates of that cell come in the order update, reset, candidate, and its update gate writes.
The feature map describes each feature; the feature vocabulary gives the row of each token. Tables that share an embedding
are stored under every feature's name.
"""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.fold import torch_cell
from dien.sources.layers import check_units, recurrence, sequential
from dien.sources.source import ConversionError, Source, check_entry, one_of, required

CELLS = {"GRU": "gru", "AGRU": "agru", "AUGRU": "augru-and"}
KINDS = {"bilinear_attention": "bilinear", "dot_attention": "dot", "din_attention": "mlp"}
RULES: dict[str, rules.Rule] = {
    "gru_type": rules.anything, "attention_type": rules.anything, "use_attention_softmax": rules.flag,
    "attention_hidden_units": rules.units, "attention_activation": rules.activations, "enable_sum_pooling": rules.flag,
    "dnn_hidden_units": rules.units, "dnn_activations": rules.activations, "batch_norm": rules.flag,
    "embedding_dim": rules.count, "dien_target_field": rules.field_pairs, "dien_sequence_field": rules.field_pairs,
    "dien_neg_seq_field": rules.optional(rules.field_pairs), "feature_map": rules.either(rules.listed, rules.mapping),
    "feature_vocab": rules.mapping, "max_length": rules.lengths, "feature_order": rules.names,
    "mlp_input_order": rules.names, "batch_norm_eps": rules.positive, "dice_batch_norm_eps": rules.positive,
    "groups": rules.groups, "task": rules.anything}
SPEC_KEYS = ("source", "type", "padding_idx", "oov_idx", "vocab_size", "max_len", "share_embedding", "embedding_dim",
             "emb_output_dim", "feature_encoder", "pretrained_emb", "pretrain_dim", "pretrain_usage", "freeze_emb", "dtype",
             "min_categr_count", "normalizer", "fill_na", "splitter", "active", "padding", "remap", "preprocess")
DICE_EPSILON = 1e-9
KEEP = "first"  # FuxiCTR pads and cuts at the same end, by default the last
TABLE = "embedding_layer.embedding_layers"
ENCODER = "embedding_layer.feature_encoders"


def _names(field: Any) -> list[str]:
    """A field of dien_target_field or its siblings: a feature or a tuple of them."""
    return [field] if isinstance(field, str) else list(field)


def _pairs(architecture: Mapping[str, Any], key: str) -> list[list[str]]:
    """One of the lists of fields, each as the list of its features. A lone field may stand for its list."""
    fields = architecture.get(key) or []
    return [_names(field) for field in (fields if isinstance(fields, list) else [fields])]


def _feature_map(architecture: Mapping[str, Any], source: Source) -> dict[str, dict[str, Any]]:
    """Each feature's specification, in order, from feature_map.json or the list of features in it."""
    given = required(architecture, "feature_map")
    listed = given["features"] if isinstance(given, dict) and "features" in given else given
    entries = listed.items() if isinstance(listed, dict) else [pair for entry in listed for pair in entry.items()]
    features = dict(entries)
    for name, spec in features.items():
        check_entry(spec, SPEC_KEYS, source, f"feature map, {name}")
    return {name: spec for name, spec in features.items() if spec.get("type") != "meta"}


class _Features:
    """The embedding layer: every feature's table or vector, with projections and encoders folded in."""

    def __init__(self, source: Source, model: Model, specs: Mapping[str, Mapping[str, Any]],
                 vocabulary: Optional[Mapping[str, Mapping[str, int]]]):
        self.source, self.model, self.specs, self.vocabulary = source, model, specs, vocabulary
        self.raw: dict[str, np.ndarray] = {}  # before the encoders

    def _spec(self, name: str) -> Mapping[str, Any]:
        if name not in self.specs:
            raise ConversionError(f"feature map: feature {name} is missing")
        return self.specs[name]

    def unknown_row(self, name: str) -> int:
        """The row of tokens out of the vocabulary: the last, unless the feature map says otherwise."""
        spec = self._spec(name)
        return int(spec.get("oov_idx", len(self.raw[name]) - 1))

    def _pretrained(self, name: str) -> np.ndarray:
        """A pretrained table with its projection and, depending on pretrain_usage, an embedding of the ids.

        A feature that shares an embedding uses it as the owner does.
        """
        spec, prefix = self._spec(name), f"{TABLE}.{name}"
        spec = self.specs.get(spec.get("share_embedding", ""), spec)
        table = self.source.take(f"{prefix}.pretrain_embedding.weight", (-1, -1))
        beyond = np.arange(len(table)) > spec.get("oov_idx", len(table) - 1)  # rows of tokens seen in pretraining only
        if not spec.get("freeze_emb", True):
            table = np.where(beyond[:, None], 0, table)
        ids = None
        if self.source.has(f"{prefix}.id_embedding.weight"):
            ids = self.source.take(f"{prefix}.id_embedding.weight", (len(table), -1))
            ids = np.where(beyond[:, None], 0, ids)
        usage = spec.get("pretrain_usage", "init")
        if (usage == "init") != (ids is None):
            raise ConversionError(f"tensor {prefix}.id_embedding.weight does not fit pretrain_usage {usage} of {name}")
        if usage == "concat":
            table = np.concatenate([table, ids], 1)
        if self.source.has(f"{prefix}.proj.weight"):
            weight = self.source.take(f"{prefix}.proj.weight", (-1, table.shape[1]))
            table = table @ weight.T + self.source.take(f"{prefix}.proj.bias", (len(weight),))
        return table + ids if usage == "sum" else table

    def _raw(self, name: str) -> np.ndarray:
        """A feature's table [rows, width], or a numeric feature's vector [width, 1].

        A shared table is stored again under the name of each feature, unless the person who saved the file left it out.
        """
        owner = self._spec(name).get("share_embedding")
        shared = self.raw.get(owner) if owner else None
        if shared is None and owner and owner in self.specs and not self._stored(name):
            shared = self.raw[owner] = self._raw(owner)
        if not self._stored(name):
            if shared is None:
                raise ConversionError(f"tensor {TABLE}.{name}.weight is missing")
            return shared
        if self.source.has(f"{TABLE}.{name}.weight"):
            values = self.source.take(f"{TABLE}.{name}.weight", (-1, -1))
        else:
            values = self._pretrained(name)
        if shared is not None and not np.array_equal(shared, values):
            raise ConversionError(f"tensor {TABLE}.{name}.weight differs from that of {owner}, whose embedding it shares")
        return values

    def _stored(self, name: str) -> bool:
        return any(self.source.has(f"{TABLE}.{name}.{part}") for part in ("weight", "pretrain_embedding.weight"))

    def values(self, name: str) -> np.ndarray:
        """A feature's table or vector as the network sees it."""
        if name not in self.raw:
            self.raw[name] = self._raw(name)
        spec, values = self._spec(name), self.raw[name]
        parts = self.source.under(f"{ENCODER}.{name}.")
        if not parts:
            if spec.get("feature_encoder"):
                raise ConversionError(f"feature {name}: encoder {spec['feature_encoder']} has no equivalent here")
            return values
        layers = sequential(self.source, f"{ENCODER}.{name}", values.shape[1], None, 0.0) if "weight" not in parts else []
        weights = [(layer.weight, layer.bias) for layer in layers]
        if not layers:
            weight = self.source.take(f"{ENCODER}.{name}.weight", (-1, values.shape[1]))
            bias = self.source.take(f"{ENCODER}.{name}.bias", (len(weight),)) if "bias" in parts else np.zeros(len(weight))
            weights = [(weight, bias)]
        if len(weights) != 1 or spec["type"] == "numeric" or "Linear" not in str(spec.get("feature_encoder", "nn.Linear")):
            raise ConversionError(f"feature {name}: only one nn.Linear over an embedding can be folded as its encoder")
        return values @ weights[0][0].T + weights[0][1]

    def _entries(self, name: str, rows: int) -> Optional[str]:
        """The vocabulary of a feature, if there are any: entry i is row i."""
        if self.vocabulary is None:
            return None
        tokens = self.vocabulary.get(name, self.vocabulary.get(self._spec(name).get("share_embedding", "")))
        if tokens is None:
            raise ConversionError(f"feature vocabulary: feature {name} is missing")
        entries: list[Optional[str]] = [None] * rows
        for token, row in tokens.items():
            if not 0 <= row < rows or entries[row] is not None:
                raise ConversionError(f"feature vocabulary: row {row} of {name}'s {token!r} is past the table or taken")
            entries[row] = token
        # A row without a token gets a text that no JSON request of ours can hold.
        return self.model.vocabulary(name, [f"\0{row}" if token is None else token for row, token in enumerate(entries)])

    def add(self, name: str, groups: Sequence[str], wire: Optional[str] = None, values: Optional[np.ndarray] = None) -> None:
        """Add a feature as a field of these groups."""
        spec = self._spec(name)
        values = self.values(name) if values is None else values
        if spec["type"] == "numeric":
            if values.shape[1] != 1:
                raise ConversionError(f"tensor {TABLE}.{name}.weight has shape {list(values.shape)}, not [width, 1]")
            self.model.dense(name, 1, groups, values)
            return
        if spec.get("vocab_size", len(values)) != len(values):
            raise ConversionError(f"feature {name}: {spec['vocab_size']} in the feature map, {len(values)} rows in its table")
        table = self.model.table(name, values)
        self.model.categorical(wire or name, table, self.unknown_row(name), groups, self._entries(name, len(values)) or "")


def _evolution(source: Source, place: int, cell: str, width: int) -> dict[str, np.ndarray]:
    prefix = f"evolving_modules.{place}"
    if cell == "gru":
        return recurrence(source, prefix, width)
    shapes = {"x2h.weight": (3 * width, width), "h2h.weight": (3 * width, width),
              "x2h.bias": (3 * width,), "h2h.bias": (3 * width,)}
    return torch_cell(*(source.take(f"{prefix}.gru_cell.{part}", shape) for part, shape in shapes.items()), order="urc")


def _attention(architecture: Mapping[str, Any], source: Source, model: Model, place: int, interest: Config) -> Config:
    if interest["evolution"]["cell"] == "gru":
        return {"kind": "none"}
    kind = KINDS[one_of(architecture, "attention_type", KINDS)]
    attention: Config = {"kind": kind}
    units, prefix = interest["extractor"]["units"], f"interests.{interest['name']}.attention"
    if kind == "bilinear":
        model.tensors[f"{prefix}.matrix"] = source.take(f"attention_modules.{place}.W_kernel", (units, -1))
    if kind == "mlp":
        layers = sequential(source, f"attention_modules.{place}.attn_mlp.mlp", 4 * units,
                            required(architecture, "attention_activation"),
                            architecture.get("dice_batch_norm_eps", DICE_EPSILON))
        check_units(layers[:-1], architecture.get("attention_hidden_units"), "attention_hidden_units")
        attention.update(inputs=["q", "k", "q-k", "q*k"], layers=model.stack(prefix, layers))
    attention["normalise"] = "softmax" if required(architecture, "use_attention_softmax") else "none"
    return attention


def _length(architecture: Mapping[str, Any], specs: Mapping[str, Any], sequences: list[str]) -> int:
    given = architecture.get("max_length")
    lengths = {given if isinstance(given, int) else (given or {}).get(name, specs[name].get("max_len")) for name in sequences}
    if len(lengths) != 1 or None in lengths:
        raise ConversionError(f"max_length of {', '.join(sequences)}: {lengths} where one length was expected")
    return lengths.pop()


class _Pairs:
    """The stacks, one for each pair of target and sequence fields."""

    def __init__(self, architecture: Mapping[str, Any], features: _Features, keep: Optional[str]):
        self.architecture, self.features, self.model = architecture, features, features.model
        self.cell = CELLS[one_of(architecture, "gru_type", CELLS)]
        self.keep = keep or KEEP
        self.targets = _pairs(architecture, "dien_target_field")
        self.sequences = _pairs(architecture, "dien_sequence_field")
        if not self.targets or len(self.targets) != len(self.sequences):
            raise ConversionError(f"{len(self.targets)} target fields for {len(self.sequences)} sequence fields")
        self.pooled = bool(architecture.get("enable_sum_pooling", False))

    def _history(self, place: int) -> list[str]:
        """The behaviour fields of one pair."""
        names = []
        for sequence, target in zip(self.sequences[place], [*self.targets[place], *self.sequences[place]]):
            values = self.features.values(sequence)
            if self.pooled and np.any(values[0]):
                raise ConversionError(f"tensor {TABLE}.{sequence}.weight: row 0 is not zero and sum pooling adds it once for "
                                      "each padded place, so that the score depends on the padding")
            owner = self.features.specs[sequence].get("share_embedding")
            table = self.model.table(sequence, values)
            name = self.model.behaviour_name(sequence, table, owner if owner in self.model.groups["candidate"] else target)
            self.features.add(sequence, ["behaviour"], name, values)
            names.append(name)
        return names

    def add(self) -> list[str]:
        """Add all interests; the MLP inputs that they yield."""
        inputs = []
        for place, target in enumerate(self.targets):
            name = self.model.new_interest("-".join(self.sequences[place]))
            history, source = self._history(place), self.features.source
            extractor = recurrence(source, f"extraction_modules.{place}", sum(map(self.model.width, history)))
            evolution = _evolution(source, place, self.cell, extractor["weight_hidden"].shape[1])
            length = _length(self.architecture, self.features.specs, self.sequences[place])
            interest = self.model.interest(name, history, target, length, self.keep, extractor, evolution, self.cell)
            interest["attention"] = _attention(self.architecture, source, self.model, place, interest)
            inputs += [f"interest.{name}"]
            inputs += [f"history_sum.{name}", f"product.{name}"] if self.pooled else []
        return inputs


def _check_order(architecture: Mapping[str, Any], straight: list[str]) -> None:
    """Where the architecture file spells out the MLP's inputs, the features among them must be in our order."""
    spelt = [name for name in architecture.get("mlp_input_order", straight) if "(" not in name]
    if spelt != straight:
        raise ConversionError(f"architecture key mlp_input_order: the feature map gives {', '.join(straight)}")


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    if architecture.get("task", "binary_classification") != "binary_classification":
        raise ConversionError(f"architecture key task is {architecture['task']!r}: only binary_classification is a probability")
    specs = _feature_map(architecture, source)
    negatives = [name for field in _pairs(architecture, "dien_neg_seq_field") for name in field]
    source.drop(r"aux_net[.].*", "the auxiliary loss's net")
    for name in negatives:
        source.drop(rf"embedding_layer[.](embedding_layers|feature_encoders)[.]{re.escape(name)}[.].*",
                    "the auxiliary loss's negatives")
    model = Model(source, architecture, "fuxictr", groups_of(architecture))
    features = _Features(source, model, specs, architecture.get("feature_vocab"))
    sequences = [name for field in _pairs(architecture, "dien_sequence_field") for name in field]
    straight = []
    for name, spec in specs.items():
        if spec["type"] in ("categorical", "numeric"):
            features.add(name, [group for group in ("user", "context", "candidate") if name in model.groups[group]])
            model.group_of(name)
            straight.append(name)
        elif spec["type"] != "sequence":
            raise ConversionError(f"feature {name}: type {spec['type']} has no equivalent here")
        elif name not in sequences and name not in negatives:
            if spec.get("feature_encoder"):
                raise ConversionError(f"feature {name}: a sequence pooled by {spec['feature_encoder']} has no equivalent here")
            source.drop(rf"{re.escape(TABLE)}[.]{re.escape(name)}[.].*", "a sequence that no pair reads")
    _check_order(architecture, straight)
    inputs = [*_Pairs(architecture, features, options["keep"]).add(), *(f"{model.group_of(name)}.{name}" for name in straight)]
    layers = sequential(source, "dnn.mlp", sum(map(model.input_width, inputs)), required(architecture, "dnn_activations"),
                        architecture.get("dice_batch_norm_eps", DICE_EPSILON))
    check_units(layers[:-1], architecture.get("dnn_hidden_units"), "dnn_hidden_units")
    model.mlp(inputs, layers)
    return model.finish()
