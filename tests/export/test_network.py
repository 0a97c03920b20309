"""model/export/network.py against FORMAT.md's equations, written once more in numpy, one number at a time."""

import numpy as np
import pytest
import torch

import random_model
from dien.model.config import ACTIVATION_TENSORS, field_of, weight_shapes
from dien.model.model_directory import Scorer
from dien.model.network import DIEN, Batch

SEEDS = range(40)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Plain:
    """One candidate of one request, step by step. Shares the reading of requests with the network, not the arithmetic."""

    def __init__(self, scorer):
        self.config = scorer.config
        self.w = {name: weight.detach().numpy() for name, weight in scorer.network.weights().items()}

    def embed(self, name, value):
        field = field_of(self.config, name)
        if field["kind"] == "dense":
            return self.w[f"dense.{name}.weight"] @ value if "units" in field else value
        table = self.w[f"tables.{field['table']}"]
        if "pool" not in field:
            return table[value]
        found = [table[row] for row in value if row >= 0]
        if not found:
            return np.zeros(table.shape[1])
        if field["pool"] == "max":
            return np.array([max(row[unit] for row in found) for unit in range(table.shape[1])])
        return sum(found) / (len(found) if field["pool"] == "mean" else 1)

    def activate(self, prefix, layer, x):
        kind = layer["activation"]
        part = {name: self.w[f"{prefix}.{name}"] for name in ACTIVATION_TENSORS.get(kind, ())}
        if kind == "prelu":
            return np.where(x > 0, x, part["alpha"] * x)
        if kind == "dice-row":
            c = x - sum(x) / len(x)
            p = sigmoid(c / np.sqrt(sum(each * each + layer["epsilon"] for each in c)))
            return p * x + (1 - p) * part["alpha"] * x
        if kind == "dice":
            p = sigmoid(part["gain"] * x + part["offset"])
            return p * x + (1 - p) * part["alpha"] * x
        return {"linear": lambda: x, "relu": lambda: np.where(x > 0, x, 0), "sigmoid": lambda: sigmoid(x),
                "tanh": lambda: np.tanh(x), "silu": lambda: x * sigmoid(x)}[kind]()

    def layer(self, prefix, layer, x):
        return self.activate(prefix, layer, self.w[f"{prefix}.weight"] @ x + self.w[f"{prefix}.bias"])

    def stack(self, prefix, layers, x):
        for place, layer in enumerate(layers):
            x = self.layer(f"{prefix}.layers.{place}", layer, x)
        return x

    def cell(self, prefix, reset, x, h, write_gate):
        w_r, w_v, w_c = np.split(self.w[f"{prefix}.weight_input"], 3)
        u_r, u_v, u_c = np.split(self.w[f"{prefix}.weight_hidden"], 3)
        b_r, b_v, b_c = np.split(self.w[f"{prefix}.bias"], 3)
        r = sigmoid(w_r @ x + u_r @ h + b_r)
        v = sigmoid(w_v @ x + u_v @ h + b_v)
        if reset == "before":
            c = np.tanh(w_c @ x + u_c @ (r * h) + b_c)
        else:
            c = np.tanh(w_c @ x + b_c + r * (u_c @ h + self.w[f"{prefix}.bias_hidden"]))
        w = write_gate(v)
        return (1 - w) * h + w * c

    def attention(self, prefix, attention, states, e):
        q = self.layer(f"{prefix}.query", attention["query"], e) if "query" in attention else e
        s = []
        for k in states:
            if attention["kind"] == "bilinear":
                s.append(k @ self.w[f"{prefix}.matrix"] @ q)
            elif attention["kind"] == "dot":
                s.append(sum(k * q))
            else:
                part = {"q": q, "k": k, "q-k": q - k, "k-q": k - q, "q*k": q * k}
                s.append(self.stack(prefix, attention["layers"], np.concatenate([part[n] for n in attention["inputs"]]))[0])
        s = np.array(s) * attention.get("scale", 1)
        if attention["normalise"] == "none":
            return s
        powers = np.exp(s - max(s))
        return powers / powers.sum()

    def follow(self, interest, behaviours, e, pieces):
        name = interest["name"]
        prefix = f"interests.{name}"
        h, states = np.zeros(interest["extractor"]["units"]), []
        for x in behaviours:
            h = self.cell(f"{prefix}.extractor", interest["extractor"]["reset"], x, h, lambda v: v)
            states.append(h)
        g, evolution = np.zeros(interest["evolution"]["units"]), interest["evolution"]
        cell, pooled = evolution["cell"], []
        a = np.ones(len(states))
        if states and cell not in ("gru", "gru+pooling"):
            a = self.attention(f"{prefix}.attention", interest["attention"], states, e)
        for a_t, h_t in zip(a, states):
            gate = {"augru-and": lambda v: a_t * v, "augru-or": lambda v: 1 - (1 - a_t) * (1 - v),
                    "agru": lambda v: a_t, "augru-keep": lambda v: 1 - a_t * (1 - v)}.get(cell, lambda v: v)
            g = self.cell(f"{prefix}.evolution", evolution["reset"], a_t * h_t if cell == "aigru" else h_t, g, gate)
            pooled.append(g)
        if states and cell == "gru+pooling":
            weights = self.attention(f"{prefix}.attention", interest["attention"], pooled, e)
            g = sum(weight * state for weight, state in zip(weights, pooled))
        pieces[f"interest.{name}"] = g
        total = sum(behaviours, np.zeros(self.w[f"{prefix}.extractor.weight_input"].shape[1]))
        pieces[f"history_sum.{name}"] = total
        if total.shape == e.shape:
            pieces[f"product.{name}"] = total * e

    def score(self, batch, candidate):
        pieces = {f"user.{name}": self.embed(name, column[0].numpy()) for name, column in batch.user.items()}
        pieces.update({f"context.{name}": self.embed(name, column[0].numpy()) for name, column in batch.context.items()})
        chosen = {name: self.embed(name, column[0, candidate].numpy()) for name, column in batch.candidates.items()}
        pieces.update({f"candidate.{name}": value for name, value in chosen.items()})
        for interest in self.config["interests"]:
            columns = batch.history[interest["name"]]
            behaviours = [np.concatenate([self.embed(name, columns[name][0, t].numpy()) for name in interest["history"]])
                          for t in range(int(batch.lengths[interest["name"]][0]))]
            self.follow(interest, behaviours, np.concatenate([chosen[name] for name in interest["target"]]), pieces)
        x = np.concatenate([pieces[source] for source in self.config["mlp"]["inputs"]])
        y = self.stack("mlp", self.config["mlp"]["layers"], x)
        output = self.config["output"]
        if "bias" in output:
            row = batch.candidates[output["bias"]["field"]][0, candidate].numpy()
            y[output.get("positive", 0)] += self.w[f"tables.{output['bias']['table']}"][row, 0]
        return sigmoid(y[0]) if output["kind"] == "sigmoid" else (np.exp(y) / np.exp(y).sum())[output["positive"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_the_equations(seed):
    config, tensors, requests = random_model.make(seed)
    scorer = Scorer(config, tensors)
    plain = Plain(scorer)
    for request in requests:
        batch = scorer.wire.batch(request)
        scores = scorer.score(request)
        for candidate in {0, len(scores) - 1, len(scores) // 2}:
            assert abs(plain.score(batch, candidate) - scores[candidate]) < 1e-12


def test_the_seeds_cover_the_format():
    """What FORMAT.md lets a model choose, some seed of the above chooses."""
    seen = set()
    for seed in SEEDS:
        config, tensors, requests = random_model.make(seed)
        seen |= {("output", config["output"]["kind"], config["output"].get("positive")),
                 ("interests", len(config["interests"])), ("user", bool(config["groups"]["user"]))}
        seen |= {("vocabulary", each["type"]) for each in config["vocabularies"].values()}
        seen |= {(field["kind"], field.get("ids"), field.get("width"), "attribute_of" in field) for field in config["fields"]}
        seen |= {("pool", field["pool"]) for field in config["fields"] if "pool" in field}
        seen |= {("pool of", name) for name, members in config["groups"].items() for member in members
                 if "pool" in field_of(config, member)}
        seen |= {("dense units", name) for name, members in config["groups"].items() for member in members
                 if "units" in field_of(config, member)}
        seen |= {("dense attribute with units",) for field in config["fields"] if "units" in field and "attribute_of" in field}
        seen.add(("bias", config["output"]["kind"] if "bias" in config["output"] else None))
        seen |= {("table", type(t).__name__, str(getattr(t, "dtype", "bf16")))
                 for n, t in tensors.items() if n.startswith("tables.")}
        seen |= {("input", source.split(".")[0]) for source in config["mlp"]["inputs"]}
        seen |= {("mlp", layer["activation"]) for layer in config["mlp"]["layers"]}
        for interest in config["interests"]:
            attention = interest["attention"]
            seen |= {("keep", interest["keep"]), ("extractor", interest["extractor"]["reset"]),
                     ("evolution", interest["evolution"]["cell"], interest["evolution"]["reset"]),
                     ("attention", attention["kind"], "query" in attention),
                     ("normalise", attention.get("normalise")), ("scale", np.sign(attention.get("scale", 0))),
                     ("raw", attention.get("normalise"), interest["evolution"]["cell"]),
                     ("key", interest["evolution"]["cell"] == "gru+pooling"
                      and interest["evolution"]["units"] != interest["extractor"]["units"])}
            seen |= {("order", part) for part in attention.get("inputs", ())}
            seen |= {("attention layer", layer["activation"]) for layer in attention.get("layers", ())}
        seen |= {("form", type(request["candidates"]).__name__) for request in requests}
    kinds = random_model.HIDDEN_ACTIVATIONS
    wanted = {("output", "sigmoid", None), ("output", "softmax", 0), ("output", "softmax", 1), ("interests", 1),
              ("interests", 2), ("user", True), ("user", False), ("vocabulary", "string"), ("vocabulary", "integer"),
              ("categorical", "index", None, True), ("categorical", "vocabulary", None, False), ("dense", None, 1, True),
              ("dense", None, 3, True), ("dense", None, 1, False), ("dense", None, 3, False), ("table", "BF16", "bf16"),
              ("table", "ndarray", "int8"), ("table", "ndarray", "float16"), ("table", "ndarray", "float32"),
              ("keep", "first"), ("keep", "last"), ("order", "q-k"), ("order", "k-q"), ("form", "list"), ("form", "dict")}
    wanted |= {("input", kind) for kind in ("user", "context", "candidate", "interest", "history_sum", "product")}
    wanted |= {(place, kind) for place in ("mlp", "attention layer") for kind in kinds}
    wanted |= {("extractor", reset) for reset in ("before", "after")}
    wanted |= {("evolution", cell, reset) for cell in random_model.CELLS for reset in ("before", "after")}
    wanted |= {("attention", kind, query) for kind in ("dot", "bilinear", "mlp") for query in (True, False)}
    wanted |= {("attention", "none", False), ("normalise", "none"), ("scale", -1), ("scale", 0), ("scale", 1), ("key", True)}
    wanted |= {("raw", "none", cell) for cell in random_model.CELLS if cell != "gru"}
    wanted |= {("pool", pool) for pool in ("sum", "mean", "max")}
    wanted |= {("pool of", name) for name in ("user", "context", "behaviour", "candidate")}
    wanted |= {("dense units", name) for name in ("user", "context", "behaviour", "candidate")}
    wanted |= {("dense attribute with units",), ("bias", "sigmoid"), ("bias", "softmax")}
    assert wanted <= seen, wanted - seen


def test_float32_is_close():
    """The server's arithmetic has room within 1e-5."""
    for seed in SEEDS:
        config, tensors, requests = random_model.make(seed)
        truth, single = Scorer(config, tensors), Scorer(config, tensors, torch.float32)
        for request in requests:
            assert np.abs(truth.score(request) - single.score(request)).max() < 5e-6, seed


@pytest.mark.parametrize("seed", [0, 3, 5, 8])
def test_padding_changes_nothing(seed):
    """A batch of histories of unlike lengths scores like each alone: what training and serving share."""
    config, tensors, requests = random_model.make(seed)
    scorer = Scorer(config, tensors)
    alone = [scorer.wire.batch(request) for request in requests]
    count = min(next(iter(batch.candidates.values())).shape[1] for batch in alone)

    def padded(name, field):
        columns = [batch.history[name][field] for batch in alone]
        longest = max(column.shape[1] for column in columns)
        return torch.cat([torch.cat([c, c.new_ones(1, longest - c.shape[1], *c.shape[2:])], 1) for c in columns])

    together = Batch(
        {name: torch.cat([batch.user[name] for batch in alone]) for name in alone[0].user},
        {name: torch.cat([batch.context[name] for batch in alone]) for name in alone[0].context},
        {name: {field: padded(name, field) for field in columns} for name, columns in alone[0].history.items()},
        {name: torch.cat([batch.lengths[name] for batch in alone]) for name in alone[0].lengths},
        {name: torch.cat([batch.candidates[name][:, :count] for batch in alone]) for name in alone[0].candidates})
    rows = scorer.config["tables"].values()
    if min(table["rows"] for table in rows) < 2:
        pytest.skip("padding with row 1 needs two rows")
    scorer.network.eval()
    with torch.no_grad():
        logits = scorer.network(together)[0]
        for i, batch in enumerate(alone):
            assert torch.allclose(logits[i], scorer.network(batch)[0][0, :count], rtol=0, atol=1e-12)


def test_attention_of_explain():
    """One weight for each kept behaviour, none for an empty history; after a softmax they sum to one."""
    normalised = 0
    for seed in range(12):
        config, tensors, requests = random_model.make(seed)
        scorer = Scorer(config, tensors)
        expected = {each["name"]: each["attention"] for each in config["interests"] if each["attention"]["kind"] != "none"}
        for request in requests:
            scores, attention = scorer.explain(request)
            batch = scorer.wire.batch(request)
            assert attention.keys() == expected.keys()
            for name, weights in attention.items():
                length = int(batch.lengths[name][0])
                assert weights.shape == (len(scores), length)
                if expected[name]["normalise"] == "softmax":
                    normalised += 1
                    assert np.allclose(weights.sum(1), 1 if length else 0)
    assert normalised > 30


def test_missing_and_misshapen_weights_are_named():
    config, tensors, _ = random_model.make(2)
    network = DIEN(config)
    weights = {name: torch.zeros(shape) for name, shape in weight_shapes(config).items()}
    name = f"interests.{config['interests'][0]['name']}.evolution.weight_hidden"
    with pytest.raises(ValueError, match=f"tensor {name} has shape"):
        network.load_weights({**weights, name: torch.zeros(2, 2)})
    del weights[name]
    with pytest.raises(ValueError, match=f"tensor {name} is missing"):
        network.load_weights(weights)


def test_dice_statistics_follow_the_data():
    """Training gathers mean and variance into gain and offset; evaluation leaves them."""
    config = {"tables": {}, "fields": [{"name": "x", "kind": "dense", "width": 1}], "groups": {"candidate": ["x"]},
              "interests": [], "output": {"kind": "sigmoid"},
              "mlp": {"inputs": ["candidate.x"], "layers": [{"units": 1, "activation": "dice"},
                                                            {"units": 1, "activation": "linear"}]}}
    network = DIEN(config, torch.float64)
    network.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.weight("mlp.layers.0.weight").fill_(1)
    generator = torch.Generator().manual_seed(1)
    network.train()
    for _ in range(1500):
        drawn = 3 + 2 * torch.randn(1, 512, 1, generator=generator, dtype=torch.float64)
        network(Batch({}, {}, {}, {}, {"x": drawn}))
    gain, offset = (network.weight(f"mlp.layers.0.{name}").item() for name in ("gain", "offset"))
    assert abs(1 / gain - 2) < 0.05 and abs(-offset / gain - 3) < 0.05
    network.eval()
    network(Batch({}, {}, {}, {}, {"x": drawn + 100}))
    assert network.weight("mlp.layers.0.gain").item() == gain


def test_extractor_is_the_gru_of_pytorch():
    """nn.GRU with its update gate negated, as the README tells people to convert theirs."""
    field = {"name": "x", "kind": "dense", "width": 5}
    interest = {"name": "i", "history": ["x"], "target": ["x"], "max_length": 9, "keep": "last",
                "extractor": {"cell": "gru", "units": 4, "reset": "after"}, "attention": {"kind": "bilinear"},
                "evolution": {"cell": "augru-and", "units": 4, "reset": "after"}}
    config = {"tables": {}, "fields": [field], "groups": {"behaviour": ["x"], "candidate": ["x"]}, "interests": [interest],
              "mlp": {"inputs": ["interest.i"], "layers": [{"units": 1, "activation": "linear"}]}, "output": {"kind": "sigmoid"}}
    network = DIEN(config, torch.float64)
    torch.manual_seed(0)
    gru = torch.nn.GRU(5, 4, batch_first=True).double()
    sign = torch.tensor([1.0] * 4 + [-1.0] * 4 + [1.0] * 4, dtype=torch.float64)
    outer, inner = (sign * bias for bias in (gru.bias_ih_l0, gru.bias_hh_l0))
    converted = {"weight_input": sign[:, None] * gru.weight_ih_l0, "weight_hidden": sign[:, None] * gru.weight_hh_l0,
                 "bias": torch.cat([(outer + inner)[:8], outer[8:]]), "bias_hidden": inner[8:]}
    with torch.no_grad():
        for name, value in converted.items():
            network.weight(f"interests.i.extractor.{name}").copy_(value)
        x = torch.randn(3, 7, 5, dtype=torch.float64)
        assert torch.allclose(network.extract(interest, x), gru(x)[0], rtol=0, atol=1e-14)
