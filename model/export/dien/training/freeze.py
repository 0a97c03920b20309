"""Freeze a checkpoint of `dien train` to a model directory, with samples scored by PyTorch in float64.

    dien freeze --checkpoint build/eshop.pt --output model/demo [--results build/results.json] [--version 1]

The samples' histories are drawn from the vocabulary at random: no session of the data set leaves with the model.
"""
from __future__ import annotations

import argparse
import json
from typing import Any, Optional

import numpy as np

from dien.model import model_directory
from dien.model.safetensors import Tensor
from dien.model.samples import RequestMaker
from dien.model.vocabulary import Vocabulary
from dien.training import checkpoint, export
from dien.training.evaluate import network_of
from dien.training.recipe import VARIANTS

SAMPLES = 24
ATTRIBUTION = (
    "Trained on 'e-shop clothing 2008' (Clickstream data for online shopping), M. Lapczynski and S. Bialowas, "
    "UCI Machine Learning Repository, data set 553, https://doi.org/10.24432/C5QK7X, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/). Changed: split by session, ids re-encoded, prices put in bands, "
    "negatives sampled.")


def frozen_tensors(state: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Every tensor of model.safetensors."""
    config, catalogue = state["config"], state["catalogue"]
    tensors: dict[str, Tensor] = dict(model_directory.weight_tensors(network_of(state)))
    for field in config["fields"]:
        if "attribute_of" in field:
            tensors[f"attributes.{field['name']}"] = np.asarray(catalogue["attributes"][field["name"]], np.int32)
    tensors.update({f"vocabularies.item.{part}": tensor for part, tensor in vocabulary.tensors.items()})
    return tensors


def metadata(state: dict[str, Any], results: Optional[dict[str, Any]]) -> dict[str, Any]:
    """Facts about the model for people to read."""
    return {**state["config"]["metadata"], "attribution": ATTRIBUTION,
            "price_bands_from": state["catalogue"]["price_edges"],
            "training": {**state["options"], "best_epoch": state["best"]["epoch"]},
            "auc_validation": state["best"]["aucs"], **({"auc_test": results["auc"]} if results else {})}


def freeze(state: dict[str, Any], output: str, version: str, results: Optional[dict[str, Any]] = None) -> None:
    """Write the model directory of a checkpoint."""
    if VARIANTS[state["options"]["variant"]] is not VARIANTS["dien"]:
        raise ValueError(f"variant {state['options']['variant']} is for the ablation only: it is not DIEN")
    vocabulary = Vocabulary.of_strings(state["catalogue"]["codes"])
    config = {**state["config"], "version": version, "metadata": metadata(state, results)}
    maker = RequestMaker(config, {"item": vocabulary}, np.random.default_rng(state["options"]["seed"]))
    model_directory.save(output, config, frozen_tensors(state, vocabulary), maker.requests(SAMPLES))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--output", required=True, help="directory to write")
    parser.add_argument("--version", default="", help="without it the recipe's, or 1")
    parser.add_argument("--results", help="the JSON of `dien evaluate` or `dien ablate`, for the metadata")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Read the checkpoint and write the directory."""
    results = None
    if arguments.results:
        with open(arguments.results, encoding="utf-8") as file:
            results = json.load(file)
    state = checkpoint.load(arguments.checkpoint)
    if "recipe" in state:
        export.freeze(state, arguments.output, arguments.version, results)
        return
    freeze(state, arguments.output, arguments.version or "1", results)
