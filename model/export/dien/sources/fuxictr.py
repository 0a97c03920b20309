"""FuxiCTR's DIEN (reczoo/FuxiCTR, model_zoo/DIEN) from 2.0.0 on, and LongCTR's (reczoo/LongCTR).

Each pair of target and sequence fields has a complete stack: nn.GRU, attention, and an evolution. The evolution is nn.GRU
or FuxiCTR's own cell (a u). The gates of that cell come in the order update, reset, candidate, and its update gate writes.
The feature map describes each feature; the feature vocabulary gives the row of each token. Tables that share an embedding
are stored under every feature's name. A sequence that is no history is pooled: its mean, or its sum.

FuxiCTR 2.0.0 and 2.0.1 normalise the MLP's input, `dnn.0`, in place of its layers, and always pool the history. LongCTR has
one stack, whose history and target are the features of the item, looked up by the item's index.
"""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources.builder import Model, groups_of
from dien.sources.fold import torch_cell
from dien.sources.layers import check_units, norm, recurrence, sequential
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
LONG = "embedding_layer.embedding_layer"  # LongCTR's tables are one module deeper
POOLINGS = {"layers.MaskedAveragePooling()": "mean", "layers.MaskedSumPooling()": "sum"}
AGRU_SINCE = (2, 3, 2)  # before it FuxiCTR built an AUGRU cell for AGRU (its commit 9551f33)
# The keys of a whole configuration of FuxiCTR's that tell how it trains, or where its files are.
TRAINING = (
    "accumulation_steps", "aux_activation", "aux_hidden_units", "base_config", "base_expid", "batch_size", "data_format",
    "data_root", "dataset_id", "debug_mode", "early_stop_patience", "epochs", "eval_steps", "every_x_epochs",
    "feature_cols", "feature_config", "feature_specs", "gpu", "group_id", "item_info", "item_info_fields", "label_col",
    "metrics", "min_categr_count", "model", "model_id", "model_root", "monitor", "monitor_mode", "num_workers",
    "ordered_features", "patience", "pickle_feature_encoder", "rebuild_dataset", "reduce_lr_on_plateau", "save_best_only",
    "shuffle", "streaming", "test_data", "train_data", "tuner_space", "use_features", "user_info", "valid_data", "verbose")
RULES.update({key: rules.anything for key in TRAINING})
RULES.update(fuxictr_version=rules.text, padding=rules.text, max_len=rules.length)


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
        self.is_long = bool(source.under(f"{LONG}."))
        layer = LONG if self.is_long else "embedding_layer"
        self.tables, self.encoders = f"{layer}.embedding_layers", f"{layer}.feature_encoders"
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
        spec, prefix = self._spec(name), f"{self.tables}.{name}"
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
                raise ConversionError(f"tensor {self.tables}.{name}.weight is missing")
            return shared
        if self.source.has(f"{self.tables}.{name}.weight"):
            values = self.source.take(f"{self.tables}.{name}.weight", (-1, -1))
        else:
            values = self._pretrained(name)
        if shared is not None and not np.array_equal(shared, values):
            raise ConversionError(f"tensor {self.tables}.{name}.weight differs from that of {owner}, whose embedding it shares")
        return values

    def _stored(self, name: str) -> bool:
        return any(self.source.has(f"{self.tables}.{name}.{part}") for part in ("weight", "pretrain_embedding.weight"))

    def values(self, name: str) -> np.ndarray:
        """A feature's table or vector as the network sees it."""
        if name not in self.raw:
            self.raw[name] = self._raw(name)
        spec, values = self._spec(name), self.raw[name]
        parts = self.source.under(f"{self.encoders}.{name}.")
        if not parts:
            if self.pooling(name):
                return values
            if spec.get("feature_encoder"):
                raise ConversionError(f"feature {name}: encoder {spec['feature_encoder']} has no equivalent here")
            return values
        layers = sequential(self.source, f"{self.encoders}.{name}", values.shape[1], None, 0.0) if "weight" not in parts else []
        weights = [(layer.weight, layer.bias) for layer in layers]
        if not layers:
            weight = self.source.take(f"{self.encoders}.{name}.weight", (-1, values.shape[1]))
            bias = self.source.take(f"{self.encoders}.{name}.bias", (len(weight),)) if "bias" in parts else np.zeros(len(weight))
            weights = [(weight, bias)]
        if len(weights) != 1 or spec["type"] == "numeric" or "Linear" not in str(spec.get("feature_encoder", "nn.Linear")):
            raise ConversionError(f"feature {name}: only one nn.Linear over an embedding can be folded as its encoder")
        return values @ weights[0][0].T + weights[0][1]

    def pooling(self, name: str) -> Optional[str]:
        """How a sequence that is no history becomes one vector: FORMAT.md's `pool`."""
        spec = self._spec(name)
        return POOLINGS.get(str(spec.get("feature_encoder"))) if spec["type"] == "sequence" else None

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
                raise ConversionError(f"tensor {self.tables}.{name}.weight has shape {list(values.shape)}, not [width, 1]")
            self.model.dense(name, 1, groups, values)
            return
        if spec.get("vocab_size", len(values)) != len(values):
            raise ConversionError(f"feature {name}: {spec['vocab_size']} in the feature map, {len(values)} rows in its table")
        pool, most = self.pooling(name) or "", 0
        if pool:
            most = _length({}, self.specs, [name])
            self.check_padding(name, values, "its pooling counts a padded place")
        table = self.model.table(name, values)
        self.model.categorical(wire or name, table, self.unknown_row(name), groups, self._entries(name, len(values)) or "",
                               pool, most)

    def check_padding(self, name: str, values: np.ndarray, otherwise: str) -> None:
        """Padded places have row 0, which must be zero: a request has no such places."""
        if np.any(values[0]):
            raise ConversionError(f"tensor {self.tables}.{name}.weight: row 0 is not zero and {otherwise}, so that the score "
                                  "depends on the padding")


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


