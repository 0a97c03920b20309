"""DeepCTR-Torch's DIEN: names and layout of shenweichen/DeepCTR-Torch, arithmetic from its description."""

import torch
from torch import nn

from peers.common import Draw, gru, ids, lengths, padded, randomise, run_gru, state_dict, with_scores


class Dice(nn.Module):
    """Statistics of a BatchNorm with affine parameters, alpha of shape [n, 1]."""

    def __init__(self, units):
        super().__init__()
        self.bn = nn.BatchNorm1d(units, eps=1e-8)
        self.alpha = nn.Parameter(torch.zeros(units, 1))

    def forward(self, x):
        swapped = x.transpose(1, 2)
        p = torch.sigmoid(self.bn(swapped))
        return (p * swapped + self.alpha * (1 - p) * swapped).transpose(1, 2)


ACTIVATIONS = {
    "relu": lambda n: nn.ReLU(),
    "sigmoid": lambda n: nn.Sigmoid(),
    "linear": lambda n: nn.Identity(),
    "prelu": lambda n: nn.PReLU(),
    "dice": Dice,
}


class Dnn(nn.Module):
    def __init__(self, inputs, sizes, activation, use_bn):
        super().__init__()
        widths = [inputs, *sizes]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, sizes))
        if use_bn:
            self.bn = nn.ModuleList(nn.BatchNorm1d(n) for n in sizes)
        self.use_bn = use_bn
        self.activation_layers = nn.ModuleList(ACTIVATIONS[activation](n) for n in sizes)

    def forward(self, x):
        for i, each in enumerate(self.linears):
            x = each(x)
            x = self.bn[i](x) if self.use_bn else x
            x = self.activation_layers[i](x)
        return x


class Cell(nn.Module):
    """Gates in the order r, z, n; z writes."""

    def __init__(self, width, kind):
        super().__init__()
        self.weight_ih, self.weight_hh = nn.Parameter(torch.zeros(3 * width, width)), nn.Parameter(
            torch.zeros(3 * width, width)
        )
        self.bias_ih, self.bias_hh = nn.Parameter(torch.zeros(3 * width)), nn.Parameter(torch.zeros(3 * width))
        self.kind = kind

    def forward(self, x, h, a):
        ir, iz, inew = (x @ self.weight_ih.T + self.bias_ih).chunk(3, -1)
        hr, hz, hnew = (h @ self.weight_hh.T + self.bias_hh).chunk(3, -1)
        n = torch.tanh(inew + torch.sigmoid(ir + hr) * hnew)
        z = a if self.kind == "AGRU" else a * torch.sigmoid(iz + hz)
        return (1 - z) * h + z * n


class Peer(nn.Module):
    def __init__(self, a, rows, widths):
        super().__init__()
        self.a = a
        tables = {
            a["embedding_names"].get(name, name)
            for name in [*a["sparse_features"], *map("hist_{}".format, a["item_features"])]
        }
        self.embedding_dict = nn.ModuleDict({name: nn.Embedding(rows[name], widths[name]) for name in sorted(tables)})
        hidden = sum(widths[a["embedding_names"].get(name, name)] for name in a["item_features"])
        self.interest_extractor = nn.Module()
        self.interest_extractor.gru = gru(hidden)
        self.interest_extractor.auxiliary_net = Dnn(2 * hidden, [4, 1], "sigmoid", False)
        self.interest_evolution = nn.Module()
        unit = nn.Module()
        unit.dnn = Dnn(4 * hidden, a["att_hidden_units"], a["att_activation"], False)
        unit.dense = nn.Linear(a["att_hidden_units"][-1], 1)
        self.interest_evolution.attention = nn.Module()
        self.interest_evolution.attention.local_att = unit
        if a["gru_type"] in ("GRU", "AIGRU"):
            self.interest_evolution.interest_evolution = gru(hidden)
        else:
            self.interest_evolution.interest_evolution = nn.Module()
            self.interest_evolution.interest_evolution.rnn = Cell(hidden, a["gru_type"])
        total = hidden + sum(widths[a["embedding_names"].get(name, name)] for name in a["sparse_features"])
        total += sum(a["dense_dimensions"].values())
        self.dnn = Dnn(total, a["dnn_hidden_units"], a["dnn_activation"], a["use_bn"])
        self.linear = nn.Linear(a["dnn_hidden_units"][-1], 1, bias=False)
        self.out = nn.Module()
        self.out.bias = nn.Parameter(torch.zeros(1))

    def embed(self, name, values):
        return self.embedding_dict[self.a["embedding_names"].get(name, name)](values)

    def attention(self, q, keys, count):
        unit = self.interest_evolution.attention.local_att
        q = q.unsqueeze(1).expand_as(keys)
        s = unit.dense(unit.dnn(torch.cat([q, keys, q - keys, q * keys], -1))).squeeze(-1)
        mask = torch.arange(keys.shape[1]) < count.unsqueeze(1)
        if self.a["att_weight_normalization"]:
            return torch.softmax(torch.where(mask, s, torch.full_like(s, -(2.0**32) + 1)), -1)
        return torch.where(mask, s, torch.zeros_like(s))

    def evolve(self, q, keys, count):
        cell, kind = self.interest_evolution.interest_evolution, self.a["gru_type"]
        if kind == "GRU":
            states = run_gru(cell, keys, count)[0]
            return (self.attention(q, states, count).unsqueeze(1) @ states).squeeze(1)
        a = self.attention(q, keys, count)
        if kind == "AIGRU":
            return run_gru(cell, keys * a.unsqueeze(-1), count)[1]
        h = torch.zeros_like(q)
        for t in range(int(count.max())):
            h = torch.where((count > t).unsqueeze(1), cell.rnn(keys[:, t], h, a[:, t, None]), h)
        return h

    def score(self, request):
        a, rows = self.a, len(next(iter(request["candidates"].values())))
        given = {
            name: [value] * rows for name, value in {**request.get("user", {}), **request.get("context", {})}.items()
        }
        given.update(request["candidates"])
        sparse = {name: self.embed(name, torch.tensor(given[name])) for name in a["sparse_features"]}
        history, count = [], 0
        for sequence in [name for name in a["feature_order"] if name.startswith("hist_")]:
            item = sequence[5:]
            column = request["history"][sequence if sequence in a["groups"]["behavior"] else item]
            padded_ids, count = padded(column, a["max_length"])
            history.append(self.embed(sequence, padded_ids.expand(rows, -1)))
        q = torch.cat([sparse[name] for name in a["sparse_features"] if name in a["item_features"]], -1)
        final = torch.zeros_like(q)
        if count:
            counts = torch.full((rows,), count)
            keys = run_gru(self.interest_extractor.gru, torch.cat(history, -1), counts)[0]
            final = self.evolve(q, keys, counts)
        dense = [
            torch.tensor(given[name], dtype=torch.float32).double().reshape(rows, -1) for name in a["dense_features"]
        ]
        x = torch.cat([final, *sparse.values(), *dense], -1)
        return torch.sigmoid(self.linear(self.dnn(x)) + self.out.bias).squeeze(-1)


