"""Make a random model directory from a seed; the seeds together spread over every option of FORMAT.md.

    /usr/bin/python3 tests/export/random_model.py --seed 7 --output build/random-7
    /usr/bin/python3 tests/export/random_model.py --seeds 1-40 --output build/random

Its samples hold empty histories, histories of one, of max_length and beyond, unknown ids, both forms, and attributes
that are left to the model; their scores are PyTorch's in float64.
"""
from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "model" / "export"))

# E402: these modules are found only after the path above is set.
from dien.model import model_directory  # noqa: E402
from dien.model.config import (Config, attribute_shapes, behaviour_width, field_of, format_of, group,  # noqa: E402
                               target_width, weight_shapes)
from dien.model.model_directory import Scorer  # noqa: E402
from dien.model.safetensors import BF16, Tensor  # noqa: E402
from dien.model.samples import RequestMaker  # noqa: E402
from dien.model.vocabulary import Id, Vocabulary  # noqa: E402

WIDTHS = (1, 3, 4, 5, 7, 8, 16, 17, 33)
UNITS = (1, 2, 5, 8, 15, 16, 17, 33, 36)
HIDDEN_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "silu", "prelu", "dice", "dice-row")
CELLS = ("augru-and", "augru-or", "agru", "aigru", "gru", "gru+pooling", "augru-keep")
TABLE_TYPES = ("F32", "F16", "BF16", "I8")
REQUESTS = 7
LETTERS = list("ABCxyz019_-/ \"\\é漢😀")


