"""Feature columns, which DeepCTR on Keras and DeepCTR-Torch share: sparse, dense and history features in declared order."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from dien.sources.builder import Model
from dien.sources.source import ConversionError, Source

UNKNOWN_ROW = 0  # the padding's row: the packages know no other
Key = Callable[[str], str]  # the name of the tensor of an embedding


def embedding(architecture: Mapping[str, Any], source: Source, model: Model, feature: str, key: Key, otherwise: str = "") -> str:
    """The table of a feature: under the name of its embedding, or of the feature that it shares one with."""
    named = architecture.get("embedding_names", {}).get(feature, feature)
    if source.has(key(named)):
        return model.table(named, source.take(key(named), (-1, -1)))
    if named in model.config["tables"]:
        return named
    if otherwise:
        return model.present_field(otherwise)["table"]
    raise ConversionError(f"tensor {key(named)} is missing "
                          "(architecture key embedding_names says which feature has another's)")


def declared(architecture: Mapping[str, Any], key: str) -> list[str]:
    """Features in the order of their columns, which feature_order gives if it is there."""
    features = list(architecture.get(key) or [])
    order = [name for name in architecture.get("feature_order", ()) if name in features]
    return order if sorted(order) == sorted(features) else features


def sparse_fields(architecture: Mapping[str, Any], source: Source, model: Model, features: Sequence[str], key: Key) -> None:
    """The sparse features of user, context and candidate."""
    for feature in features:
        table = embedding(architecture, source, model, feature, key)
        groups = [group for group in ("user", "context", "candidate") if feature in model.groups[group]]
        if not groups:
            raise ConversionError(f"groups: feature {feature} is in none of user, context and candidate")
        model.categorical(feature, table, UNKNOWN_ROW, groups)


def dense_fields(architecture: Mapping[str, Any], model: Model, features: Sequence[str], rest: int, tensor: str) -> bool:
    """The dense features, of whose widths the tensor gives only the sum. Whether no width had to be guessed."""
    given = dict(architecture.get("dense_dimensions") or {})
    unsaid = [feature for feature in features if feature not in given]
    rest -= sum(given.values())
    sure = rest == len(unsaid)
    if len(unsaid) == 1 and rest > 0:
        given[unsaid[0]] = rest
    elif rest == len(unsaid):
        given.update(dict.fromkeys(unsaid, 1))
    else:
        raise ConversionError(f"tensor {tensor}: {rest} inputs are left for the dense features "
                              f"({', '.join(unsaid) or 'none'}): check sparse_features, or add dense_dimensions")
    for feature in features:
        model.dense(feature, given[feature], [model.group_of(feature)])
    return sure


def histories(architecture: Mapping[str, Any], source: Source, model: Model, target: Sequence[str], key: Key) -> dict[str, str]:
    """The behaviour field of each history feature, in the order of their columns."""
    sequences = {f"hist_{item}": item for item in target}
    order = [name for name in architecture.get("feature_order", []) if name in sequences]
    if sorted(order) != sorted(sequences):
        if order:
            raise ConversionError(f"architecture key feature_order: {', '.join(sorted(set(sequences) - set(order)))} is missing")
        order = list(sequences)
    found = {}
    for sequence in order:
        shared = "" if sequence in model.groups["behaviour"] else sequences[sequence]
        table = embedding(architecture, source, model, sequence, key, shared)
        name = model.behaviour_name(sequence, table, sequences[sequence])
        model.categorical(name, table, UNKNOWN_ROW, ["behaviour"])
        found[sequence] = name
    return found
