"""Train the variants of the ablation with one seed and equal options, and put them in one table with the baselines.

    dien ablate shop.toml --directory build/ablation
    dien ablate --data e-shop-clothing-2008.csv.gz --directory build/ablation [options of dien train]

A recipe's variants change its keys of the auxiliary loss and of the evolution's cell; results.json and results.md hold the
reports of their tests. If a variant's checkpoint exists, its training continues from there. A finished variant is used as
it is.
"""
from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from typing import Any

import torch

from dien.data import clickstream
from dien.training import checkpoint, loop, session
from dien.training.evaluate import evaluate, report
from dien.training.report import compared
from dien.training.train import OF_THE_DEMO, Options, Trainer, add_options, options_of

# name in the table: the options that differ from those given
ABLATION: dict[str, dict[str, Any]] = {
    "DIEN": {},
    "DIEN, auxiliary loss by MLP": {"auxiliary": "mlp"},
    "DIEN without auxiliary loss": {"auxiliary": "none"},
    "GRU with auxiliary loss, no attention": {"variant": "gru"},
    "DIN: attention, no GRU": {"variant": "din", "auxiliary": "none"},
}
# name in the table: the keys of a recipe that differ from its own
OF_RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "as the recipe says": {},
    "auxiliary loss by MLP": {"training": {"auxiliary": "mlp"}},
    "without auxiliary loss": {"training": {"auxiliary": "none"}},
    "no attention": {"network": {"cell": "gru"}},
    "the authors' AUGRU": {"network": {"cell": "augru-or"}},
    "attention as the update gate": {"network": {"cell": "agru"}},
    "attention scales the input": {"network": {"cell": "aigru"}},
    "attention pools the states": {"network": {"cell": "gru+pooling"}},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("recipe", nargs="?", help="a TOML page: RECIPES.md")
    parser.add_argument("--data", help="in place of the recipe's data.files; without a recipe, your copy of UCI data set 553")
    parser.add_argument("--directory", required=True, help="for the checkpoints and the results")
    parser.add_argument("--only", choices=[*OF_RECIPES, *ABLATION], nargs="+", help="some of the variants")
    parser.add_argument("--threads", type=int, default=1)
    add_options(parser)
    parser.set_defaults(epochs=None)


def _recipe(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    for name in [name for name in OF_THE_DEMO if getattr(arguments, name) != parser.get_default(name)]:
        parser.error(f"--{name.replace('_', '-')} is an option of the demo; the recipe has its own")
    variants = {name: changes for name, changes in OF_RECIPES.items() if name in (arguments.only or OF_RECIPES)}
    if not variants or not set(arguments.only or []) <= set(OF_RECIPES):
        parser.error(f"--only: a recipe's variants are {', '.join(OF_RECIPES)}")
    reports = session.ablate(arguments.recipe, arguments.data, arguments.directory, variants, arguments.epochs)
    table = compared(reports)
    with open(os.path.join(arguments.directory, "results.json"), "w", encoding="utf-8") as file:
        json.dump(reports, file, indent=1, allow_nan=False)
    with open(os.path.join(arguments.directory, "results.md"), "w", encoding="utf-8") as file:
        file.write(table)
    print(table)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Train what is missing, and compare."""
    torch.set_num_threads(arguments.threads)
    if arguments.recipe is None and arguments.data is None:
        parser.error("give a recipe, or --data for the demo")
    os.makedirs(arguments.directory, exist_ok=True)
    if arguments.recipe:
        _recipe(arguments, parser)
        return
    if not set(arguments.only or []) <= set(ABLATION):
        parser.error(f"--only: the demo's variants are {', '.join(ABLATION)}")
    arguments.epochs = arguments.epochs or Options().epochs
    catalogue, sessions = clickstream.read(arguments.data)
    split = clickstream.split(sessions)
    options, shape = options_of(arguments)
    states = {}
    for name in arguments.only or ABLATION:
        change = ABLATION[name]
        path = os.path.join(arguments.directory, "-".join([*change.values(), "run"]) + ".pt")
        trainer = Trainer(replace(options, **change), shape, catalogue, split)
        if os.path.exists(path):
            trainer.restore(checkpoint.load(path))
        print(name)
        loop.run(trainer, path)
        states[name] = trainer.state()
    report(evaluate(catalogue, split, states), os.path.join(arguments.directory, "results.json"))
