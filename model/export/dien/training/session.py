"""`dien train RECIPE`: reads the data, trains with a checkpoint after each epoch, and writes the model directory."""
from __future__ import annotations

import argparse
import os
from typing import Any, Optional

from tqdm import tqdm

from dien.data import events, recipe
from dien.data.events import Dataset
from dien.training import checkpoint, export
from dien.training.fit import Fit, run


def read_data(page: recipe.Recipe, state: Optional[dict[str, Any]] = None, frozen: bool = False) -> Dataset:
    """The recipe's data, with a count of the rows that were read."""
    with tqdm(desc="reading", unit="row", unit_scale=True, mininterval=1.0) as progress:
        return events.read(page, state, frozen, progress.update)


def loaded(path: str) -> dict[str, Any]:
    """A recipe's checkpoint."""
    state = checkpoint.load(path)
    if "recipe" not in state:
        raise ValueError(f"{path}: was not trained by a recipe")
    return state


def check_output(path: str) -> None:
    """Raise OSError unless a model directory can be written at `path`."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise NotADirectoryError(f"{path}: is a file; the model directory cannot be written there")
    folder = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no directory {folder}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: nothing can be written there")


def train(arguments: argparse.Namespace) -> None:
    """Train by a recipe from the command line."""
    page = recipe.read(arguments.recipe, arguments.data and [arguments.data])
    if arguments.epochs is not None:
        page["training"]["epochs"] = arguments.epochs
    checkpoint.check_folder(arguments.checkpoint)
    if arguments.output:
        check_output(arguments.output)
    earlier = loaded(arguments.start) if arguments.start else None
    resumed = loaded(arguments.checkpoint) if arguments.resume else None
    dataset = read_data(page, resumed or earlier)
    fit = Fit(dataset)
    print(f"{len(dataset.events)} events, {len(fit.counts) - 1} items, "
          + ", ".join(f"{len(places)} examples to {part}" for part, places in
                      zip(("train", "validate", "test"), fit.parts.values())))
    if earlier and not resumed:
        for line in fit.warm_start(earlier):
            print(f"from {arguments.start}: {line}")
    if resumed:
        fit.restore(resumed)
    run(fit, arguments.checkpoint)
    if arguments.output:
        export.freeze(fit.state(), arguments.output)
        print(f"model directory {arguments.output}")
