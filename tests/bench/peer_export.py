"""The DIEN of a model directory as ONNX graphs, each with fixed T and C, for ONNX Runtime to be compared with.

    tiled      the PyTorch module traced with the user repeated for each candidate: what an export of the training graph does
    once       the same module traced with one user and C candidates
    encoder    written for speed: the history's part alone, as the GRU operator, and all products that depend on it alone
    scorer     written for speed: the candidates' part, given what `encoder` puts out
    best       `encoder` and `scorer` as one graph

The last three hold the same factorings that the engine uses: the attention's first layer is split into a part per
candidate, a part per step and a part per pair, and W_x h_t + b of the AUGRU is the encoder's. They need a model with one
interest, an MLP attention over [q, k, q-k, q*k] and reset "before", which is what the GRU operator's
linear_before_reset = 0 means.
"""
from __future__ import annotations

import json
import pathlib
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "model" / "export"))

from dien.model.network import DIEN, Batch  # noqa: E402

OPSET = 16


def interest_of(network: DIEN) -> dict[str, Any]:
    interests = network.config["interests"]
    assert len(interests) == 1, "one interest"
    return interests[0]


class Traced(nn.Module):
    """The network on plain tensors: user [B], history [B, T] and candidates [B, C] of rows; scores [B, C]."""

    def __init__(self, network: DIEN):
        super().__init__()
        self.network = network

    def forward(self, user: Tensor, items: Tensor, categories: Tensor, candidate_items: Tensor,
                candidate_categories: Tensor) -> Tensor:
        name = interest_of(self.network)["name"]
        lengths = torch.full((items.shape[0],), items.shape[1])
        batch = Batch({"user": user}, {}, {name: {"item": items, "category": categories}}, {name: lengths},
                      {"item": candidate_items, "category": candidate_categories})
        return torch.sigmoid(self.network(batch)[0])


class GruOperator(torch.autograd.Function):
    """A GRU over [T, 1, E] with ONNX's weights; traced as the operator that ONNX Runtime has a kernel for."""

    @staticmethod
    def forward(_context, inputs, _weight_input, weight_hidden, _bias):  # noqa: D102: its shape is all that tracing needs
        return inputs.new_zeros(inputs.shape[0], 1, 1, weight_hidden.shape[2])

    @staticmethod
    def symbolic(g, inputs, weight_input, weight_hidden, bias):  # noqa: D102
        return g.op("GRU", inputs, weight_input, weight_hidden, bias,
                    hidden_size_i=weight_hidden.type().sizes()[2], linear_before_reset_i=0)


