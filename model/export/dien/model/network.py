"""The Deep Interest Evolution Network as FORMAT.md defines it, in PyTorch: the reference that every score is held to.

Zhou et al., "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI 2019 (arXiv 1809.03672). One
module serves training in float32 and the truth in float64. Dimensions: B users, T behaviours, C candidates of each
user, E, F, H, G, Q as in FORMAT.md. Parameters carry the names of the tensors in model.safetensors.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import torch
from torch import Tensor, nn

from dien.model.config import Config, field_of, weight_shapes

DICE_EPSILON = 1e-8
DICE_MOMENTUM = 0.99


@dataclass
class Batch:
    """B requests of equal shape. A categorical field has rows of its table as values. A dense field has numbers, with
    one more dimension for its width; a multi-valued field has rows, with one more for its values, -1 where there is none."""

    user: dict[str, Tensor]                 # [B]
    context: dict[str, Tensor]              # [B]
    history: dict[str, dict[str, Tensor]]   # by interest, then field: [B, T], already cut to max_length
    lengths: dict[str, Tensor]              # by interest: [B], the behaviours that are not padding
    candidates: dict[str, Tensor]           # [B, C]


@dataclass
class Trace:
    """Values inside the forward pass, by interest: for explain, and for the auxiliary loss."""

    behaviours: dict[str, Tensor]  # [B, T, E]
    states: dict[str, Tensor]      # [B, T, H]
    attention: dict[str, Tensor]   # [B, C, T]; none for an interest without attention


class DIEN(nn.Module):
    """The network of one config."""

    def __init__(self, config: Config, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config = config
        for name, shape in weight_shapes(config).items():
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
            self.register_parameter(name.replace(".", "/"), parameter)  # PyTorch keeps dots for itself
            if name.endswith((".gain", ".offset")):
                parameter.requires_grad_(False)  # Dice's statistics: gathered, not learned

    def weights(self) -> dict[str, nn.Parameter]:
        """Every parameter, by the name of its tensor."""
        return {name.replace("/", "."): parameter for name, parameter in self.named_parameters()}

    def weight(self, name: str) -> Tensor:
        """One parameter, by the name of its tensor."""
        return self._parameters[name.replace(".", "/")]

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of all weights; a missing or misshapen one is an error that names it."""
        with torch.no_grad():
            for name, parameter in self.weights().items():
                if name not in tensors:
                    raise ValueError(f"tensor {name} is missing")
                if tensors[name].shape != parameter.shape:
                    raise ValueError(f"tensor {name} has shape {list(tensors[name].shape)}, "
                                     f"config.json asks for {list(parameter.shape)}")
                parameter.copy_(tensors[name])

    def initialise(self, generator: torch.Generator) -> None:
        """Random weights for training: Xavier's for matrices, orthogonal recurrences, small embeddings."""
        with torch.no_grad():
            for name, parameter in self.weights().items():
                last = name.rsplit(".", 1)[1]
                if name.startswith("tables."):
                    parameter.normal_(0, 0.05, generator=generator)
                elif last == "weight_hidden":
                    for gate in parameter.chunk(3):
                        gate.copy_(torch.linalg.qr(torch.randn(gate.shape, generator=generator))[0])
                elif parameter.dim() == 2:
                    parameter.normal_(0, (2 / sum(parameter.shape)) ** 0.5, generator=generator)
                else:
                    parameter.fill_({"alpha": 0.25, "gain": 1.0}.get(last, 0.0))

    def forward(self, batch: Batch) -> tuple[Tensor, Trace]:
        """The logit of each candidate's score, [B, C], and the way there."""
        trace = Trace({}, {}, {})
        pieces: dict[str, Tensor] = {}
        count = next(iter(batch.candidates.values())).shape[1]
        for kind, columns in (("user", batch.user), ("context", batch.context)):
            for name, column in columns.items():
                embedded = self.embed(name, column)
                pieces[f"{kind}.{name}"] = embedded.unsqueeze(1).expand(-1, count, -1)
        for name, column in batch.candidates.items():
            pieces[f"candidate.{name}"] = self.embed(name, column)
        for interest in self.config["interests"]:
            self._follow(interest, batch, pieces, trace)
        x = torch.cat([pieces[source] for source in self.config["mlp"]["inputs"]], -1)
        logit = self._logit(self._stack("mlp", self.config["mlp"]["layers"], x))
        bias = self.config["output"].get("bias")
        if bias:
            logit = logit + self.weight(f"tables.{bias['table']}")[batch.candidates[bias["field"]], 0]
        return logit, trace

    def embed(self, name: str, column: Tensor) -> Tensor:
        """One field's embedded values: one more dimension than rows have, as many as a dense field's have."""
        field = field_of(self.config, name)
        if field["kind"] == "dense":
            values = column.to(next(self.parameters()).dtype)
            return values @ self.weight(f"dense.{name}.weight").T if "units" in field else values
        if "pool" in field:
            return pooled(field["pool"], self.rows(field["table"], column.clamp(min=0)), column >= 0)
        return self.rows(field["table"], column)

    def rows(self, table: str, rows: Tensor) -> Tensor:
        """Rows of a table, in one more dimension."""
        return nn.functional.embedding(rows, self.weight(f"tables.{table}"))

    def _follow(self, interest: Config, batch: Batch, pieces: dict[str, Tensor], trace: Trace) -> None:
        """One interest from behaviours to final state (section 4.3 of the paper)."""
        name = interest["name"]
        behaviours = torch.cat([self.embed(field, batch.history[name][field]) for field in interest["history"]], -1)
        target = torch.cat([self.embed(field, batch.candidates[field]) for field in interest["target"]], -1)
        real = torch.arange(behaviours.shape[1]) < batch.lengths[name].unsqueeze(1)  # [B, T]
        states = self.extract(interest, behaviours)
        cell, count = interest["evolution"]["cell"], target.shape[1]
        if cell == "gru+pooling":
            evolved = self._run(f"interests.{name}.evolution", interest["evolution"], states)
            attention = self.attend(interest, evolved, target, real)
            pieces[f"interest.{name}"] = attention @ evolved
        elif interest["attention"]["kind"] == "none":
            attention = real.to(states.dtype).unsqueeze(1).expand(-1, count, -1)
            pieces[f"interest.{name}"] = self.evolve(interest, states, attention, real)
        else:
            attention = self.attend(interest, states, target, real)
            pieces[f"interest.{name}"] = self.evolve(interest, states, attention, real)
        total = (behaviours * real.unsqueeze(-1)).sum(1, keepdim=True)
        pieces[f"history_sum.{name}"] = total.expand(-1, count, -1)
        if f"product.{name}" in self.config["mlp"]["inputs"]:
            pieces[f"product.{name}"] = target * total
        trace.behaviours[name], trace.states[name] = behaviours, states
        if interest["attention"]["kind"] != "none":
            trace.attention[name] = attention

    def _step(self, prefix: str, cell: Config, projected: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The write gate v and the candidate state c of one step, from W x + b and h."""
        units = cell["units"]
        matrix = self.weight(f"{prefix}.weight_hidden")
        if cell["reset"] == "before":
            gates = torch.sigmoid(projected[..., :2 * units] + h @ matrix[:2 * units].T)
            reset, write = gates.chunk(2, -1)
            return write, torch.tanh(projected[..., 2 * units:] + (reset * h) @ matrix[2 * units:].T)
        recurrent = h @ matrix.T
        gates = torch.sigmoid(projected[..., :2 * units] + recurrent[..., :2 * units])
        reset, write = gates.chunk(2, -1)
        inner = recurrent[..., 2 * units:] + self.weight(f"{prefix}.bias_hidden")
        return write, torch.tanh(projected[..., 2 * units:] + reset * inner)

    def _project(self, prefix: str, x: Tensor) -> Tensor:
        return x @ self.weight(f"{prefix}.weight_input").T + self.weight(f"{prefix}.bias")

    def extract(self, interest: Config, behaviours: Tensor) -> Tensor:
        """The extractor's states h_1 .. h_T, [B, T, H] (eq. 2-5); those of padding mean nothing."""
        return self._run(f"interests.{interest['name']}.extractor", interest["extractor"], behaviours)

    def _run(self, prefix: str, cell: Config, inputs: Tensor) -> Tensor:
        """The states of a plain GRU over [B, T, ...], [B, T, units]."""
        projected = self._project(prefix, inputs)
        h = inputs.new_zeros(inputs.shape[0], cell["units"])
        states = [inputs.new_empty(inputs.shape[0], 0, cell["units"])]
        for t in range(inputs.shape[1]):
            write, candidate = self._step(prefix, cell, projected[:, t], h)
            h = h + write * (candidate - h)
            states.append(h.unsqueeze(1))
        return torch.cat(states, 1)

    def attend(self, interest: Config, states: Tensor, target: Tensor, real: Tensor) -> Tensor:
        """The attention scores a_t of each candidate on the keys `states`, [B, C, T] (eq. 8); zero for padding."""
        prefix, attention = f"interests.{interest['name']}.attention", interest["attention"]
        query = target
        if "query" in attention:
            query = self._layer(f"{prefix}.query", attention["query"], target)
        if attention["kind"] == "bilinear":
            scores = (query @ self.weight(f"{prefix}.matrix").T) @ states.transpose(1, 2)
        elif attention["kind"] == "dot":
            scores = query @ states.transpose(1, 2)
        else:
            q, k = torch.broadcast_tensors(query.unsqueeze(2), states.unsqueeze(1))
            parts = {"q": q, "k": k, "q-k": q - k, "k-q": k - q, "q*k": q * k}
            x = torch.cat([parts[part] for part in attention["inputs"]], -1)
            scores = self._stack(prefix, attention["layers"], x).squeeze(-1)
        scores = scores * attention.get("scale", 1.0)
        real = real.unsqueeze(1)
        if attention.get("normalise") == "none":
            return scores.masked_fill(~real, 0)
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, -1) * real

    def evolve(self, interest: Config, states: Tensor, attention: Tensor, real: Tensor) -> Tensor:
        """The final state of the evolution cell (eq. 9-10) for each candidate, [B, C, G]."""
        prefix, cell = f"interests.{interest['name']}.evolution", interest["evolution"]
        inputs = states.unsqueeze(1)  # the candidates share it
        if cell["cell"] == "aigru":
            inputs = inputs * attention.unsqueeze(-1)
        projected = self._project(prefix, inputs)
        h = states.new_zeros(*attention.shape[:2], cell["units"])
        for t in range(states.shape[1]):
            v, candidate = self._step(prefix, cell, projected[:, :, t], h)
            a = attention[:, :, t, None]
            write = {"augru-and": a * v, "augru-or": v + a - a * v, "augru-keep": 1 - a * (1 - v), "agru": a}.get(cell["cell"], v)
            h = h + write * real[:, t, None, None] * (candidate - h)
        return h

    def _stack(self, prefix: str, layers: list[Config], x: Tensor) -> Tensor:
        for place, layer in enumerate(layers):
            x = self._layer(f"{prefix}.layers.{place}", layer, x)
        return x

    def _layer(self, prefix: str, layer: Config, x: Tensor) -> Tensor:
        y = x @ self.weight(f"{prefix}.weight").T + self.weight(f"{prefix}.bias")
        kind = layer["activation"]
        if kind == "linear":
            return y
        if kind == "prelu":
            return y.clamp(min=0) + self.weight(f"{prefix}.alpha") * y.clamp(max=0)
        if kind == "dice":
            return self._dice(prefix, y)
        if kind == "dice-row":
            centred = y - y.mean(-1, keepdim=True)
            p = torch.sigmoid(centred / (centred ** 2 + layer["epsilon"]).sum(-1, keepdim=True).sqrt())
            return y * (p + self.weight(f"{prefix}.alpha") * (1 - p))
        if kind == "silu":
            return y * torch.sigmoid(y)
        return {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}[kind](y)

    def _dice(self, prefix: str, x: Tensor) -> Tensor:
        """Dice with its frozen statistics.

        Training moves the statistics with each batch and reads them at once. It therefore uses the values of inference,
        even if a batch is unlike the data because all its histories have one length.
        """
        gain, offset = self.weight(f"{prefix}.gain"), self.weight(f"{prefix}.offset")
        if self.training:
            with torch.no_grad():
                flat = x.reshape(-1, x.shape[-1])
                mean = torch.lerp(flat.mean(0), -offset / gain, DICE_MOMENTUM)
                variance = torch.lerp(flat.var(0, unbiased=False), gain ** -2 - DICE_EPSILON, DICE_MOMENTUM)
                gain.copy_((variance + DICE_EPSILON) ** -0.5)
                offset.copy_(-mean * gain)
            gain, offset = gain.clone(), offset.clone()  # the backward pass of this batch wants this batch's
        p = torch.sigmoid(gain * x + offset)
        return x * (p + self.weight(f"{prefix}.alpha") * (1 - p))

    def _logit(self, y: Tensor) -> Tensor:
        """The last layer's units as one logit: a softmax of two is the sigmoid of their difference."""
        output = self.config["output"]
        if output["kind"] == "sigmoid":
            return y[..., 0]
        return y[..., output["positive"]] - y[..., 1 - output["positive"]]


def pooled(pool: str, embedded: Tensor, real: Tensor) -> Tensor:
    """The sum, mean or maximum of several embeddings [..., values, width], of those that are real; zero for none."""
    real = real.unsqueeze(-1)
    if pool == "max":
        return embedded.masked_fill(~real, -torch.inf).amax(-2).masked_fill(~real.any(-2), 0)
    total = (embedded * real).sum(-2)
    return total / real.sum(-2).clamp(min=1) if pool == "mean" else total


def score(network: DIEN, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores [B, C] in (0, 1) and the attention of each interest, without gradients."""
    network.eval()
    with torch.no_grad():
        logit, trace = network(batch)
    return torch.sigmoid(logit), trace.attention
