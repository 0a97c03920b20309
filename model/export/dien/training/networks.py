"""The network of a recipe: its config.json for the ids that the data has, and the form of it that trains large tables."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dien.data.events import Dataset
from dien.data.recipe import Field, Recipe
from dien.model.config import Config, behaviour_width, format_of, target_width
from dien.model.network import DIEN

SPARSE_ROWS = 20_000  # a table of more rows is trained by the rows that a batch reads, since Adam would touch all of them


def _field(dataset: Dataset, field: Field, name: str, parent: str) -> Config:
    """A field's entry, under the name that it has on the wire."""
    values = dataset.values[field.name]
    entry: Config = {"name": name}
    if values.is_dense:
        entry.update({"kind": "dense", "width": values.numbers, "units": field.width})
    elif field.kind == "bands":
        entry.update({"kind": "categorical", "table": field.name, "ids": "index", "unknown_row": 0})
    else:
        entry.update({"kind": "categorical", "table": field.name, "ids": "vocabulary", "vocabulary": field.name, "first_row": 1,
                      "unknown_row": 0})
    return {**entry, "attribute_of": parent} if field.group == "attribute" else entry


def _interest(config: Config, recipe: Recipe, name: str, history: list[str], length: int) -> Config:
    """One interest; its cells are as wide as a behaviour unless the recipe says otherwise."""
    options = recipe["network"]
    interest: Config = {"name": name, "history": history, "target": config["groups"]["candidate"][:], "max_length": length,
                        "keep": "last"}
    interest["target"] = [each for each in interest["target"] if not any(each == one.name for one in recipe.group("candidate"))]
    units = options["units"] or behaviour_width(config, interest)
    interest["extractor"] = {"cell": "gru", "units": units, "reset": options["reset"]}
    attention: Config = {"kind": "none"}
    if options["cell"] != "gru":
        attention = {"kind": options["attention"], "normalise": "softmax"}
        if options["attention"] != "bilinear" and units != target_width(config, interest):
            attention["query"] = {"units": units, "activation": "prelu"}
        if options["attention"] == "mlp":
            attention["inputs"] = ["q", "k", "q-k", "q*k"]
            attention["layers"] = [*({"units": each, "activation": "sigmoid"} for each in options["attention_hidden"]),
                                   {"units": 1, "activation": "linear"}]
    interest["attention"] = attention
    interest["evolution"] = {"cell": options["cell"], "units": units, "reset": options["reset"]}
    return interest


def _mlp(config: Config, recipe: Recipe) -> Config:
    """The MLP over every field, interest and, if pooled, the history's sum and its product with the target."""
    inputs = [f"{kind}.{name}" for kind in ("user", "context", "candidate") for name in config["groups"][kind]]
    for interest in config["interests"]:
        inputs.append(f"interest.{interest['name']}")
        if recipe["network"]["pooled"]:
            inputs.append(f"history_sum.{interest['name']}")
            if behaviour_width(config, interest) == target_width(config, interest):
                inputs.append(f"product.{interest['name']}")
    layers = [{"units": each, "activation": recipe["network"]["activation"]} for each in recipe["network"]["hidden"]]
    return {"inputs": inputs, "layers": [*layers, {"units": 1, "activation": "linear"}]}


