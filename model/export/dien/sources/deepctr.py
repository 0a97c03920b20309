"""DeepCTR's DIEN on TensorFlow and Keras (shenweichen/DeepCTR).

Both recurrences are TensorFlow 1's cells: reset before the product. The attention score of AUGRU shortens the gate that
keeps the old state, which is augru-or. The attention's MLP has no query layer. BatchNorm stands after the linear layer.
Keras numbers layers through the whole process (dnn, dnn_1, ...), so that a layer is found by its kind, place and shape.
"""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from dien.model.config import Config
from dien.sources import architecture as rules
from dien.sources import feature_columns as columns
from dien.sources.builder import Model, groups_of
from dien.sources.fold import Norm
from dien.sources.layers import Layer, Names, check_units, per_layer
from dien.sources.source import ConversionError, Source, one_of, required
from dien.sources.tensorflow_cell import cell as recurrence
from dien.sources.tensorflow_cell import part
from dien.sources.tensorflow_checkpoint import OPTIMISER

CELLS = {"GRU": "gru+pooling", "AIGRU": "aigru", "AGRU": "agru", "AUGRU": "augru-or"}
COMBINERS = ("sum", "mean", "max")


def _pooled(value: Any) -> Optional[str]:
    """Of each multi-valued feature the combiner, and the most values that it has."""
    def one(each: Any) -> bool:
        return isinstance(each, Mapping) and set(each) == {"combiner", "maxlen"} and each["combiner"] in COMBINERS \
            and rules.count(each["maxlen"]) is None

    return None if isinstance(value, Mapping) and all(map(one, value.values())) else \
        'an object of {"combiner": "mean", "sum" or "max", "maxlen": an integer}'


RULES: dict[str, rules.Rule] = {
    "gru_type": rules.anything, "history_feature_list": rules.names, "item_features": rules.names, "max_length": rules.length,
    "att_hidden_units": rules.units, "att_activation": rules.activations, "att_weight_normalization": rules.flag,
    "dnn_hidden_units": rules.units, "dnn_activation": rules.activations, "use_bn": rules.flag,
    "sparse_features": rules.names, "dense_features": rules.names, "dense_dimensions": rules.named(rules.count, "integers"),
    "feature_order": rules.names, "embedding_names": rules.named(rules.text, "names"),
    "group_names": rules.named(rules.text, "names"), "use_hash": rules.either(rules.flag, rules.names), "groups": rules.groups,
    "pooled_features": _pooled, "task": rules.anything}
# Keras's names of activations, and the classes that DeepCTR takes in their place.
ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "linear": "linear", "none": "linear", "swish": "silu",
               "silu": "silu", "dice": "dice", "prelu": "prelu", "leakyrelu": "leakyrelu"}
LEAKY_SLOPE = 0.3            # of keras.layers.LeakyReLU
BATCH_NORM_EPSILON = 1e-3    # Keras's default
DICE_EPSILON = 1e-9
AUXILIARY = [100, 50, 1]     # the units of the auxiliary loss's net
KEEP = "last"                # pad_sequences cuts the front, unless it is told otherwise
HASHED = ("architecture key use_hash: the server does not hash ids. Let the caller hash them as DeepCTR does (tf.strings."
          "to_hash_bucket_fast of the decimal text; with 0 kept: 1 + the hash into one bucket less) and send the bucket, and set "
          "use_hash to false")


def _order(name: str) -> list[Any]:
    """Sorts names as Keras counts: dice, dice_1, dice_2, dice_10."""
    return [int(each) if each.isdigit() else each for each in re.split(r"(\d+)", name)]


def _of_attention(name: str) -> bool:
    return re.search(r"(^|/)(attention_sequence_pooling_layer|local_activation_unit)", name) is not None


