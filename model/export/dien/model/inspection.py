"""Prints a model as tables that a person can check against the training code."""
from __future__ import annotations

import os
from typing import Iterable, Mapping, Sequence

import numpy as np

from dien.model import safetensors
from dien.model.config import (Config, behaviour_width, field_width, input_width, key_width, query_width, target_width,
                               weight_shapes)
from dien.model.model_directory import read_config

WRITE_GATES = {"augru-and": "w = a * v", "augru-or": "w = v + a - a * v", "augru-keep": "w = 1 - a * (1 - v)",
               "agru": "w = a (rows v unused)", "aigru": "w = v, x = a * h",
               "gru": "w = v", "gru+pooling": "w = v, then sum of a * g"}
TARGETS = {"before": "c = tanh(Wx + U(r*h) + b)", "after": "c = tanh(Wx + b + r*(Uh + bh))"}
FOLDED = {"before": "BatchNorm of its input folded in", "after": "BatchNorm of its output folded in"}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under a head, columns aligned: numbers to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    right = [bool(cells) and all(row[i].replace(",", "").isdigit() for row in cells) for i in range(len(head))]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(head)]
    lines = []
    for row in [list(head), ["-" * width for width in widths], *cells]:
        lines.append("  " + "  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                                      for cell, width, to_right in zip(row, widths, right)).rstrip())
    return "\n".join(lines)


class _Model:
    """Config and shapes, and the count of parameters under a prefix."""

    def __init__(self, config: Config, types: Mapping[str, str]):
        self.config, self.types = config, types
        self.shapes = weight_shapes(config)
        self.folded = config.get("metadata", {}).get("batch_norm_folded", {})

    def count(self, prefix: str) -> int:
        return sum(int(np.prod(shape)) for name, shape in self.shapes.items() if name.startswith(prefix))

    def tensors(self, prefix: str) -> str:
        """The tensors of a stage with their shapes."""
        names = [name for name in self.shapes if name.startswith(f"{prefix}.")]
        return ", ".join(f"{name[len(prefix) + 1:]} {list(self.shapes[name])}" for name in names) or "none"

    def layers(self, prefix: str, layers: Sequence[Config], inputs: int, stage: str) -> list[list[object]]:
        """A row for each layer of a stack."""
        rows = []
        for place, layer in enumerate(layers):
            rows.append(self.layer(f"{prefix}.layers.{place}", layer, inputs, f"{stage} layer {place}"))
            inputs = layer["units"]
        return rows

    def layer(self, prefix: str, layer: Config, inputs: int, stage: str) -> list[object]:
        said = [layer["activation"]]
        if "epsilon" in layer:
            said.append(f"epsilon {layer['epsilon']:g}")
        said += [FOLDED[place] for place in self.folded.get(prefix, ())]
        return [stage, f"{inputs} -> {layer['units']}", "; ".join(said), self.tensors(prefix), self.count(f"{prefix}.")]


def _fields(model: _Model) -> str:
    rows = []
    for field in model.config["fields"]:
        groups = ", ".join(group for group, names in model.config["groups"].items() if field["name"] in names)
        if field["kind"] == "dense":
            through = f"linear [{field['units']}, {field.get('width', 1)}]" if "units" in field else "as it is"
            rows.append([field["name"], groups, "dense", f"{field.get('width', 1)} numbers", through,
                         field_width(model.config, field["name"]), "", field.get("attribute_of", "")])
            continue
        table = model.config["tables"][field["table"]]
        kind = model.types.get(f"tables.{field['table']}", "")
        ids = "index" if field["ids"] == "index" else f"vocabulary {field['vocabulary']}"
        if field.get("first_row"):
            ids += f" + {field['first_row']}"
        if "pool" in field:
            ids += f", {field['pool']} of at most {field['values']}"
        rows.append([field["name"], groups, "categorical", ids,
                     f"{field['table']} [{table['rows']}, {table['width']}] {kind}".strip(),
                     table["width"], field["unknown_row"], field.get("attribute_of", "")])
    return _table(["field", "groups", "kind", "ids", "table or layer", "width", "unknown row", "attribute of"], rows)


def _cell(model: _Model, interest: Config, part: str, inputs: int) -> list[object]:
    cell, prefix = interest[part], f"interests.{interest['name']}.{part}"
    gate = WRITE_GATES[cell["cell"]]
    return [f"{part} {cell['cell']}", f"{inputs} -> {cell['units']}", f"reset {cell['reset']}: {TARGETS[cell['reset']]}; {gate}",
            model.tensors(prefix), model.count(f"{prefix}.")]


def _attention(model: _Model, interest: Config) -> list[list[object]]:
    attention, prefix = interest["attention"], f"interests.{interest['name']}.attention"
    if attention["kind"] == "none":
        return [["attention none", "", "", "none", 0]]
    keys = "g_t of the evolution" if interest["evolution"]["cell"] == "gru+pooling" else "h_t of the extractor"
    said = [f"keys {keys}", f"scale {attention.get('scale', 1):g}", f"normalise {attention['normalise']}"]
    if attention["kind"] == "mlp":
        said.insert(0, f"inputs {', '.join(attention['inputs'])}")
    config = model.config
    rows = [[f"attention {attention['kind']}", f"K {key_width(interest)}, Q {query_width(config, interest)}", "; ".join(said),
             f"matrix {list(model.shapes[f'{prefix}.matrix'])}" if attention["kind"] == "bilinear" else "",
             model.count(f"{prefix}.matrix")]]
    if "query" in attention:
        rows.append(model.layer(f"{prefix}.query", attention["query"], target_width(config, interest), "  query layer"))
    return rows + model.layers(prefix, attention.get("layers", []), 4 * key_width(interest), "  attention")


def _interest(model: _Model, interest: Config) -> str:
    units = interest["extractor"]["units"]
    head = (f"interest {interest['name']}: history {', '.join(interest['history'])} "
            f"(E {behaviour_width(model.config, interest)}), "
            f"target {', '.join(interest['target'])} (F {target_width(model.config, interest)}), "
            f"the {interest['keep']} {interest['max_length']} behaviours")
    rows = [_cell(model, interest, "extractor", behaviour_width(model.config, interest)), *_attention(model, interest),
            _cell(model, interest, "evolution", units)]
    return f"{head}\n{_table(['stage', 'widths', 'conventions', 'tensors', 'parameters'], rows)}"


def _mlp(model: _Model) -> str:
    rows, start = [], 0
    for source in model.config["mlp"]["inputs"]:
        width = input_width(model.config, source)
        rows.append([source, f"{start} to {start + width - 1}", width])
        start += width
    inputs = _table(["mlp input", "places", "width"], rows)
    layers = _table(["stage", "widths", "conventions", "tensors", "parameters"],
                    model.layers("mlp", model.config["mlp"]["layers"], start, "mlp"))
    return f"{inputs}\n\n{layers}"


def _output(config: Config) -> str:
    output = config["output"]
    said = "sigmoid of the last layer" if output["kind"] == "sigmoid" else \
        f"softmax of the last layer, column {output['positive']}"
    if "bias" in output:
        said += f", with the bias of each {output['bias']['field']} (table {output['bias']['table']})"
    return f"output: {said}"


def describe(config: Config, tensors: Mapping[str, safetensors.Tensor]) -> str:
    """All of a model: fields, interests, MLP, output, parameters."""
    types = {name: "BF16" if isinstance(tensor, safetensors.BF16) else safetensors.TYPE_NAMES[tensor.dtype.newbyteorder("<")]
             for name, tensor in tensors.items()}
    model = _Model(config, types)
    tables = model.count("tables.")
    came = config.get("metadata", {}).get("converted_from")
    parts = [f"model {config['name']}, version {config['version']}" + (f", from {came}" if came else ""), _fields(model),
             *(_interest(model, interest) for interest in config["interests"]), _mlp(model), _output(config),
             f"parameters: {model.count(''):,} ({tables:,} in tables, {model.count('') - tables:,} in the network)"]
    return "\n\n".join(parts)


def describe_directory(directory: str) -> str:
    """describe() of a model directory."""
    return describe(read_config(directory), safetensors.read_stored(os.path.join(directory, "model.safetensors")))
