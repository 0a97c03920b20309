"""A recipe's checkpoint as a model directory: its weights for numbers as clients send them, its ids, its items' attributes."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from dien.data.columns import Ids, Values
from dien.data.recipe import Recipe, parse
from dien.model import model_directory
from dien.model.config import Config
from dien.model.safetensors import Tensor
from dien.model.samples import RequestMaker
from dien.training.networks import base_field, folded_weights

SAMPLES = 24


def recipe_of(state: dict[str, Any]) -> Recipe:
    """The recipe that a checkpoint was trained by."""
    return parse(state["recipe_path"], state["recipe"])


def attribute_tensor(state: dict[str, Any], recipe: Recipe, name: str) -> np.ndarray:
    """An attribute of every item row as FORMAT.md has it: rows of the field's table, or numbers as clients send them."""
    field = next(each for each in recipe.fields if each.name == name)
    values, packed = Values(field, state["values"][name]), state["attributes"][name]
    if field.kind == "multi":
        values.sets = [tuple(rows) for rows in packed["sets"]]
        return values.set_matrix()[np.asarray(packed["places"])]
    raw = np.asarray(packed)
    if field.kind == "dense":
        return np.nan_to_num(raw).astype(np.float32)
    return values.finished(raw).astype(np.int32)


def tensors_of(state: dict[str, Any], recipe: Recipe, config: Config) -> dict[str, Tensor]:
    """Every tensor of model.safetensors."""
    tensors: dict[str, Tensor] = dict(folded_weights(state))
    made: dict[str, np.ndarray] = {}
    for field in config["fields"]:
        if "attribute_of" in field:
            base = base_field(state, field["name"])
            if base not in made:
                made[base] = attribute_tensor(state, recipe, base)
            tensors[f"attributes.{field['name']}"] = made[base]
    for name in config["vocabularies"]:
        vocabulary = Ids.unpacked(state["values"][name]["ids"]).vocabulary()
        tensors.update({f"vocabularies.{name}.{part}": tensor for part, tensor in vocabulary.tensors.items()})
    return tensors


def metadata(state: dict[str, Any], recipe: Recipe, report: Optional[dict[str, Any]]) -> dict[str, Any]:
    """Facts about the model for people to read, and the meaning of each place of a multi-valued field."""
    places = {field.name: Ids.unpacked(state["values"][field.name]["ids"]).ids for field in recipe.fields
              if field.kind == "multi"}
    bands = {field.name: np.asarray(state["values"][field.name]["edges"]).tolist() for field in recipe.fields
             if field.kind == "bands"}
    attribution = recipe[""]["attribution"]
    facts = {"attribution": attribution, "multi_valued": places, "bands_from": bands, "recipe": state["recipe"],
             "training": {"best_epoch": state["best"]["epoch"], "steps": state["best"]["steps"]},
             "auc_validation": state["best"]["aucs"], "test": report["models"]["DIEN"] if report else None}
    return without_nan({name: fact for name, fact in facts.items() if fact})


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for a measure that the data does not allow."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def freeze(state: dict[str, Any], output: str, version: str = "", report: Optional[dict[str, Any]] = None) -> None:
    """Write the model directory. The samples' histories are drawn from the vocabularies at random: nobody's leave."""
    recipe = recipe_of(state)
    config: Config = {**state["config"], "metadata": metadata(state, recipe, report)}
    if version:
        config["version"] = version
    vocabularies = {name: Ids.unpacked(state["values"][name]["ids"]).vocabulary() for name in config["vocabularies"]}
    maker = RequestMaker(config, vocabularies, np.random.default_rng(recipe[""]["seed"]))
    model_directory.save(output, config, tensors_of(state, recipe, config), maker.requests(SAMPLES))