class _Stacks:
    """The package's DNNs in the checkpoint: the attention's, the top's and the auxiliary loss's."""

    def __init__(self, source: Source, units: int, last: int):
        self.source = source
        found = _prefixes(list(source.left), r"(.*/)(?:kernel|bias)\d+")
        self.attention = [prefix for prefix in found if _of_attention(prefix)]
        others = [prefix for prefix in found if not _of_attention(prefix)]
        self.auxiliary = [prefix for prefix in others if self.units(prefix) == [2 * units, *AUXILIARY]]
        self.top = [prefix for prefix in others if prefix not in self.auxiliary]
        if not self.top and last == 1 and self.auxiliary:  # a top of the auxiliary net's sizes, which is made after it
            self.top = [self.auxiliary.pop()]

    def units(self, prefix: str) -> list[int]:
        """The sizes of a stack, from its input on."""
        kernels = [name for name in self.source.left if re.fullmatch(rf"{re.escape(prefix)}kernel\d+", name)]
        shapes = [self.source.shape(name) for name in sorted(kernels, key=_order)]
        return [shapes[0][0], *(shape[-1] for shape in shapes)] if shapes else []

    @staticmethod
    def one(prefixes: Sequence[str], what: str) -> str:
        """The only stack of its kind, or nothing if it has no hidden layers."""
        if len(prefixes) > 1:
            raise ConversionError(f"{what}: one of {', '.join(f'{each}kernel0' for each in prefixes)}?")
        return prefixes[0] if prefixes else ""


def _statistics(source: Source, prefix: str, units: int, epsilon: float, affine: bool) -> Norm:
    """A Keras BatchNormalization with its moving statistics."""
    gamma, beta = (source.take(f"{prefix}{name}", (units,)) for name in ("gamma", "beta")) if affine else \
        (np.ones(units), np.zeros(units))
    return Norm.of(gamma, beta, source.take(f"{prefix}moving_mean", (units,)), source.take(f"{prefix}moving_variance", (units,)),
                   epsilon=epsilon)


def _prefixes(names: Sequence[str], pattern: str) -> list[str]:
    """The beginnings of names that the pattern's group finds, each once, as Keras counts."""
    found = {match[1] for match in (re.fullmatch(pattern, name) for name in names) if match}
    return sorted(found, key=_order)


def _dice(source: Source, layer: Layer, prefix: str) -> None:
    """A Dice layer, with its BatchNormalization, which has neither scale nor offset."""
    norms = _prefixes(source.under(prefix), r"(.*?)moving_(?:mean|variance)")
    if len(norms) != 1:
        raise ConversionError(f"tensor {prefix}dice_alpha: {len(norms)} BatchNormalizations beside it where one was expected. "
                              "Before 0.8.7 DeepCTR lost the statistics of Dice when it saved a model")
    norm = _statistics(source, f"{prefix}{norms[0]}", layer.units, DICE_EPSILON, False)
    layer.activate("dice", alpha=source.take(f"{prefix}dice_alpha", (layer.units,)), gain=norm.gain, offset=norm.offset)


class _Activations:
    """The layers of activations with variables, which are used up in the order in which Keras counted them."""

    def __init__(self, source: Source, prefix: str, near: Sequence[str], kinds: Sequence[str]):
        self.source = source
        self.left: dict[str, list[str]] = {}
        for kind, name, variable in (("dice", "dice", "dice_alpha"), ("prelu", "p_re_lu", "alpha")):
            pattern, wanted = rf"((?:.*/)?{name}(?:_\d+)?/).*", list(kinds).count(kind)
            self.left[kind] = _prefixes(near, pattern)
            if wanted > len(self.left[kind]):  # names without the scope of the layer around it
                self.left[kind] = _prefixes(list(source.left), pattern)
            if wanted > len(self.left[kind]):
                named = [f"{prefix}{name}{f'_{i}' if i else ''}/{variable}" for i in range(wanted)]
                raise ConversionError(f"tensor {' or '.join(named)} is missing: {wanted} layers have the activation {kind}, and "
                                      f"{len(self.left[kind])} have its variables")

    def add(self, layer: Layer, kind: str) -> None:
        """Give a layer the activation of this kind."""
        if kind == "dice":
            _dice(self.source, layer, self.left["dice"].pop(0))
        elif kind == "prelu":
            layer.activate("prelu", alpha=self.source.take(f"{self.left['prelu'].pop(0)}alpha", (layer.units,)))
        elif kind == "leakyrelu":
            layer.activate("prelu", alpha=np.array([LEAKY_SLOPE]))
        else:
            layer.activate(kind)


