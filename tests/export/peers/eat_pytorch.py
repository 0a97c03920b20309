"""The DIEN of lyhue1991's eat_pytorch_in_20_days: its notebook's names and cells, arithmetic from its description."""

import torch
from torch import nn

from peers import prediction_flow


class Dice(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.bn = nn.BatchNorm1d(units, eps=1e-8)
        self.alpha = nn.Parameter(torch.zeros(units))

    def forward(self, x):
        p = torch.sigmoid(self.bn(x))
        return self.alpha * (1 - p) * x + p * x


class Dialect(prediction_flow.Dialect):
    framework, sequential, agru_gates = "eat-pytorch", "mlp", 2
    activations = ("relu", "prelu", "sigmoid", "dice", "tanh", "silu", "linear")

    def activation(self, name, units):
        made = {"dice": lambda: Dice(units), "tanh": nn.Tanh, "silu": nn.SiLU, "linear": nn.Identity}
        return made[name]() if name in made else super().activation(name, units)

    def keys(self, a):
        names = {
            "number_features": "num_features",
            "category_features": "cat_features",
            "sequence_features": "seq_features",
            "hidden_layers": "mlp_hidden_layers",
            "dnn_activation": "mlp_activation",
        }
        return {**{names.get(key, key): value for key, value in a.items()}, "d_out": 1}

    def step(self, cell, kind, x, h, a):
        """AGRU has two gates. AUGRU's come in the order update, reset, candidate, and its update gate writes."""
        if kind == "AGRU":
            (xr, hr), (xn, hn) = cell.products(x, h, 2)
            return (1 - a) * h + a * torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        (xu, hu), (xr, hr), (xn, hn) = cell.products(x, h, 3)
        u = a * torch.sigmoid(xu + hu)
        return (1 - u) * h + u * torch.tanh(xn + torch.sigmoid(xr + hr) * hn)


def case(seed):
    a, tensors, options, requests = prediction_flow.made(seed, Dialect(), False)
    return a, tensors, options, requests
