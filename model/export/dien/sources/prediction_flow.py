"""prediction-flow's DIEN (GitHub-HongweiZhang/prediction-flow), and the base of its descendants.

Each attention group has a stack of its own: nn.GRU, attention by a network over [q, k, q-k, q*k] divided by sqrt(H), and an
evolution. The AUGRU cell multiplies the attention with the gate that keeps the old state, h' = n + a z (h - n), which is
augru-keep. The MLP's input is the numbers, the categories in order, the other sequences by their maximum, and the groups.
"""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.layers import Layer, activate, activation_name, check_units, linear, norm, recurrence
from dien.sources.source import ConversionError, Source, check_entry, one_of, required

CELLS = {"GRU": "gru+pooling", "AIGRU": "aigru", "AGRU": "agru", "AUGRU": "augru-keep"}
DICE_EPSILON = 1e-8
KEEP = "first"


def _feature_list(value: Any) -> Optional[str]:
    named = isinstance(value, list) and all(rules.text(item) is None or rules.features([item]) is None for item in value)
    return None if named else "a list of names, or of objects with a name"


def _group_list(value: Any) -> Optional[str]:
    if rules.features(value) is not None or not all(isinstance(each.get("pairs"), list) for each in value):
        return "a list of objects with a name and pairs"
    pairs = [pair for each in value for pair in each["pairs"]]
    good = all(isinstance(pair, Mapping) and {"ad", "pos_hist"} <= set(pair) and all(map(_is_text, pair.values()))
               for pair in pairs)
    return None if good and pairs else 'a list of objects whose pairs are {"ad": ..., "pos_hist": ...}'


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


RULES: dict[str, rules.Rule] = {
    "number_features": _feature_list, "category_features": _feature_list, "sequence_features": _feature_list,
    "attention_groups": _group_list, "hidden_layers": rules.units, "dnn_activation": rules.optional(rules.text),
    "final_activation": rules.optional(rules.text), "num_classes": rules.count, "max_length": rules.lengths,
    "groups": rules.groups, "use_negsampling": rules.flag}
FEATURE_KEYS = ("name", "embedding_name", "embedding_size", "vocab_size", "max_length")
GROUP_KEYS = ("name", "pairs", "hidden_layers", "activation", "att_dropout", "gru_type", "gru_dropout")


class Dialect:
    """The names that an implementation gives to its parts."""

    framework = "prediction-flow"
    layers = "_sequential"  # of a stack of layers, below its own name
    cells = CELLS
    hidden = "hidden_layers"
    activation = "dnn_activation"

    def evolution(self, source: Source, prefix: str, gru_type: str, units: int) -> dict[str, np.ndarray]:
        """The second recurrence."""
        if gru_type in ("GRU", "AIGRU"):
            return recurrence(source, prefix, units)
        return recurrence(source, f"{prefix}.rnn", units, suffix="")

    def check(self, architecture: Mapping[str, Any]) -> None:
        """Refuse an output that is no probability of a click."""
        classes, final = architecture.get("num_classes", 2), architecture.get("final_activation")
        if (classes, final) not in ((2, "sigmoid"), (1, None)):
            raise ConversionError(f"num_classes {classes} with final_activation {final!r}: only 2 with 'sigmoid', or 1 without "
                                  "any, is one logit")


def stack(source: Source, prefix: str, inputs: int, name: Optional[str]) -> list[Layer]:
    """The layers PREFIX.dense0, batchnorm0, activation0, and so on; a norm stands between a product and its activation."""
    layers: list[Layer] = []
    while source.under(f"{prefix}.dense{len(layers)}."):
        place = len(layers)
        layer = linear(source, f"{prefix}.dense{place}", inputs)
        if source.under(f"{prefix}.batchnorm{place}."):
            layer.norm_output(norm(source, f"{prefix}.batchnorm{place}", layer.units))
        activate(source, layer, f"{prefix}.activation{place}", name, DICE_EPSILON)
        layers.append(layer)
        inputs = layer.units
    if not layers:
        raise ConversionError(f"tensor {prefix}.dense0.weight is missing")
    return layers


class _Features:
    """The numbers, categories and sequences, and which of them the attention groups read."""

    def __init__(self, architecture: Mapping[str, Any], source: Source, model: Model, vocabularies: Mapping[str, Any]):
        self.source, self.model, self.vocabularies = source, model, vocabularies
        self.specs: dict[str, Mapping[str, Any]] = {}
        self.kinds: dict[str, str] = {}
        for kind in ("number", "category", "sequence"):
            for each in architecture.get(f"{kind}_features") or []:
                spec = {"name": each} if isinstance(each, str) else each
                check_entry(spec, FEATURE_KEYS, source, f"{kind}_features, {spec['name']}")
                self.specs[spec["name"]], self.kinds[spec["name"]] = spec, kind
        self.tables: dict[str, np.ndarray] = {}
        self.architecture = architecture

    def of_kind(self, kind: str) -> list[str]:
        """The features of a kind, in order."""
        return [name for name, own in self.kinds.items() if own == kind]

    def owner(self, name: str) -> str:
        """The name of a feature's embedding."""
        if self.kinds.get(name, "number") == "number":
            raise ConversionError(f"attention_groups: {name} is no category and no sequence")
        return self.specs[name].get("embedding_name") or name

    def table(self, name: str) -> str:
        """The table of a feature in the model."""
        owner = self.owner(name)
        if owner not in self.tables:
            self.tables[owner] = self.source.take(f"embedding:{owner}.weight", (-1, -1))
        return self.model.table(owner, self.tables[owner])

    def add(self, name: str, groups: Sequence[str], wire: Optional[str] = None, pool: str = "") -> None:
        """A field of these groups; unknown ids take the last row, `__UNKNOWN__`."""
        table, owner = self.table(name), self.owner(name)
        rows = len(self.tables[owner])
        vocabulary = ""
        if owner in self.vocabularies:
            words = {int(row): word for word, row in self.vocabularies[owner].items()}
            vocabulary = self.model.vocabulary(owner, [words.get(row, f"\0{row}") for row in range(rows)])
        values = self.max_length(name) if pool else 0
        self.model.categorical(wire or name, table, rows - 1, groups, vocabulary, pool, values)

    def max_length(self, name: str) -> int:
        """The longest history of a sequence feature."""
        given = self.architecture.get("max_length")
        length = given if isinstance(given, int) else (given or {}).get(name, self.specs[name].get("max_length"))
        if not isinstance(length, int):
            raise ConversionError(f"max_length of {name} is missing")
        return length


