"""RecBole's DIEN (RUCAIBox/RecBole) from 1.2.0 on, and earlier ones if told that the attention had no softmax.

The extractor is nn.GRU. The evolution is nn.GRU or RecBole's own cell (a u), whose update gate writes. Attention scores are
divided by sqrt(H). There are two sides, user and item. Each has one table for all its token fields, one below the other.
It has a vector for each float field, which the value multiplies, and a table for each multi-valued field. The other fields
of items and users follow from the id: the data set holds them and the checkpoint does not. The "Dice" of the top has
neither statistics nor a saved alpha, so it is SiLU.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.layers import check_units, linear, recurrence, sequential
from dien.sources.source import ConversionError, Source, check_entry, one_of, required

CELLS = {"GRU": "gru+pooling", "AIGRU": "aigru", "AGRU": "agru", "AUGRU": "augru-and"}
RULES: dict[str, rules.Rule] = {
    "config": rules.mapping, "user_fields": rules.features, "item_fields": rules.features,
    "item_attributes": rules.named(rules.listed, "lists"), "user_attributes": rules.named(rules.listed, "lists"),
    "gru_type": rules.anything, "max_length": rules.length, "embedding_size": rules.count, "mlp_hidden_size": rules.units,
    "interest_size": rules.anything, "attention_softmax": rules.flag, "attention_scale": rules.number,
    "attention_activation": rules.activations, "dnn_activation": rules.text, "batch_norm_eps": rules.positive,
    "table_offsets": rules.mapping, "tables": rules.anything, "mlp_input_order": rules.names, "groups": rules.groups,
    "pooling_mode": rules.text, "recbole_version": rules.either(rules.text, rules.number)}
FIELD_KEYS = ("name", "type", "vocab_size", "offset")
SOFTMAX_SINCE = (1, 2, 0)
BATCH_NORM_EPSILON = 1e-5
KEEP = "last"
UNKNOWN_ROW = 0  # [PAD], which RecBole also gives to missing values


def _softmax(architecture: Mapping[str, Any], told: Optional[str]) -> bool:
    """Whether the attention had its softmax, which depends on the library's version and is in no checkpoint."""
    version = str(architecture.get("recbole_version", architecture.get("peer_version", "")))
    parts = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    said = {"on": True, "off": False}[told] if told else architecture.get("attention_softmax")
    if parts and parts < SOFTMAX_SINCE and said is not False:
        raise ConversionError(f"RecBole {version}: before 1.2.0 its DIEN had no softmax in the attention. If this model was "
                              "trained so, say --attention-softmax off")
    if said is None and not parts:
        raise ConversionError("whether the attention has a softmax depends on RecBole's version, which no checkpoint holds: "
                              "say --attention-softmax on (1.2.0 and later) or off (before)")
    return True if said is None else bool(said)


class _Side:
    """The fields of one side, user or item, and their tensors."""

    def __init__(self, architecture: Mapping[str, Any], source: Source, model: Model, side: str, groups: list[str]):
        self.architecture, self.source, self.model, self.side, self.groups = architecture, source, model, side, groups
        self.fields = architecture.get(f"{side}_fields") or []
        for field in self.fields:
            check_entry(field, FIELD_KEYS, source, f"architecture key {side}_fields, {field.get('name')}")
        self.attributes = architecture.get(f"{side}_attributes") or {}
        self.width = architecture.get("embedding_size", -1)
        self.parent = ""

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The fields of these types, in the data set's order."""
        return [field for field in self.fields if field.get("type", "token") in kinds]

    def _tokens(self) -> list[str]:
        """Token fields: cut the one table into theirs."""
        names: list[str] = []
        start = 0
        key = f"embedding_layer.token_embedding_table.{self.side}.embedding.weight"
        fields = self.of("token")
        if not fields:
            return names
        rows = self.source.take(key, (sum(field["vocab_size"] for field in fields), self.width))
        offsets = (self.architecture.get("table_offsets") or {}).get(self.side, {})
        for field in fields:
            name, size = field["name"], field["vocab_size"]
            if offsets.get(name, start) != start:
                raise ConversionError(f"architecture key table_offsets: {name} starts at row {start} by the fields before it")
            self.model.categorical(name, self.model.table(name, rows[start:start + size]), UNKNOWN_ROW, self.groups)
            names.append(name)
            start += size
        self.parent = names[0]
        for name in names[1:]:
            if name in self.attributes:
                self.model.attribute(name, self.parent, np.asarray(self.attributes[name]))
        return names

    def _sequences(self) -> list[str]:
        """Multi-valued fields, pooled in advance for each id: a table with the rows of the parent's."""
        names = []
        for place, field in enumerate(self.of("token_seq")):
            name = field["name"]
            table = self.source.take(f"embedding_layer.token_seq_embedding_table.{self.side}.{place}.weight", (-1, self.width))
            if name not in self.attributes:
                raise ConversionError(f"field {name}: a multi-valued field needs its values by id in {self.side}_attributes")
            mode = self.architecture.get("pooling_mode", (self.architecture.get("config") or {}).get("pooling_mode", "mean"))
            pooled = np.array([_pool(table, np.asarray(values, np.int64), mode) for values in self.attributes[name]])
            self.model.categorical(name, self.model.table(name, pooled), UNKNOWN_ROW, self.groups)
            self.model.attribute(name, self.parent, np.arange(len(pooled)))
            self.source.note(f"field {name}: its values were pooled for each {self.parent}; requests leave it out")
            names.append(name)
        return names

    def _floats(self) -> list[str]:
        """Float fields: a value times a vector. RecBole leaves out those that numerical_features does not name."""
        fields = [field["name"] for field in self.of("float")]
        stem = f"embedding_layer.float_embedding_table.{self.side}"
        key = f"{stem}.weight" if self.source.has(f"{stem}.weight") else f"{stem}.embedding.weight"
        used = (self.architecture.get("config") or {}).get("numerical_features")
        if not self.source.has(key):
            used = []
        names = [name for name in fields if used is None or name in used]
        if not names:
            return names
        vectors = self.source.take(key, (len(names), self.width))
        for name, vector in zip(names, vectors):
            self.model.dense(name, 1, self.groups, vector[:, None])
            if name in self.attributes:
                self.model.attribute(name, self.parent, np.asarray(self.attributes[name], np.float64))
        return names

    def read(self) -> list[str]:
        """Add all fields to the model; their names in the order of the side's vector."""
        unknown = [field for field in self.fields if field.get("type", "token") not in ("token", "token_seq", "float")]
        if unknown:
            raise ConversionError(f"field {unknown[0]['name']}: type {unknown[0]['type']} is not token, token_seq or float")
        return [*self._tokens(), *self._sequences(), *self._floats()]