def case(seed):
    draw = Draw(seed)
    items = ["item_id", "cate_id", "brand"][: draw.pick(1, 2, 3)]
    users = ["user", "gender"][: draw.pick(0, 1, 2)]
    dense = draw.pick([], ["price"], ["price", "score"])
    sizes = dict.fromkeys(dense, 1)
    if draw.chance(0.3) and dense:
        sizes[dense[0]] = 3
    sparse = draw.random.permutation([*users, "month", "slot", *items]).tolist()
    rows = {name: int(draw.random.integers(5, 40)) for name in sparse}
    widths = {name: draw.pick(2, 3, 4, 6) for name in sparse}
    own = items[0] if draw.chance(0.25) else None  # a history with a table of its own
    names = {f"hist_{item}": item for item in items if item != own}
    if own:
        rows[f"hist_{own}"], widths[f"hist_{own}"] = rows[own], widths[own]
    if "gender" in sparse and draw.chance():
        names["gender"] = "month"
    histories = draw.random.permutation([f"hist_{item}" for item in items]).tolist()
    order = [*sparse, *dense, histories[0], "seq_length", *histories[1:]]
    a = {
        "source": "a peer of DeepCTR-Torch",
        "gru_type": draw.pick("GRU", "AIGRU", "AGRU", "AUGRU"),
        "item_features": draw.random.permutation(items).tolist(),
        "max_length": draw.pick(3, 6, 12),
        "att_hidden_units": draw.sizes(3, 5, 8),
        "att_activation": draw.pick("relu", "sigmoid", "dice", "prelu", "linear"),
        "att_weight_normalization": draw.chance(),
        "dnn_hidden_units": draw.sizes(4, 7, 16),
        "dnn_activation": draw.pick("relu", "prelu", "sigmoid", "linear"),
        "use_bn": draw.chance(),
        "sparse_features": sparse,
        "dense_features": dense,
        "dense_dimensions": sizes,
        "feature_order": order,
        "embedding_names": names,
        "groups": {
            "user": [*users, *dense[1:]],
            "context": ["month"],
            "candidate": [*items, "slot", *dense[:1]],
            "behavior": [f"hist_{item}" if item == own else item for item in items],
        },
    }
    peer = Peer(a, rows, widths)
    randomise(peer, draw.random)

    def value(name):
        if name in dense:
            drawn = draw.random.normal(0, 1, sizes[name]).astype("float32").tolist()
            return drawn if sizes[name] > 1 else drawn[0]
        return int(draw.random.integers(rows[names.get(name, name)]))

    requests = []
    for length in [0, a["max_length"] + 4, *lengths(draw.random, a["max_length"])]:
        count = draw.pick(1, 2, 7)
        requests.append(
            {
                "user": {name: value(name) for name in a["groups"]["user"]},
                "context": {"month": value("month")},
                "history": {name: ids(draw.random, rows[name], length) for name in a["groups"]["behavior"]},
                "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
            }
        )
    if len(set(sizes.values()) - {1}) == 0:
        shown = {key: value for key, value in a.items() if key != "dense_dimensions"}
    else:
        shown = a
    return shown, state_dict(peer), {}, with_scores(peer, requests)
