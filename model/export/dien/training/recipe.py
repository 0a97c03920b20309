"""The demo model: its config for a catalogue, and the variants of it that the ablation compares."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dien.data.clickstream import LABELS, Catalogue
from dien.model.config import Config, behaviour_width
from dien.model.network import DIEN

WIDTHS = {"item": 24, "category": 4, "colour": 4, "location": 4, "photograph": 2, "page": 4, "price_band": 4,
          "country": 4, "month": 4}
ITEM_FIELDS = ("item", "category", "colour", "location", "page", "price_band")
ROWS = {"country": 48, "month": 13}  # codes 1..47, months 1..12; row 0 is unknown
MAX_LENGTH = 50


@dataclass
class Shape:
    """The choices that training explores."""

    activation: str = "prelu"
    hidden: tuple[int, ...] = (200, 80)
    item_fields: tuple[str, ...] = ITEM_FIELDS
    user_fields: tuple[str, ...] = ("country",)
    context_fields: tuple[str, ...] = ("month",)
    pooled: bool = True  # history_sum and product among the MLP's inputs, as in the authors' code


def _field(name: str) -> Config:
    field = {"name": name, "kind": "categorical", "table": name}
    if name == "item":
        return {**field, "ids": "vocabulary", "vocabulary": "item", "first_row": 1, "unknown_row": 0}
    return {**field, "ids": "index", "unknown_row": 0, **({} if name in ROWS else {"attribute_of": "item"})}


def config_of(catalogue: Catalogue, shape: Shape, vocabulary: Config) -> Config:
    """The config of a DIEN as in the paper: bilinear attention, AUGRU, extractor units = width of a behaviour."""
    names = [*shape.item_fields, *shape.user_fields, *shape.context_fields]
    rows = {"item": len(catalogue.codes) + 1, **ROWS}
    rows.update({name: int(values.max()) + 1 for name, values in catalogue.attributes.items()})
    items = list(shape.item_fields)
    units = sum(WIDTHS[name] for name in items)
    pooled = ["history_sum.clicks", "product.clicks"] if shape.pooled else []
    layers = [{"units": n, "activation": shape.activation} for n in shape.hidden]
    return {
        "format": "dien/1", "name": "eshop", "version": "1", "metadata": {"labels": LABELS},
        "vocabularies": {"item": vocabulary},
        "tables": {name: {"rows": rows[name], "width": WIDTHS[name]} for name in names},
        "fields": [_field(name) for name in names],
        "groups": {"user": list(shape.user_fields), "context": list(shape.context_fields),
                   "behaviour": items, "candidate": items},
        "interests": [{
            "name": "clicks", "history": items, "target": items, "max_length": MAX_LENGTH, "keep": "last",
            "extractor": {"cell": "gru", "units": units, "reset": "after"},
            "attention": {"kind": "bilinear", "normalise": "softmax"},
            "evolution": {"cell": "augru-and", "units": units, "reset": "after"},
        }],
        "mlp": {"inputs": [*(f"user.{name}" for name in shape.user_fields),
                           *(f"context.{name}" for name in shape.context_fields),
                           *(f"candidate.{name}" for name in items), "interest.clicks", *pooled],
                "layers": [*layers, {"units": 1, "activation": "linear"}]},
        "output": {"kind": "sigmoid"},
    }


class WithoutAttention(DIEN):
    """GRU without attention: the extractor's last state in place of the evolved one."""

    def evolve(self, interest: Config, states: Tensor, attention: Tensor, real: Tensor) -> Tensor:
        last = (real.sum(1) - 1).clamp(min=0)
        state = states[torch.arange(len(last)), last] * real.any(1, keepdim=True)
        return state.unsqueeze(1).expand(-1, attention.shape[1], -1)


class WithoutRecurrence(DIEN):
    """DIN's form: attention over the embedded behaviours themselves, and their weighted sum."""

    def extract(self, interest: Config, behaviours: Tensor) -> Tensor:
        if interest["extractor"]["units"] != behaviour_width(self.config, interest):
            raise ValueError("attention without a GRU needs extractor units = width of a behaviour")
        return behaviours

    def evolve(self, interest: Config, states: Tensor, attention: Tensor, real: Tensor) -> Tensor:
        return attention @ states


VARIANTS = {"dien": DIEN, "gru": WithoutAttention, "din": WithoutRecurrence}