def _is_old(source: Source) -> bool:
    """Whether these are tensors of FuxiCTR 2.0.0 or 2.0.1."""
    return bool(source.under("dnn.1.mlp."))


def _cell(architecture: Mapping[str, Any], features: _Features) -> str:
    """The evolution's cell. The tensors of AGRU and AUGRU are alike, and for a year `AGRU` made AUGRU."""
    cell, source = CELLS[one_of(architecture, "gru_type", CELLS)], features.source
    if cell != "agru" or features.is_long:
        return cell
    version = architecture.get("fuxictr_version", architecture.get("peer_version"))
    parts = re.findall(r"[0-9]+", str(version or ""))[:3]
    if _is_old(source) or (parts and tuple(map(int, parts)) < AGRU_SINCE):
        source.note("gru_type AGRU: FuxiCTR before 2.3.2 builds an AUGRU cell for it, and so does this model")
        return "augru-and"
    if not parts and not source.proven:
        raise ConversionError("architecture key fuxictr_version is missing: before 2.3.2 gru_type AGRU built an AUGRU cell, and "
                              "the tensors of both are alike. Give the version, or bring the framework's own scores with "
                              "--samples")
    if not parts:
        source.note("gru_type AGRU is taken as of FuxiCTR 2.3.2 or later; if the samples' scores differ, give fuxictr_version")
    return cell


class _Pairs:
    """The stacks, one for each pair of target and sequence fields."""

    def __init__(self, architecture: Mapping[str, Any], features: _Features, keep: Optional[str]):
        self.architecture, self.features, self.model = architecture, features, features.model
        self.cell = _cell(architecture, features)
        self.keep = keep or KEEP
        self.targets = _pairs(architecture, "dien_target_field")
        self.sequences = _pairs(architecture, "dien_sequence_field")
        if not self.targets or len(self.targets) != len(self.sequences):
            raise ConversionError(f"{len(self.targets)} target fields for {len(self.sequences)} sequence fields")
        self.old = _is_old(features.source)
        self.pooled = self.old or bool(architecture.get("enable_sum_pooling", False))

    def _history(self, place: int) -> list[str]:
        """The behaviour fields of one pair."""
        names = []
        for sequence, target in zip(self.sequences[place], [*self.targets[place], *self.sequences[place]]):
            values = self.features.values(sequence)
            if self.pooled:
                self.features.check_padding(sequence, values, "sum pooling adds it once for each padded place")
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
            state, pooled = [f"interest.{name}"], [f"history_sum.{name}", f"product.{name}"]
            inputs += pooled + state if self.old else state + pooled if self.pooled else state
        return inputs