def _interest(features: _Features, dialect: Dialect, group: Mapping[str, Any], keep: str) -> str:
    """One attention group; the MLP input that it yields."""
    source, model = features.source, features.model
    check_entry(group, GROUP_KEYS, source, f"attention_groups, {group['name']}")
    names, targets = [], [pair["ad"] for pair in group["pairs"]]
    for pair in group["pairs"]:
        table = features.table(pair["pos_hist"])
        name = model.behaviour_name(pair["pos_hist"], table, pair["ad"])
        features.add(pair["pos_hist"], ["behaviour"], name)
        names.append(name)
    lengths = {features.max_length(pair["pos_hist"]) for pair in group["pairs"]}
    if len(lengths) != 1:
        raise ConversionError(f"attention_groups, {group['name']}: max_length of its histories is {sorted(lengths)}")
    gru_type = one_of(group, "gru_type", dialect.cells)
    cell, prefix = dialect.cells[gru_type], f"attention_pooling:{group['name']}"
    name = model.new_interest(re.sub(r"[^A-Za-z0-9_-]", "-", group["name"]))
    extractor = recurrence(source, f"{prefix}.interest_extractor", sum(map(model.width, names)))
    units = extractor["weight_hidden"].shape[1]
    evolution = dialect.evolution(source, f"{prefix}.interest_evolution", gru_type, units)
    interest = model.interest(name, names, targets, lengths.pop(), keep, extractor, evolution, cell)
    layers = stack(source, f"{prefix}.attention.mlp.{dialect.layers}", 4 * units, required(group, "activation"))
    check_units(layers, group.get("hidden_layers"), "hidden_layers of the attention")
    layers.append(linear(source, f"{prefix}.attention.fc", layers[-1].units, 1))
    interest["attention"] = {"kind": "mlp", "inputs": ["q", "k", "q-k", "q*k"], "scale": float(units) ** -0.5,
                             "layers": model.stack(f"interests.{name}.attention", layers), "normalise": "softmax"}
    source.drop(rf"{re.escape(prefix)}[.]auxiliary_net[.].*", "the auxiliary loss's net")
    return f"interest.{name}"


def convert_dialect(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any], dialect: Dialect,
                    own_rules: Mapping[str, rules.Rule]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, own_rules, source)
    dialect.check(architecture)
    for each in architecture.get("attention_groups", []):
        activation_name(each.get("activation"))
    model = Model(source, architecture, dialect.framework, groups_of(architecture))
    features = _Features(architecture, source, model, options["vocabularies"])
    groups = required(architecture, "attention_groups")
    pairs = [pair for group in groups for pair in group["pairs"]]
    for pair in pairs:
        for name in (pair["ad"], pair["pos_hist"]):
            features.owner(name)  # refuses a feature that is not there
    read = {name for pair in pairs for name in pair.values()}
    for name in features.of_kind("number"):
        model.dense(name, 1, [model.group_of(name)])
    for name in features.of_kind("category"):
        features.add(name, [group for group in ("user", "context", "candidate") if name in model.groups[group]])
        model.group_of(name)
    others = [name for name in features.of_kind("sequence") if name not in read]
    for name in others:
        features.add(name, [model.group_of(name)], pool="max")
        source.note(f"feature {name}: the maximum runs over its padded places too; a request brings all "
                    f"{features.max_length(name)} ids, 0 in those places")
    interests = [_interest(features, dialect, group, options["keep"] or KEEP) for group in groups]
    own = [*features.of_kind("number"), *features.of_kind("category"), *others]
    inputs = [*(f"{model.group_of(name)}.{name}" for name in own), *interests]
    held = set(features.tables)
    for pair in pairs:
        negative = pair.get("neg_hist")
        if negative in features.kinds and features.owner(negative) not in held:
            source.drop(rf"embedding:{re.escape(features.owner(negative))}[.]weight", "the auxiliary loss's negatives")
    source.note("a user without a history: the framework has no score for one; this model takes a zero interest")
    layers = stack(source, f"mlp.{dialect.layers}", sum(map(model.input_width, inputs)),
                   required(architecture, dialect.activation))
    check_units(layers, architecture.get(dialect.hidden), dialect.hidden)
    layers.append(linear(source, "final_layer", layers[-1].units, 1))
    model.mlp(inputs, layers)
    return model.finish()


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    return convert_dialect(architecture, source, options, Dialect(), RULES)