def _kind(name: Optional[str]) -> str:
    """An activation by Keras's name of it, or by the class that DeepCTR takes in its place."""
    kind = ACTIVATIONS.get(str(name).lower())
    if kind is None:
        raise ConversionError(f"activation {name} has no equivalent here: {', '.join(sorted(ACTIVATIONS))}")
    return kind


def _stack(source: Source, prefix: str, inputs: int, activations: Names, use_bn: bool) -> list[Layer]:
    """The layers of a DNN under `prefix`: kernels and biases, and those of its BatchNorms and activations in their order."""
    numbers = [int(match[1]) for match in (re.fullmatch(r"(?:kernel|bias)(\d+)", name) for name in source.under(prefix)) if match]
    count = max(numbers, default=-1) + 1 if prefix else 0
    kinds = [_kind(name) for name in per_layer(activations, count)]
    near = [name for name in source.left if _of_attention(name) == _of_attention(prefix)]
    active = _Activations(source, prefix, near, kinds)
    norms = _prefixes([name for name in near if not re.search(r"(^|/)dice(_\d+)?/", name)],
                      r"(.*/)(?:gamma|beta|moving_mean|moving_variance)") if use_bn else []
    if use_bn and len(norms) != count:
        raise ConversionError(f"architecture key use_bn is true, but {len(norms)} of {count} layers have a BatchNormalization")
    layers: list[Layer] = []
    for i, kind in enumerate(kinds):
        kernel = source.take(f"{prefix}kernel{i}", (inputs, -1))
        layer = Layer(kernel.T, source.take(f"{prefix}bias{i}", (kernel.shape[1],)))
        if use_bn:
            layer.norm_output(_statistics(source, norms[i], layer.units, BATCH_NORM_EPSILON, True))
        active.add(layer, kind)
        layers.append(layer)
        inputs = layer.units
    return layers


def _key(source: Source, sparse: Sequence[str], named_as: Mapping[str, str]) -> columns.Key:
    """The variable of an embedding; one that only histories use is called sparse_seq_emb_."""
    of_sparse = {named_as.get(feature, feature) for feature in sparse}

    def key(named: str) -> str:
        found = [name for name in source.left if re.fullmatch(rf"(.*/)?sparse_(seq_)?emb_{re.escape(named)}(/embeddings)?", name)]
        if len(found) > 1:
            raise ConversionError(f"the embedding {named}: one of {', '.join(found)}?")
        return found[0] if found else f"sparse_{'' if named in of_sparse else 'seq_'}emb_{named}/embeddings"
    return key


def _grouped(architecture: Mapping[str, Any], features: Sequence[str]) -> list[str]:
    """Features as the package joins their embeddings: by group_name, in the order in which the groups occur."""
    groups = architecture.get("group_names") or {}
    places = list(dict.fromkeys(groups.get(name) for name in features))
    return sorted(features, key=lambda name: places.index(groups.get(name)))


def _one(source: Source, name: str, pattern: str) -> str:
    """The one variable that a pattern matches; `name` is that of the first model of a process."""
    if not any(re.fullmatch(pattern, each) for each in source.left):
        raise ConversionError(f"tensor {name} is missing")
    return source.find(pattern)


def _unit(source: Source, inputs: int) -> Layer:
    """The last layer of the attention, whose variables lie beside the DNN's."""
    kernel = _one(source, "attention_sequence_pooling_layer/local_activation_unit/kernel",
                  r"(.*/)?(attention_sequence_pooling_layer|local_activation_unit)[^/]*/kernel")
    weight = source.take(kernel, (inputs, 1))
    return Layer(weight.T, source.take(f"{kernel[:-len('kernel')]}bias", (1,)))


def _refuse(architecture: Mapping[str, Any], source: Source) -> None:
    """What cannot be converted, whatever the tensors are."""
    if architecture.get("task", "binary") != "binary":
        raise ConversionError(f"architecture key task is {architecture['task']!r}: "
                              "only binary has a sigmoid of the logit as score")
    if architecture.get("use_hash"):
        raise ConversionError(HASHED)
    for scope in ("gru1", "gru2"):
        part(source, scope, "gates/kernel")