def config_of(dataset: Dataset) -> Config:
    """config.json without its metadata. Of several interests, each has history fields with its name before theirs."""
    recipe = dataset.recipe
    of_item, own = [recipe.item, *recipe.group("attribute")], recipe.group("behaviour")
    config: Config = {"format": "dien/1", "name": recipe[""]["name"], "version": recipe[""]["version"], "metadata": {},
                      "vocabularies": {}, "tables": {}, "fields": [], "groups": {}, "interests": []}
    for field in recipe.fields:
        values = dataset.values[field.name]
        if not values.is_dense:
            config["tables"][field.name] = {"rows": values.rows, "width": field.width}
        if field.kind in ("string", "integer"):
            config["vocabularies"][field.name] = values.ids.vocabulary().config()
    several = len(recipe.interests) > 1
    shown = [field for field in recipe.fields if not (several and field.group == "behaviour")]
    config["fields"] = [_field(dataset, field, field.name, recipe.item.name) for field in shown]
    for kind in ("user", "context"):
        config["groups"][kind] = [field.name for field in recipe.group(kind)]
    config["groups"]["candidate"] = [field.name for field in [*of_item, *recipe.group("candidate")]]
    histories = {}
    for interest in recipe.interests:
        prefix = f"{interest.name}_" if several else ""
        histories[interest.name] = [prefix + field.name for field in [*of_item, *own]]
        if several:
            config["fields"] += [_field(dataset, field, prefix + field.name, prefix + recipe.item.name)
                                 for field in [*of_item, *own]]
    config["groups"]["behaviour"] = [name for names in histories.values() for name in names]
    config["interests"] = [_interest(config, recipe, each.name, histories[each.name], each.max_length)
                           for each in recipe.interests]
    config["mlp"] = _mlp(config, recipe)
    config["output"] = {"kind": "sigmoid"}
    config["format"] = format_of(config)
    return config


class Trained(DIEN):
    """DIEN whose large tables have sparse gradients."""

    def __init__(self, config: Config, dtype: torch.dtype = torch.float32):
        super().__init__(config, dtype)
        self.sparse = {name for name, table in config["tables"].items() if table["rows"] > SPARSE_ROWS}

    def rows(self, table: str, rows: Tensor) -> Tensor:
        return nn.functional.embedding(rows, self.weight(f"tables.{table}"), sparse=table in self.sparse)


def warm_weights(network: DIEN, old: dict[str, Any]) -> list[str]:
    """Start from a checkpoint's weights. New rows of a table begin at its unknown row, new values of a multi-valued field at
    zero. Returns a line for each weight that grew; one of another shape is an error."""
    weights = {name: torch.as_tensor(np.asarray(value)) for name, value in old["best"]["weights"].items()}
    grew = []
    with torch.no_grad():
        for name, parameter in network.weights().items():
            if name not in weights:
                raise ValueError(f"the earlier checkpoint has no {name}: its recipe has other fields or another network")
            given = weights[name]
            if name.startswith("tables.") and given.shape[1] == parameter.shape[1] and len(given) <= len(parameter):
                parameter[:len(given)] = given
                parameter[len(given):] = given[0]
            elif name.startswith("dense.") and len(given) == len(parameter) and given.shape[1] <= parameter.shape[1]:
                parameter[:, :given.shape[1]] = given
                parameter[:, given.shape[1]:] = 0
            elif given.shape == parameter.shape:
                parameter.copy_(given)
            else:
                raise ValueError(f"{name} has the shape {list(parameter.shape)} and had {list(given.shape)} in the earlier "
                                 "checkpoint: a warm start needs the widths and layers it had")
            if given.shape != parameter.shape:
                grew.append(f"{name}: {list(given.shape)} to {list(parameter.shape)}")
    return grew


def folded_weights(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """The best epoch's weights as float32, for numbers as clients send them: a dense field's scale is folded into its layer."""
    config = state["config"]
    folded = {name: np.asarray(value, np.float32).copy() for name, value in state["best"]["weights"].items()}
    for field in config["fields"]:
        base = base_field(state, field["name"])
        scale = np.asarray(state["values"][base].get("scale", []), np.float64)
        if field["kind"] == "dense" and len(scale):
            folded[f"dense.{field['name']}.weight"] = (folded[f"dense.{field['name']}.weight"] / scale).astype(np.float32)
    return folded


def base_field(state: dict[str, Any], name: str) -> str:
    """The recipe's field that a field of the config shows."""
    if name in state["values"]:
        return name
    return next(name.removeprefix(f"{interest['name']}_") for interest in state["config"]["interests"]
                if name.removeprefix(f"{interest['name']}_") in state["values"])
