"""Builds the config and the tensors of a model directory, for every converter."""
from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from dien.model.config import Config, format_of, input_width
from dien.model.vocabulary import Vocabulary
from dien.sources.layers import Layer
from dien.sources.source import ConversionError, Source

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MODEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VALUES_MAX = 1024  # FORMAT.md: values
SPELLINGS = {"user": ("user",), "context": ("context",), "behaviour": ("behaviour", "behavior", "history"),
             "candidate": ("candidate", "target")}
Cell = Mapping[str, np.ndarray]


def groups_of(architecture: Mapping[str, Any]) -> dict[str, list[str]]:
    """The architecture file's `groups`: which features describe the user, the context, a behaviour and a candidate."""
    given = dict(architecture.get("groups") or {})
    groups: dict[str, list[str]] = {
        group: next((list(given.pop(name)) for name in names if name in given), [])
        for group, names in SPELLINGS.items()}
    if given:
        raise ConversionError(f"groups: {', '.join(given)} is none of {', '.join(SPELLINGS)}")
    for group in ("behaviour", "candidate"):
        if not groups[group]:
            raise ConversionError(f"architecture key groups: {group} is missing, the features of a {group}")
    return groups


class Model:
    """Collects the parts under FORMAT.md's names; finish() gives config and tensors."""

    def __init__(self, source: Source, architecture: Mapping[str, Any], framework: str, groups: Mapping[str, list[str]]):
        for key in ("name", "version"):
            if key in architecture and not MODEL_NAME.fullmatch(str(architecture[key])):
                raise ConversionError(f"the model's {key} {str(architecture[key])!r}: it is made of at most 64 letters, digits, "
                                      "_, - and .")
        self.source, self.groups = source, groups
        self.tensors: dict[str, np.ndarray] = {}
        self.vocabularies: dict[str, Vocabulary] = {}
        self.behaviours: dict[str, str] = {}  # the name of each sequence feature in requests
        metadata = {"framework": framework, "converted_from": architecture.get("source", framework)}
        self.config: Config = {"format": "dien/1", "name": architecture.get("name", framework),
                               "version": str(architecture.get("version", "1")), "metadata": metadata,
                               "vocabularies": {}, "tables": {}, "fields": [],
                               "groups": {"user": [], "context": [], "behaviour": [], "candidate": []},
                               "interests": [], "mlp": {"inputs": [], "layers": []}, "output": {"kind": "sigmoid"}}

    def _name(self, name: str, what: str) -> str:
        if not NAME.fullmatch(name):
            raise ConversionError(f"{what} {name!r}: a name is made of at most 64 letters, digits, _ and -")
        return name

    def table(self, name: str, values: np.ndarray) -> str:
        """An embedding table [rows, width]; one of the same content is used again. Returns its name."""
        for other, entry in self.config["tables"].items():
            held = self.tensors[f"tables.{other}"]
            if held.shape == values.shape and np.array_equal(held, values):
                return other
        if name in self.config["tables"]:
            raise ConversionError(f"table {name}: two tables of this name differ")
        self.config["tables"][self._name(name, "table")] = {"rows": values.shape[0], "width": values.shape[1]}
        self.tensors[f"tables.{name}"] = values
        return name

    def width(self, name: str) -> int:
        """The width of a field's embedding or value."""
        field = self.present_field(name)
        if field["kind"] == "dense":
            return field.get("units", field.get("width", 1))
        return self.config["tables"][field["table"]]["width"]

    def field(self, name: str) -> Optional[Config]:
        """The field of this name, if there is one."""
        return next((field for field in self.config["fields"] if field["name"] == name), None)

    def present_field(self, name: str) -> Config:
        """The field of this name, which must be there."""
        field = self.field(name)
        if field is None:
            raise ConversionError(f"groups: no feature {name}")
        return field

    def _join(self, field: Config, groups: Sequence[str]) -> None:
        for group in groups:
            if field["name"] not in self.config["groups"][group]:
                self.config["groups"][group].append(field["name"])

    def categorical(self, name: str, table: str, unknown_row: int, groups: Sequence[str], vocabulary: str = "",
                    pool: str = "", values: int = 0) -> None:
        """A field whose id is its row, or an entry of a vocabulary. One that is there already joins the groups.

        With `pool` its value is a list of at most `values` ids, whose embeddings are pooled.
        """
        rows = self.config["tables"][table]["rows"]
        if not 0 <= unknown_row < rows:
            raise ConversionError(f"field {name}: row {unknown_row} for unknown ids is not one of its table's {rows}")
        entry = {"name": self._name(name, "field"), "kind": "categorical", "table": table,
                 "ids": "vocabulary" if vocabulary else "index", "unknown_row": unknown_row}
        if vocabulary:
            entry["vocabulary"] = vocabulary
        if pool and not 1 <= values <= VALUES_MAX:
            raise ConversionError(f"field {name}: {values} values at most, where 1 to {VALUES_MAX} are possible")
        if pool:
            entry.update(pool=pool, values=values)
        held = self.field(name)
        if held is None:
            self.config["fields"].append(entry)
        elif held != entry:
            raise ConversionError(f"field {name}: as a behaviour and as a candidate it would differ")
        self._join(entry, groups)

    def dense(self, name: str, width: int, groups: Sequence[str], weight: Optional[np.ndarray] = None) -> None:
        """A field of numbers, optionally through a linear layer [units, width]."""
        entry: Config = {"name": self._name(name, "field"), "kind": "dense", "width": width}
        if weight is not None:
            entry["units"] = len(weight)
        if self.field(name) is None:
            self.config["fields"].append(entry)
            if weight is not None:
                self.tensors[f"dense.{name}.weight"] = weight
        self._join(entry, groups)

    def vocabulary(self, name: str, entries: Sequence[str]) -> str:
        """A vocabulary whose entry i is row i; one of the same content is used again. Returns its name."""
        made = Vocabulary.of_strings(entries)
        for other, held in self.vocabularies.items():
            if held.entries == made.entries and all(
                    np.array_equal(held.tensors[part], made.tensors[part]) for part in made.tensors):
                return other
        self.vocabularies[self._name(name, "vocabulary")] = made
        self.config["vocabularies"][name] = made.config()
        self.tensors.update({f"vocabularies.{name}.{part}": tensor for part, tensor in made.tensors.items()})
        return name

    def input_width(self, name: str) -> int:
        """The width of one of the MLP's inputs."""
        return input_width(self.config, name)

    def attribute(self, name: str, parent: str, values: np.ndarray) -> None:
        """Let the model fill in a field from its parent's row."""
        field, owner = self.present_field(name), self.present_field(parent)
        rows = self.config["tables"][owner["table"]]["rows"]
        if len(values) != rows:
            raise ConversionError(f"attribute {name}: {len(values)} values for the {rows} rows of {parent}")
        field["attribute_of"] = parent
        if field["kind"] == "dense":
            self.tensors[f"attributes.{name}"] = np.asarray(values, np.float64).reshape(rows, field["width"])
            return
        values = np.asarray(values)
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= self.config["tables"][field["table"]]["rows"]:
            raise ConversionError(f"attribute {name}: a value is no row of its table")
        self.tensors[f"attributes.{name}"] = values.astype(np.int32)

    def group_of(self, name: str) -> str:
        """The group of a feature that goes straight into the MLP."""
        for group in ("candidate", "user", "context"):
            if name in self.groups[group]:
                return group
        raise ConversionError(f"groups: feature {name} is in none of user, context and candidate")

    def behaviour_name(self, sequence: str, table: str, target: str) -> str:
        """The name of a history in requests.

        A sequence feature that groups names keeps its name. Otherwise it takes the name of the candidate field that it
        shares a table with. Without such a field it keeps its own name.
        """
        if sequence in self.behaviours:
            return self.behaviours[sequence]
        held, name = self.field(target), sequence
        if sequence not in self.groups["behaviour"]:
            if held is not None and held.get("table") == table and target not in self.behaviours.values():
                name = target
            else:
                self.source.note(f"the history {sequence} has a table or a place of its own: requests call it {sequence}")
        self.behaviours[sequence] = name
        return name

    def new_interest(self, name: str) -> str:
        """A name that no interest has: this one, or one derived from it."""
        taken = [interest["name"] for interest in self.config["interests"]]
        name = name[:60]
        return name if name not in taken else next(f"{name}-{i}" for i in range(2, 999) if f"{name}-{i}" not in taken)

    def stack(self, prefix: str, layers: Sequence[Layer]) -> list[Config]:
        """Layers' tensors under PREFIX.layers.J; returns their config."""
        entries = []
        for place, layer in enumerate(layers):
            entries.append(self.layer(f"{prefix}.layers.{place}", layer))
        return entries

    def layer(self, prefix: str, layer: Layer) -> Config:
        """One layer's tensors under PREFIX; returns its config."""
        for name, values in {"weight": layer.weight, "bias": layer.bias, **layer.parameters}.items():
            self.tensors[f"{prefix}.{name}"] = values
        if layer.norms:
            places = self.config["metadata"].setdefault("batch_norm_folded", {})
            places[prefix] = layer.norms
        return {"units": layer.units, "activation": layer.activation, **layer.more}

    def interest(self, name: str, history: Sequence[str], target: Sequence[str], max_length: int, keep: str,
                 extractor: Cell, evolution: Cell, cell: str) -> Config:
        """An interest with its two recurrences; the caller adds its attention."""
        prefix = f"interests.{self._name(name, 'interest')}"
        entry: Config = {"name": name, "history": list(history), "target": list(target), "max_length": int(max_length),
                         "keep": keep}
        for part, tensors, kind in (("extractor", extractor, "gru"), ("evolution", evolution, cell)):
            self.tensors.update({f"{prefix}.{part}.{key}": values for key, values in tensors.items()})
            entry[part] = {"cell": kind, "units": tensors["weight_hidden"].shape[1],
                           "reset": "after" if "bias_hidden" in tensors else "before"}
            if part == "extractor":
                entry["attention"] = {"kind": "none"}  # keeps the order of the keys
        self.config["interests"].append(entry)
        return entry

    def mlp(self, inputs: Sequence[str], layers: Sequence[Layer]) -> None:
        """The top, from its inputs to the last, linear layer."""
        self.config["mlp"] = {"inputs": list(inputs), "layers": self.stack("mlp", layers)}

    def finish(self) -> tuple[Config, dict[str, np.ndarray]]:
        """Config and float64 tensors, with no empty parts."""
        for name in self.groups["behaviour"]:
            if name not in self.config["groups"]["behaviour"]:
                raise ConversionError(f"groups: behaviour {name} is read by no interest")
        for group in ("user", "context", "candidate"):
            strangers = [name for name in self.groups[group] if name not in self.config["groups"][group]]
            if strangers:
                raise ConversionError(f"groups: {group} names {', '.join(strangers)}, which the model does not have")
        for key in ("vocabularies",):
            if not self.config[key]:
                del self.config[key]
        self.config["groups"] = {group: names for group, names in self.config["groups"].items() if names}
        self.config["format"] = format_of(self.config)
        return self.config, self.tensors
