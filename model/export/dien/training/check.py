"""Check a recipe's data before training: what is strange in it, how often, and the first line of each.

    dien check shop.toml
    dien check shop.toml --data clicks.csv.gz

Findings are notes, or warnings of what can make the model or its report wrong: leaks, items without a description. The exit
status is 0 with notes alone, 1 with warnings or if the files cannot be read.
"""
from __future__ import annotations

import argparse

from dien.data import checks, recipe
from dien.data.sequences import Sequences, parts_of
from dien.training.networks import config_of
from dien.training.session import read_data, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("recipe", help="a TOML page: RECIPES.md")
    parser.add_argument("--data", help="a file in place of the recipe's data.files")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Read, check and print."""
    dataset = read_data(recipe.read(arguments.recipe, arguments.data and [arguments.data]))
    sequences = Sequences(dataset, config_of(dataset))
    targets = sequences.targets()
    if not len(targets):
        raise ValueError(f"{arguments.recipe}: no row is an example: each history has one row")
    parts = parts_of(sequences, targets)
    print(summary(sequences, parts))
    return int(any(finding.is_warning for finding in checks.findings(sequences, parts)))
