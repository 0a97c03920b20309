"""Recipes from the command line: read and check the data, train, report, and write the model directory."""
from __future__ import annotations

import argparse
import os
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from dien.data import checks, events, recipe
from dien.data.events import Dataset
from dien.data.sequences import Sequences
from dien.training import checkpoint, export, report
from dien.training.fit import Fit
from dien.training.loop import run


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
    print(summary(fit.sequences, fit.parts))
    if earlier and not resumed:
        for line in fit.warm_start(earlier):
            print(f"from {arguments.start}: {line}")
    if resumed:
        fit.restore(resumed)
    run(fit, arguments.checkpoint)
    if arguments.output:
        measured = report.report_of(fit)
        export.freeze(fit.state(), arguments.output, report=measured)
        report.write(fit, measured, arguments.output)
        print(f"{report.markdown(measured)}\nmodel directory {arguments.output}, with its report in README.md")


def ablate(path: str, data: Optional[str], directory: str, variants: dict[str, dict[str, dict[str, Any]]],
           epochs: Optional[int]) -> dict[str, Any]:
    """Train a recipe with each of the changes to its keys, from its checkpoint in the directory if it is there; the reports."""
    reports = {}
    for name, changes in variants.items():
        page = recipe.read(path, [data] if data else None)
        if epochs is not None:
            page["training"]["epochs"] = epochs
        if changes and all(page[table][key] == value for table, values in changes.items() for key, value in values.items()):
            continue  # the recipe says so itself
        for table, values in changes.items():
            page[table].update(values)
        words = [str(value) for values in changes.values() for value in values.values()]
        kept = os.path.join(directory, "-".join(["recipe", *words]) + ".pt")
        resumed = loaded(kept) if os.path.exists(kept) else None
        fit = Fit(read_data(page, resumed))
        if resumed:
            fit.restore(resumed)
        print(name)
        run(fit, kept)
        reports[name] = report.report_of(fit)
    return reports


def summary(sequences: Sequences, parts: dict[str, np.ndarray]) -> str:
    """The size of the data, and the findings of its check."""
    dataset = sequences.dataset
    items = len(dataset.values[dataset.recipe.item.name].ids)
    first = (f"{len(dataset.events)} events of {len(dataset.events.offsets) - 1} histories, {items} items, "
             + ", ".join(f"{len(places)} examples to {word}"
                         for word, places in zip(("train", "validate", "test"), parts.values())))
    return "\n".join([first, *checks.lines(checks.findings(sequences, parts))])


def evaluate(arguments: argparse.Namespace, state: dict[str, Any]) -> None:
    """The report of a recipe's checkpoint: on the data of its recipe, or on other data with its ids."""
    page = export.recipe_of(state)
    if arguments.data:
        page.files = [arguments.data]
    check_output(arguments.output)
    fit = Fit(read_data(page, state, frozen=True))
    if fit.config != state["config"]:
        raise ValueError(f"{arguments.checkpoints[0]}: its network does not fit this data")
    fit.best, fit.history = state["best"], state["history"]
    measured = report.report_of(fit)
    report.write(fit, measured, arguments.output)
    print(report.markdown(measured))