def _pool(table: np.ndarray, values: np.ndarray, mode: str) -> np.ndarray:
    """RecBole's pooling of the values of one multi-valued field; 0 is padding."""
    rows = table[values[values != 0]]
    if mode == "sum":
        return rows.sum(0)
    if mode == "mean":
        return rows.sum(0) / (len(rows) + 1e-8)
    raise ConversionError(f"architecture key pooling_mode: {mode} is not mean or sum")


def _attention(architecture: Mapping[str, Any], source: Source, model: Model, units: int, softmax: bool) -> Config:
    prefix = "interest_evolution.attention_layer"
    layers = sequential(source, f"{prefix}.att_mlp_layers.mlp_layers", 4 * units,
                        architecture.get("attention_activation", "sigmoid"), 0.0, last_linear=False)
    check_units(layers, architecture.get("mlp_hidden_size"), "mlp_hidden_size of the attention")
    layers.append(linear(source, f"{prefix}.dense", layers[-1].units, 1))
    scale = units ** -0.5
    if abs(architecture.get("attention_scale", scale) - scale) > 1e-9:
        raise ConversionError(f"architecture key attention_scale: RecBole's is 1 / sqrt({units})")
    return {"kind": "mlp", "inputs": ["q", "k", "q-k", "q*k"], "layers": model.stack("interests.interest.attention", layers),
            "scale": scale, "normalise": "softmax" if softmax else "none"}


def _top_activation(architecture: Mapping[str, Any]) -> str:
    name = str(architecture.get("dnn_activation", "dice")).lower()
    return "silu" if name == "dice" else name  # RecBole's Dice: x sigmoid(x)


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    if not any(name.startswith("interset_extractor.") for name in source.left):
        raise ConversionError("tensor interset_extractor.gru.weight_ih_l0 is missing: "
                              "this is not the state dict of RecBole's DIEN")
    inner = architecture.get("config") or {}
    cell = CELLS[one_of({**inner, **architecture}, "gru_type", CELLS)]
    softmax = _softmax(architecture, options["attention_softmax"])
    source.drop(r"interset_extractor[.]auxiliary_net[.].*", "the auxiliary loss's net")
    groups = groups_of(architecture)
    model = Model(source, architecture, "recbole", groups)
    required(architecture, "item_fields")
    items = _Side(architecture, source, model, "item", ["behaviour", "candidate"]).read()
    side = _Side(architecture, source, model, "user", ["user"])
    users = side.read()
    for name in [*items, *users]:
        model.group_of(name)  # the architecture file must place each
    extractor = recurrence(source, "interset_extractor.gru", sum(map(model.width, items)))  # the misspelling is RecBole's
    prefix, width = "interest_evolution.dynamic_rnn", extractor["weight_hidden"].shape[1]
    evolution = recurrence(source, f"{prefix}.rnn", width, "", "ruc") if cell in ("agru", "augru-and") else \
        recurrence(source, prefix, width)
    length = architecture.get("max_length", inner.get("MAX_ITEM_LIST_LENGTH"))
    if length is None:
        raise ConversionError("architecture key max_length is missing")
    interest = model.interest("interest", items, items, length, options["keep"] or KEEP, extractor, evolution, cell)
    interest["attention"] = _attention(architecture, source, model, interest["extractor"]["units"], softmax)
    inputs = ["interest.interest", *(f"candidate.{name}" for name in items), *(f"user.{name}" for name in users)]
    layers = sequential(source, "dnn_mlp_layers.mlp_layers", sum(map(model.input_width, inputs)),
                        _top_activation(architecture), 0.0, last_linear=False)
    check_units(layers, architecture.get("mlp_hidden_size"), "mlp_hidden_size")
    layers.append(linear(source, "dnn_predict_layer", layers[-1].units, 1))
    model.mlp(inputs, layers)
    return model.finish()
