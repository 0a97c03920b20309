"""Write a model directory of a stated shape with random weights: by default the reference shape, which the project's
cost figures are for; other options give the paper's shape and the sweeps.

    /usr/bin/python3 tests/bench/reference_shape.py --output build/bench/reference
    /usr/bin/python3 tests/bench/reference_shape.py --attention bilinear --hidden 32 --cell augru-and --output build/bench/paper
"""
from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "model" / "export"))

# E402: these modules are found only after the path above is set.
from dien.model import model_directory  # noqa: E402
from dien.model.config import Config, weight_shapes  # noqa: E402
from dien.model.samples import RequestMaker  # noqa: E402

ITEMS, CATEGORIES, USERS = 10_000, 500, 10_000
LONGEST = 1000


def layer(units: int, activation: str) -> Config:
    return {"units": units, "activation": activation}


def config(arguments: argparse.Namespace) -> Config:
    """The authors' network: user, item and category, one interest, MLP 200-80-2."""
    attention: Config = {"kind": "bilinear"}
    if arguments.attention == "mlp":
        attention = {"kind": "mlp", "query": layer(arguments.hidden, "prelu"), "inputs": ["q", "k", "q-k", "q*k"],
                     "layers": [layer(80, "sigmoid"), layer(40, "sigmoid"), layer(1, "linear")]}
    tables = {"user": USERS, "item": arguments.items, "category": CATEGORIES}
    return {
        "format": "dien/1", "name": "bench", "version": "1", "metadata": vars(arguments),
        "vocabularies": {},
        "tables": {name: {"rows": rows, "width": arguments.embedding} for name, rows in tables.items()},
        "fields": [{"name": name, "kind": "categorical", "table": name, "ids": "index", "unknown_row": 0}
                   for name in tables],
        "groups": {"user": ["user"], "context": [], "behaviour": ["item", "category"],
                   "candidate": ["item", "category"]},
        "interests": [{"name": "clicks", "history": ["item", "category"], "target": ["item", "category"],
                       "max_length": LONGEST, "keep": "last",
                       "extractor": {"cell": "gru", "units": arguments.hidden, "reset": arguments.reset},
                       "attention": {**attention, "normalise": "softmax"},
                       "evolution": {"cell": arguments.cell, "units": arguments.hidden, "reset": arguments.reset}}],
        "mlp": {"inputs": ["user.user", "candidate.item", "candidate.category", "history_sum.clicks", "product.clicks",
                           "interest.clicks"],
                "layers": [*(layer(units, "prelu") for units in arguments.mlp), layer(2, "linear")]},
        "output": {"kind": "softmax", "positive": 0}}


def weight(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Values of the size that training leaves."""
    scale = 0.3 if len(shape) == 1 or name.startswith("tables.") else 1 / np.sqrt(shape[1])
    return random.normal(0, scale, shape).astype(np.float32)


def options() -> argparse.ArgumentParser:
    """What the shape is made of."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="directory to write")
    parser.add_argument("--embedding", type=int, default=18, help="width of each table")
    parser.add_argument("--hidden", type=int, default=36, help="units of both recurrences")
    parser.add_argument("--items", type=int, default=ITEMS, help="rows of their table")
    parser.add_argument("--attention", choices=("mlp", "bilinear"), default="mlp")
    parser.add_argument("--cell", choices=("augru-and", "augru-or", "agru", "aigru"), default="augru-or")
    parser.add_argument("--reset", choices=("before", "after"), default="before")
    parser.add_argument("--mlp", type=int, nargs="+", default=[200, 80], metavar="UNITS", help="of the layers before the last")
    return parser


def write(arguments: argparse.Namespace) -> None:
    """The model directory of that shape."""
    random = np.random.default_rng(1)
    shape = config(arguments)
    tensors = {name: weight(name, size, random) for name, size in weight_shapes(shape).items()}
    requests = [RequestMaker(shape, {}, random).request(length, 5) for length in (0, 1, 20)]
    model_directory.save(arguments.output, shape, tensors, requests)


if __name__ == "__main__":
    write(options().parse_args())