class Maker:
    """Draws one model. Every choice comes from one generator, so a seed is a model."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.seed = seed
        self.vocabularies: dict[str, Vocabulary] = {}
        self.ids: dict[str, list[Id]] = {}
        self.config: Config = {"format": "dien/1", "name": f"random-{seed}", "version": f"{seed}.0",
                               "metadata": {"seed": seed}, "vocabularies": {}, "tables": {}, "fields": [],
                               "groups": {"user": [], "context": [], "behaviour": [], "candidate": []},
                               "interests": []}

    def pick(self, options: Any) -> Any:
        """One of the options, as the Python value it was."""
        return options[int(self.random.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def vocabulary(self, name: str, entries: int, strings: bool) -> None:
        """A vocabulary of random ids: any text, or any 64-bit integer."""
        drawn: dict[Id, None] = {}
        while len(drawn) < entries:
            if strings:
                drawn["".join(self.pick(LETTERS) for _ in range(int(self.random.integers(9))))] = None
            else:
                drawn[int(self.random.integers(-2**63, 2**63 - 1)) >> int(self.random.integers(60))] = None
        self.ids[name] = list(drawn)
        make = Vocabulary.of_strings if strings else Vocabulary.of_integers
        self.vocabularies[name] = make(self.ids[name])
        self.config["vocabularies"][name] = self.vocabularies[name].config()

    def categorical(self, name: str, groups: list[str], rows: int, table: str = "", **more: Any) -> None:
        """A field that arrives as an index, in a table of its own or a given one."""
        if not table:
            table = name
            self.config["tables"][table] = {"rows": rows, "width": self.pick(WIDTHS)}
        self.config["fields"].append({"name": name, "kind": "categorical", "table": table, "ids": "index",
                                      "unknown_row": self.pick([0, rows - 1]), **more})
        self._join(name, groups)

    def looked_up(self, name: str, groups: list[str], vocabulary: str, table: str = "", **more: Any) -> None:
        """A field that arrives through a vocabulary."""
        entries = len(self.ids[vocabulary])
        first = self.pick([0, 1, 2])
        if not table:
            table = name
            rows = max(first + 1, entries + first + self.pick([-1, 0, 1]))  # fewer: the last entry has no row of its own
            self.config["tables"][table] = {"rows": rows, "width": self.pick(WIDTHS)}
        self.config["fields"].append({"name": name, "kind": "categorical", "table": table, "ids": "vocabulary",
                                      "vocabulary": vocabulary, "first_row": first, "unknown_row": 0, **more})
        self._join(name, groups)

    def pooled(self, name: str, groups: list[str], rows: int, **more: Any) -> None:
        """A field of several values at once."""
        self.categorical(name, groups, rows, pool=self.pick(["sum", "mean", "max"]), values=self.pick([1, 3, 6]), **more)

    def dense(self, name: str, groups: list[str], **more: Any) -> None:
        """A field of one number, or three; at times through a linear layer."""
        layer = {"units": self.pick(WIDTHS)} if self.chance(0.5) else {}
        self.config["fields"].append({"name": name, "kind": "dense", "width": self.pick([1, 3]), **layer, **more})
        self._join(name, groups)

    def _join(self, name: str, groups: list[str]) -> None:
        for member in groups:
            self.config["groups"][member].append(name)

    def fields(self) -> None:
        """The fields of every group."""
        both = ["behaviour", "candidate"]
        if self.chance(0.75):
            self.categorical("country", ["user"], 11)
            self.dense("age", ["user"])
        if self.chance(0.75):
            self.categorical("month", ["context"], 13, first_row=self.pick([0, 1]))
            self.dense("clock", ["context"])
        if self.chance(0.2):
            self.categorical("item", both, 23)
        else:
            self.vocabulary("item", self.pick([1, 6, 29]), self.chance(0.6))
            self.looked_up("item", both, "item")
        if self.chance(0.7):
            self.categorical("category", both, 6, attribute_of="item")
        if self.chance(0.5):
            self.dense("price", both, attribute_of="item")
        if self.chance(0.5):
            self.categorical("slot", ["candidate"], 9)
            self.dense("bid", ["candidate"])
        if self.chance(0.4):
            self.pooled("tags", [self.pick(["user", "context"])], 19, first_row=self.pick([0, 1]))
        if self.chance(0.3):
            self.pooled("genres", both, 8, attribute_of="item")
        if self.chance(0.3):
            self.pooled("offers", ["candidate"], 12)
        if self.chance(0.3):
            self.vocabulary("word", 14, self.chance(0.7))
            groups = [self.pick(["context", "candidate"])]
            self.looked_up("words", groups, "word", pool=self.pick(["sum", "mean", "max"]), values=4)
        if self.chance(0.4):
            self.categorical("action", ["behaviour"], 4)
            self.dense("dwell", ["behaviour"])

    def second_history(self) -> list[str]:
        """Behaviours of another kind, with a length of their own; sometimes in the item's table."""
        if "item" in self.ids and self.chance(0.5):
            self.looked_up("shared", ["behaviour"], "item", "item")
            return ["shared"]
        self.vocabulary("search", 12, self.chance(0.5))
        self.looked_up("search", ["behaviour"], "search")
        return ["search"]

    def layers(self, last: int) -> list[Config]:
        """Hidden layers of any activation, then the linear one."""
        hidden = [self.layer(self.pick(UNITS)) for _ in range(self.pick([0, 1, 2, 2]))]
        return [*hidden, {"units": last, "activation": "linear"}]

    def layer(self, units: int) -> Config:
        """A layer of any activation."""
        layer: Config = {"units": units, "activation": self.pick(HIDDEN_ACTIVATIONS)}
        if layer["activation"] == "dice-row":
            layer["epsilon"] = self.pick([1e-3, 0.25])
        return layer

    def attention(self, interest: Config) -> Config:
        """The attention of an interest. Its query is as wide as its keys where the kind asks for that: one of the two
        takes the other's width. Raw scores are scaled down: they are write gates, and the state must not run away."""
        if interest["evolution"]["cell"] == "gru":
            return {"kind": "none"}
        attention: Config = {"kind": self.pick(["dot", "bilinear", "mlp", "mlp"]),
                             "normalise": self.pick(["softmax", "none"])}
        if self.chance(0.5):
            attention["query"] = self.layer(self.pick(UNITS))
        if attention["normalise"] == "none":
            attention["scale"] = self.pick([0.15, 0.3, -0.1])
        elif self.chance(0.6):
            attention["scale"] = self.pick([0.25, 1.0, 1.5, -0.5])
        if attention["kind"] == "mlp":
            attention["inputs"] = self.random.permutation(["q", "k", self.pick(["q-k", "k-q"]), "q*k"]).tolist()
            attention["layers"] = self.layers(1)
        if attention["kind"] != "bilinear":
            keys = interest["evolution" if interest["evolution"]["cell"] == "gru+pooling" else "extractor"]
            if "query" in attention:
                attention["query"]["units"] = keys["units"]
            else:
                keys["units"] = target_width(self.config, interest)
        return attention

    def interest(self, name: str, history: list[str]) -> None:
        """One interest over these behaviour fields."""
        candidate = group(self.config, "candidate")
        items = [field for field in candidate if field in ("item", "category", "price", "genres")]
        target = items if self.chance(0.7) else self.random.permutation(candidate).tolist()
        interest: Config = {"name": name, "history": history, "target": target, "max_length": self.pick([1, 4, 9, 9, 20, 20]),
                            "keep": self.pick(["last", "first"]),
                            "extractor": {"cell": "gru", "units": self.pick(UNITS),
                                          "reset": self.pick(["before", "after"])}}
        interest["evolution"] = {"cell": CELLS[(self.seed + len(self.config["interests"])) % len(CELLS)],
                                 "units": self.pick(UNITS), "reset": self.pick(["before", "after"])}
        interest["attention"] = self.attention(interest)
        self.config["interests"].append(interest)

    def interests(self) -> None:
        """One interest or two, of the same history or of histories of their own."""
        first = group(self.config, "behaviour").copy()
        self.interest("clicks", first)
        kind = self.pick(["one", "same", "other"])
        if kind == "same":
            self.interest("long-term", self.random.permutation(first).tolist())
        elif kind == "other":
            self.interest("searches_2", self.second_history())

    def mlp(self) -> None:
        """The top of the network and its inputs, in any order."""
        inputs = [f"{kind}.{name}" for kind in ("user", "context", "candidate") for name in group(self.config, kind)]
        for interest in self.config["interests"]:
            inputs.append(f"interest.{interest['name']}")
            if self.chance(0.5):
                inputs.append(f"history_sum.{interest['name']}")
            if behaviour_width(self.config, interest) == target_width(self.config, interest) and self.chance(0.7):
                inputs.append(f"product.{interest['name']}")
        if self.chance(0.5):
            inputs = self.random.permutation(inputs).tolist()
        if self.chance(0.5):
            self.config["output"] = {"kind": "sigmoid"}
        else:
            self.config["output"] = {"kind": "softmax", "positive": self.pick([0, 1])}
        if self.chance(0.4):
            self.bias()
        self.config["mlp"] = {"inputs": inputs, "layers": self.layers(1 if self.config["output"]["kind"] == "sigmoid" else 2)}

    def bias(self) -> None:
        """A bias of its own for each row of a candidate field."""
        fields = [field_of(self.config, name) for name in group(self.config, "candidate")]
        field = self.pick([field for field in fields if field["kind"] == "categorical" and "pool" not in field])
        self.config["tables"]["bias"] = {"rows": self.config["tables"][field["table"]]["rows"], "width": 1}
        self.config["output"]["bias"] = {"field": field["name"], "table": "bias"}

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Random values that keep every layer in the range where it bends."""
        last = name.rsplit(".", 1)[1]
        if last == "gain":
            return self.random.uniform(0.4, 2.0, shape)
        if len(shape) == 1:
            return self.random.normal(0, 0.4, shape)
        scale = 2.0 / np.sqrt(shape[0]) if last == "matrix" else 1.3
        return self.random.normal(0, scale / np.sqrt(shape[1]), shape)

    def table(self, name: str, rows: int, width: int) -> dict[str, Tensor]:
        """An embedding table in one of the four types."""
        values = self.random.normal(0, 0.7, (rows, width))
        kind = self.pick(TABLE_TYPES)
        if kind == "I8":
            return {name: self.random.integers(-127, 128, (rows, width)).astype(np.int8),
                    f"{name}.scale": self.random.uniform(0.001, 0.012, rows).astype(np.float32)}
        if kind == "BF16":
            return {name: BF16.rounded(values.astype(np.float32))}
        return {name: values.astype(np.float32 if kind == "F32" else np.float16)}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model."""
        tensors: dict[str, Tensor] = {}
        for name, shape in weight_shapes(self.config).items():
            if name.startswith("tables."):
                tensors.update(self.table(name, *shape))
            else:
                tensors[name] = self.weight(name, shape).astype(np.float32)
        for name, shape in attribute_shapes(self.config).items():
            field = field_of(self.config, name.split(".", 1)[1])
            if field["kind"] == "dense":
                tensors[name] = self.random.normal(0, 1, shape).astype(np.float32)
            else:
                rows = self.config["tables"][field["table"]]["rows"]
                lowest = -1 if "pool" in field else 0
                tensors[name] = self.random.integers(lowest, rows, shape).astype(np.int32)
        for name, vocabulary in self.vocabularies.items():
            tensors.update({f"vocabularies.{name}.{part}": tensor for part, tensor in vocabulary.tensors.items()})
        return tensors


