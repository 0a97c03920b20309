"""Train the variants of the ablation with one seed and equal options, and put them in one table with the baselines.

    dien ablate --data e-shop-clothing-2008.csv.gz --directory build/ablation [options of dien train]

If a variant's checkpoint exists, its training continues from there. A finished variant is used as it is.
"""
from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Any

import torch

from dien.data import clickstream
from dien.training import checkpoint
from dien.training.evaluate import evaluate, report
from dien.training.train import Trainer, add_options, options_of, train

# name in the table: the options that differ from those given
ABLATION: dict[str, dict[str, Any]] = {
    "DIEN": {},
    "DIEN, auxiliary loss by MLP": {"auxiliary": "mlp"},
    "DIEN without auxiliary loss": {"auxiliary": "none"},
    "GRU with auxiliary loss, no attention": {"variant": "gru"},
    "DIN: attention, no GRU": {"variant": "din", "auxiliary": "none"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--data", required=True, help="your copy of UCI data set 553, .csv or .csv.gz")
    parser.add_argument("--directory", required=True, help="for the checkpoints and results.json")
    parser.add_argument("--only", choices=ABLATION, nargs="+", default=list(ABLATION), help="some of the variants")
    add_options(parser)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Train what is missing, and compare."""
    torch.set_num_threads(1)
    os.makedirs(arguments.directory, exist_ok=True)
    catalogue, sessions = clickstream.read(arguments.data)
    split = clickstream.split(sessions)
    options, shape = options_of(arguments)
    states = {}
    for name in arguments.only:
        change = ABLATION[name]
        path = os.path.join(arguments.directory, "-".join([*change.values(), "run"]) + ".pt")
        trainer = Trainer(replace(options, **change), shape, catalogue, split)
        if os.path.exists(path):
            trainer.restore(checkpoint.load(path))
        print(name)
        train(trainer, path)
        states[name] = trainer.state()
    report(evaluate(catalogue, split, states), os.path.join(arguments.directory, "results.json"))