def _pooled_fields(architecture: Mapping[str, Any], source: Source, model: Model, key: columns.Key) -> list[str]:
    """The multi-valued features that are no history; the package pools their embeddings into the MLP."""
    given, pooled = architecture.get("pooled_features") or {}, columns.declared(architecture, "pooled_features")
    for name in pooled:
        model.categorical(name, columns.embedding(architecture, source, model, name, key), columns.UNKNOWN_ROW,
                          [model.group_of(name)], pool=given[name]["combiner"], values=given[name]["maxlen"])
        if given[name]["combiner"] == "max":
            source.note(f"feature {name}: of no values the package takes the maximum as -1e9; the server takes it as 0")
    return pooled


def _refuse_tables(source: Source) -> None:
    left = [name for name in source.left if re.fullmatch(r"(.*/)?sparse_(seq_)?emb_.*", name)]
    if left:
        raise ConversionError(f"tensor {left[0]}: its feature is neither in sparse_features nor a history. If it is a "
                              "multi-valued feature that DeepCTR pools into the MLP, name it in pooled_features")


def convert(architecture: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and float64 tensors of the model."""
    rules.check(architecture, RULES, source)
    cell = CELLS[one_of(architecture, "gru_type", CELLS)]
    source.drop(OPTIMISER, "the optimiser's")
    _refuse(architecture, source)
    model = Model(source, architecture, "deepctr", groups_of(architecture))
    required(architecture, "sparse_features")
    sparse, dense = columns.declared(architecture, "sparse_features"), columns.declared(architecture, "dense_features")
    key = _key(source, sparse, architecture.get("embedding_names") or {})
    columns.sparse_fields(architecture, source, model, sparse, key)
    items = required(architecture, "history_feature_list" if "history_feature_list" in architecture else "item_features")
    target = _grouped(architecture, [feature for feature in sparse if feature in items])
    if sorted(target) != sorted(items):
        raise ConversionError("architecture key history_feature_list: each of them must be one of sparse_features")
    sequences = columns.histories(architecture, source, model, [name for name in sparse if name in items], key)
    history = [sequences[name] for name in _grouped(architecture, list(sequences))]
    pooled = _pooled_fields(architecture, source, model, key)
    _refuse_tables(source)
    units = source.shape(part(source, "gru1", "candidate/kernel"))[1]
    last = _one(source, "dense/kernel", r"(.*/)?dense(_\d+)?/kernel")
    stacks = _Stacks(source, units, source.shape(last)[0])
    for prefix in stacks.auxiliary:
        source.drop(rf"{re.escape(prefix)}.*", "the auxiliary loss's net")
    width = sum(map(model.width, history))
    interest = model.interest("interest", history, target, required(architecture, "max_length"), options["keep"] or KEEP,
                              recurrence(source, "gru1", width, units), recurrence(source, "gru2", units, units), cell)
    prefix = stacks.one(stacks.attention, "the attention's layers")
    attention = _stack(source, prefix, 4 * units, required(architecture, "att_activation"), False)
    check_units(attention, architecture.get("att_hidden_units"), "att_hidden_units")
    attention.append(_unit(source, attention[-1].units if attention else 4 * units))
    interest["attention"] = {
        "kind": "mlp", "inputs": ["q", "k", "q-k", "q*k"],
        "layers": model.stack("interests.interest.attention", attention),
        "normalise": "softmax" if required(architecture, "att_weight_normalization") else "none"}
    top = stacks.one(stacks.top, "the MLP's layers")
    first = f"{top}kernel0" if top else last
    inputs = source.shape(first)[0]
    rest = inputs - units - sum(map(model.width, [*sparse, *pooled]))
    columns.dense_fields(architecture, model, dense, rest, first)
    layers = _stack(source, top, inputs, required(architecture, "dnn_activation"), required(architecture, "use_bn"))
    check_units(layers, architecture.get("dnn_hidden_units"), "dnn_hidden_units")
    layers.append(Layer(source.take(last, (layers[-1].units if layers else inputs, 1)).T,
                        source.take(_one(source, "prediction_layer/global_bias", r"(.*/)?prediction_layer(_\d+)?/global_bias"),
                                    (1,))))
    before = [*_grouped(architecture, sparse), *_grouped(architecture, pooled)]
    model.mlp([f"{model.group_of(name)}.{name}" for name in before] + ["interest.interest"]
              + [f"{model.group_of(name)}.{name}" for name in dense], layers)
    return model.finish()