def _add_items(architecture: Mapping[str, Any], features: _Features, items: list[str], keep: str) -> list[str]:
    """LongCTR's only interest, over the features of the item; the MLP inputs that it yields, after the target."""
    source, model, specs = features.source, features.model, features.specs
    pooled = bool(architecture.get("enable_sum_pooling", False))
    for name in items:
        features.add(name, ["behaviour", "candidate"])
        if pooled and specs[name]["type"] == "numeric":
            source.note(f"feature {name}: sum pooling adds the padding item's number too, which is taken as 0")
        elif pooled:
            features.check_padding(name, features.values(name), "sum pooling adds it once for each padded place")
    name = model.new_interest("items")
    extractor = recurrence(source, "extraction_modules.0", sum(map(model.width, items)))
    cell = _cell(architecture, features)
    evolution = _evolution(source, 0, cell, extractor["weight_hidden"].shape[1])
    length = architecture.get("max_len", architecture.get("max_length"))
    if not isinstance(length, int):
        raise ConversionError("architecture key max_len is missing: the longest history")
    interest = model.interest(name, items, items, length, keep, extractor, evolution, cell)
    interest["attention"] = _attention(architecture, source, model, 0, interest)
    return [f"interest.{name}", *([f"history_sum.{name}", f"product.{name}"] if pooled else [])]


def _kept_end(architecture: Mapping[str, Any], source: Source) -> str:
    """The end of a longer history that LongCTR keeps. It packs the first places, so that padding must come behind."""
    padding = architecture.get("padding")
    if padding == "pre":
        raise ConversionError("architecture key padding is 'pre': LongCTR then packs the padded places in front and leaves out "
                              "as many behaviours, so that a score depends on the other rows of its batch and cannot be kept")
    if padding not in (None, "post"):
        raise ConversionError(f"architecture key padding is {padding!r}, not 'post'")
    if padding is None and not source.proven:
        raise ConversionError("architecture key padding is missing: LongCTR's loader pads in front unless it is told 'post', and "
                              "the score then depends on the batch. Give \"post\", or bring the framework's own scores with "
                              "--samples")
    return "last" if padding is None else "first"  # of a batch of one, which has no padding, the loader keeps the newest


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
    long = bool(source.under(f"{LONG}."))
    items = [name for name, spec in specs.items() if spec.get("source") == "item"] if long else []
    model = Model(source, architecture, "fuxictr", _groups(architecture, items) if long else groups_of(architecture))
    features = _Features(source, model, specs, architecture.get("feature_vocab"))
    sequences = [name for field in _pairs(architecture, "dien_sequence_field") for name in field]
    straight = []
    for name, spec in specs.items():
        if name in items:
            continue
        if spec["type"] in ("categorical", "numeric") or (features.pooling(name) and name not in (*sequences, *negatives)):
            features.add(name, [group for group in ("user", "context", "candidate") if name in model.groups[group]])
            model.group_of(name)
            straight.append(name)
        elif spec["type"] != "sequence":
            raise ConversionError(f"feature {name}: type {spec['type']} has no equivalent here")
        elif name not in sequences and name not in negatives:
            if spec.get("feature_encoder"):
                raise ConversionError(f"feature {name}: a sequence pooled by {spec['feature_encoder']} has no equivalent here")
            source.drop(rf"{re.escape(features.tables)}[.]{re.escape(name)}[.].*", "a sequence that no pair reads")
    _check_order(architecture, straight)
    own = [f"{model.group_of(name)}.{name}" for name in straight]
    if long:
        keep = options["keep"] or _kept_end(architecture, source)
        evolved = _add_items(architecture, features, items, keep)
        inputs = [*own, *(f"candidate.{name}" for name in items), *evolved]
    else:
        inputs = [*_Pairs(architecture, features, options["keep"]).add(), *own]
    prefix, width = "dnn.1.mlp" if _is_old(source) else "dnn.mlp", sum(map(model.input_width, inputs))
    norms = [norm(source, "dnn.0", width)] if source.under("dnn.0.") else []
    layers = sequential(source, prefix, width, required(architecture, "dnn_activations"),
                        architecture.get("dice_batch_norm_eps", DICE_EPSILON))
    for each in norms:
        layers[0].norm_input(each)
    check_units(layers[:-1], architecture.get("dnn_hidden_units"), "dnn_hidden_units")
    model.mlp(inputs, layers)
    return model.finish()


def _groups(architecture: Mapping[str, Any], items: list[str]) -> dict[str, list[str]]:
    """LongCTR's groups: every feature of the item describes a behaviour and a candidate, whatever else `groups` says."""
    if not items:
        raise ConversionError("feature map: no feature has the source \"item\", of which LongCTR's history is made")
    given = dict(architecture.get("groups") or {})
    given.setdefault("behaviour", items)
    given.setdefault("candidate", items)
    groups = groups_of({"groups": given})
    if set(groups["behaviour"]) != set(items) or not set(items) <= set(groups["candidate"]):
        raise ConversionError(f"groups: a behaviour has the features of the item, {', '.join(items)}, and a candidate them too")
    return groups
