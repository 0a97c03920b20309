"""The shape of a network by its config.json (FORMAT.md): widths of fields and inputs, names and shapes of weights.

A config is the parsed JSON object. This module does not validate it, because the server validates for itself.
"""
from __future__ import annotations

from typing import Any

Config = dict[str, Any]
Shape = tuple[int, ...]

ACTIVATION_TENSORS = {"prelu": ("alpha",), "dice": ("alpha", "gain", "offset"), "dice-row": ("alpha",)}


def field_of(config: Config, name: str) -> Config:
    """The field of this name."""
    for field in config["fields"]:
        if field["name"] == name:
            return field
    raise KeyError(f"config.json: no field {name}")


def format_of(config: Config) -> str:
    """The oldest format that can say this config: dien/2 for the cell or for multi-valued fields of its own, else dien/1."""
    second = any(interest["evolution"]["cell"] == "augru-keep" for interest in config["interests"])
    second = second or any("pool" in field for field in config["fields"])
    return "dien/2" if second else "dien/1"


def interest_of(config: Config, name: str) -> Config:
    """The interest of this name."""
    for interest in config["interests"]:
        if interest["name"] == name:
            return interest
    raise KeyError(f"config.json: no interest {name}")


def field_width(config: Config, name: str) -> int:
    """How many numbers a field contributes: its value, its layer's output, or its row of the table."""
    field = field_of(config, name)
    if field["kind"] == "dense":
        return field.get("units", field.get("width", 1))
    return config["tables"][field["table"]]["width"]


def group(config: Config, name: str) -> list[str]:
    """The names of the fields in `user`, `context`, `behaviour` or `candidate`."""
    return config["groups"].get(name, [])


def behaviour_width(config: Config, interest: Config) -> int:
    """E, the width of an embedded behaviour."""
    return sum(field_width(config, name) for name in interest["history"])


def target_width(config: Config, interest: Config) -> int:
    """F, the width of an embedded target."""
    return sum(field_width(config, name) for name in interest["target"])


def key_width(interest: Config) -> int:
    """K, the width of the attention's keys: the extractor's states, or with pooling the evolution's."""
    return interest["evolution" if interest["evolution"]["cell"] == "gru+pooling" else "extractor"]["units"]


def query_width(config: Config, interest: Config) -> int:
    """Q, the width of the attention's query."""
    query = interest["attention"].get("query")
    return query["units"] if query else target_width(config, interest)


def input_width(config: Config, source: str) -> int:
    """The width of one of the MLP's inputs."""
    kind, name = source.split(".", 1)
    if kind in ("user", "context", "candidate"):
        return field_width(config, name)
    interest = interest_of(config, name)
    return interest["evolution"]["units"] if kind == "interest" else behaviour_width(config, interest)


def _layer_shapes(prefix: str, layer: Config, inputs: int) -> dict[str, Shape]:
    units = layer["units"]
    shapes = {f"{prefix}.weight": (units, inputs), f"{prefix}.bias": (units,)}
    for name in ACTIVATION_TENSORS.get(layer["activation"], ()):
        shapes[f"{prefix}.{name}"] = (units,)
    return shapes


def _stack_shapes(prefix: str, layers: list[Config], inputs: int) -> dict[str, Shape]:
    shapes = {}
    for place, layer in enumerate(layers):
        shapes.update(_layer_shapes(f"{prefix}.layers.{place}", layer, inputs))
        inputs = layer["units"]
    return shapes


def _cell_shapes(prefix: str, cell: Config, inputs: int) -> dict[str, Shape]:
    units = cell["units"]
    shapes = {f"{prefix}.weight_input": (3 * units, inputs), f"{prefix}.weight_hidden": (3 * units, units),
              f"{prefix}.bias": (3 * units,)}
    if cell["reset"] == "after":
        shapes[f"{prefix}.bias_hidden"] = (units,)
    return shapes


def _attention_shapes(prefix: str, config: Config, interest: Config) -> dict[str, Shape]:
    attention, width = interest["attention"], key_width(interest)
    shapes = {}
    if "query" in attention:
        shapes.update(_layer_shapes(f"{prefix}.query", attention["query"], target_width(config, interest)))
    if attention["kind"] == "bilinear":
        shapes[f"{prefix}.matrix"] = (width, query_width(config, interest))
    if attention["kind"] == "mlp":
        shapes.update(_stack_shapes(prefix, attention["layers"], 4 * width))
    return shapes


def weight_shapes(config: Config) -> dict[str, Shape]:
    """Every tensor of floating-point weights and its shape; tables as [rows, width], whatever type they are stored in."""
    shapes: dict[str, Shape] = {f"tables.{name}": (table["rows"], table["width"])
                                for name, table in config["tables"].items()}
    for field in config["fields"]:
        if field["kind"] == "dense" and "units" in field:
            shapes[f"dense.{field['name']}.weight"] = (field["units"], field.get("width", 1))
    for interest in config["interests"]:
        prefix = f"interests.{interest['name']}"
        hidden = interest["extractor"]["units"]
        shapes.update(_cell_shapes(f"{prefix}.extractor", interest["extractor"], behaviour_width(config, interest)))
        shapes.update(_attention_shapes(f"{prefix}.attention", config, interest))
        shapes.update(_cell_shapes(f"{prefix}.evolution", interest["evolution"], hidden))
    inputs = sum(input_width(config, source) for source in config["mlp"]["inputs"])
    shapes.update(_stack_shapes("mlp", config["mlp"]["layers"], inputs))
    return shapes


def attribute_shapes(config: Config) -> dict[str, Shape]:
    """Every tensor attributes.FIELD and its shape."""
    shapes: dict[str, Shape] = {}
    for field in config["fields"]:
        if "attribute_of" in field:
            rows = config["tables"][field_of(config, field["attribute_of"])["table"]]["rows"]
            several = field.get("width", 1) if field["kind"] == "dense" else field.get("values")
            shapes[f"attributes.{field['name']}"] = (rows,) if several is None else (rows, several)
    return shapes