def spread(config: Config, tensors: dict[str, Tensor], requests: list[dict[str, Any]]) -> None:
    """Scale the last layer so that the scores of these requests neither saturate nor agree: every weight shows."""
    scorer = Scorer(config, tensors)
    scores = np.clip(np.concatenate([scorer.score(request) for request in requests]), 1e-6, 1 - 1e-6)
    logits = np.log(scores / (1 - scores))
    factor = float(np.clip(1.2 / max(logits.std(), 1e-3), 0.2, 8))
    last = f"mlp.layers.{len(config['mlp']['layers']) - 1}"
    tensors[f"{last}.weight"] = (tensors[f"{last}.weight"] * factor).astype(np.float32)
    bias = tensors[f"{last}.bias"] * factor
    bias[config["output"].get("positive", 0)] -= logits.mean() * factor
    tensors[f"{last}.bias"] = bias.astype(np.float32)


def make(seed: int) -> tuple[Config, dict[str, Tensor], list[dict[str, Any]]]:
    """The config, the tensors and the requests of a seed."""
    maker = Maker(seed)
    maker.fields()
    maker.interests()
    maker.mlp()
    maker.config["format"] = format_of(maker.config)
    tensors = maker.tensors()
    requests = RequestMaker(maker.config, maker.vocabularies, maker.random).requests(REQUESTS)
    spread(maker.config, tensors, requests)
    return maker.config, tensors, requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one model, in OUTPUT")
    which.add_argument("--seeds", help="FIRST-LAST: a model each, in OUTPUT/random-SEED")
    parser.add_argument("--output", required=True, help="directory to write")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        model_directory.save(arguments.output, *make(arguments.seed))
        return
    first, last = map(int, arguments.seeds.split("-"))
    for seed in range(first, last + 1):
        model_directory.save(pathlib.Path(arguments.output) / f"random-{seed}", *make(seed))


if __name__ == "__main__":
    main()