class Encoder(nn.Module):
    """History [T] of rows to what scoring reads of it."""

    def __init__(self, network: DIEN):
        super().__init__()
        self.network = network
        interest = interest_of(network)
        self.name = interest["name"]
        assert interest["extractor"]["reset"] == "before"
        assert interest["attention"]["inputs"] == ["q", "k", "q-k", "q*k"]

    def weight(self, part: str) -> Tensor:
        return self.network.weight(f"interests.{self.name}.{part}").detach()

    def onnx_gates(self, matrix: Tensor) -> Tensor:
        """Rows reset, write, candidate to ONNX's keep, reset, candidate: its update gate keeps, so its sign turns."""
        reset, write, candidate = matrix.chunk(3)
        return torch.cat([-write, reset, candidate])

    def forward(self, items: Tensor, categories: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        behaviours = torch.cat([self.network.embed("item", items), self.network.embed("category", categories)], -1)
        bias = self.onnx_gates(self.weight("extractor.bias"))
        states = GruOperator.apply(behaviours.unsqueeze(1), self.onnx_gates(self.weight("extractor.weight_input"))[None],
                                   self.onnx_gates(self.weight("extractor.weight_hidden"))[None],
                                   torch.cat([bias, torch.zeros_like(bias)])[None])
        states = states.reshape(items.shape[0], -1)
        projected = nn.functional.linear(states, self.weight("evolution.weight_input"), self.weight("evolution.bias"))
        _, key, difference, _ = self.weight("attention.layers.0.weight").chunk(4, 1)
        attended = nn.functional.linear(states, key - difference, self.weight("attention.layers.0.bias"))
        return states, projected, attended, behaviours.sum(0, keepdim=True)


class Scorer(nn.Module):
    """User [1] and candidates [C] of rows, and what the encoder put out, to scores [C]."""

    def __init__(self, network: DIEN):
        super().__init__()
        self.network = network
        self.encoder = Encoder(network)
        self.interest = interest_of(network)

    def weight(self, part: str) -> Tensor:
        return self.encoder.weight(part)

    def attend(self, states: Tensor, attended: Tensor, target: Tensor) -> Tensor:
        """Attention scores [T, C]."""
        attention = self.interest["attention"]
        prefix = f"interests.{self.interest['name']}.attention"
        query = self.network._layer(f"{prefix}.query", attention["query"], target)
        own, _, difference, product = self.weight("attention.layers.0.weight").chunk(4, 1)
        x = (query.unsqueeze(0) * states.unsqueeze(1)) @ product.T
        x = x + attended.unsqueeze(1) + nn.functional.linear(query, own + difference)
        x = torch.sigmoid(x) if attention["layers"][0]["activation"] == "sigmoid" else x
        for place, layer in enumerate(attention["layers"][1:], 1):
            x = self.network._layer(f"{prefix}.layers.{place}", layer, x)
        return torch.softmax(x.squeeze(-1), 0)

    def evolve(self, projected: Tensor, attention: Tensor) -> Tensor:
        """The AUGRU's last state [C, H], candidates in columns: of the forms tried, the one that ONNX Runtime runs
        fastest (both gates in one product, cut apart without a copy, and the fewest nodes a step)."""
        units, cell = self.interest["evolution"]["units"], self.interest["evolution"]["cell"]
        # For "or" the gate of what is kept, 1 - write = (1 - a)(1 - v), and so -v.
        turn = torch.ones(3 * units)
        turn[units:2 * units] = {"augru-or": -1, "augru-and": 1}[cell]
        matrix = self.weight("evolution.weight_hidden") * turn.unsqueeze(1)
        projected = (projected * turn).unsqueeze(-1)
        weights = (1 - attention if cell == "augru-or" else attention).unsqueeze(1)
        h = projected.new_zeros(units, attention.shape[1])
        for x, x_candidate, a in zip(projected[:, :2 * units].unbind(0), projected[:, 2 * units:].unbind(0),
                                     weights.unbind(0)):
            reset, gate = torch.sigmoid(torch.mm(matrix[:2 * units], h) + x).split(units, 0)
            candidate = torch.tanh(torch.mm(matrix[2 * units:], reset * h) + x_candidate)
            gate = a * gate
            h = candidate + gate * (h - candidate) if cell == "augru-or" else h + gate * (candidate - h)
        return h.T

    def forward(self, user: Tensor, candidate_items: Tensor, candidate_categories: Tensor, states: Tensor,
                projected: Tensor, attended: Tensor, total: Tensor) -> Tensor:
        network = self.network
        item, category = network.embed("item", candidate_items), network.embed("category", candidate_categories)
        target = torch.cat([item, category], -1)
        final = self.evolve(projected, self.attend(states, attended, target))
        count = target.shape[0]
        x = torch.cat([network.embed("user", user).expand(count, -1), target, total.expand(count, -1),
                       target * total, final], -1)
        return torch.sigmoid(network._logit(network._stack("mlp", network.config["mlp"]["layers"], x)))


class Best(nn.Module):
    def __init__(self, network: DIEN):
        super().__init__()
        self.encoder, self.scorer = Encoder(network), Scorer(network)

    def forward(self, user: Tensor, items: Tensor, categories: Tensor, candidate_items: Tensor,
                candidate_categories: Tensor) -> Tensor:
        return self.scorer(user, candidate_items, candidate_categories, *self.encoder(items, categories))


class Nothing(nn.Module):
    """No network: what a call costs by itself."""

    def forward(self, user: Tensor) -> Tensor:
        return user + 0


ENCODED = ["states", "projected", "attended", "total"]
INPUTS = ("user", "items", "categories", "candidate_items", "candidate_categories")
Inputs = dict[str, Tensor]


def tiled(inputs: Inputs) -> Inputs:
    """A batch of C users, all the same one, with one candidate each."""
    count = inputs["candidate_items"].shape[0]
    return {"user": inputs["user"].repeat(count),
            **{name: inputs[name].repeat(count, 1) for name in ("items", "categories")},
            **{name: inputs[name].view(count, 1) for name in ("candidate_items", "candidate_categories")}}


def once(inputs: Inputs) -> Inputs:
    """A batch of one user with C candidates."""
    return {name: value if name == "user" else value.unsqueeze(0) for name, value in inputs.items()}


def taken(inputs: Inputs, *names: str) -> Inputs:
    return {name: inputs[name] for name in names}


def export(module: nn.Module, inputs: Inputs, outputs: list[str], path: pathlib.Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # Python values in the trace: T and C are fixed on purpose
        torch.onnx.export(module.eval(), tuple(inputs.values()), str(path), opset_version=OPSET,
                          input_names=list(inputs), output_names=outputs, do_constant_folding=True)


def export_all(network: DIEN, inputs: Inputs, directory: pathlib.Path, names: tuple[str, ...]) -> None:
    """The graphs of these names for one request, and feeds.json: what each is fed with.

    `inputs` has the rows of INPUTS: user [1], items and categories [T], the candidates' [C].
    """
    encoder = Encoder(network)
    with torch.no_grad():
        state = dict(zip(ENCODED, encoder(inputs["items"], inputs["categories"])))
    candidates = taken(inputs, "user", "candidate_items", "candidate_categories")
    graphs: dict[str, tuple[nn.Module, Inputs, Inputs, list[str]]] = {
        "tiled": (Traced(network), tiled(inputs), {}, ["scores"]),
        "once": (Traced(network), once(inputs), {}, ["scores"]),
        "best": (Best(network), inputs, {}, ["scores"]),
        "encoder": (encoder, taken(inputs, "items", "categories"), {}, ENCODED),
        "scorer": (Scorer(network), candidates, state, ["scores"]),
        "nothing": (Nothing(), taken(inputs, "user"), {}, ["scores"])}
    feeds = {}
    for name in names:
        module, fed, more, outputs = graphs[name]
        export(module, {**fed, **more}, outputs, directory / f"{name}.onnx")
        feeds[name] = {key: {"values": value.flatten().tolist(), "shape": list(value.shape)} for key, value in fed.items()}
    (directory / "feeds.json").write_text(json.dumps(feeds))
