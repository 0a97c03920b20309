"""prediction-flow's DIEN: names and layout of GitHub-HongweiZhang/prediction-flow, arithmetic from its description."""

import torch
from torch import nn

from peers.common import Draw, gru, ids, lengths, padded, randomise, run_gru, state_dict, with_scores

ACTIVATIONS = {
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "sigmoid": nn.Sigmoid,
}


def layers(name, inputs, sizes, activation, make):
    """A stack whose modules have names, below one more name."""
    named = nn.Sequential()
    for i, units in enumerate(sizes):
        named.add_module(f"dense{i}", nn.Linear(inputs, units))
        named.add_module(f"batchnorm{i}", nn.BatchNorm1d(units))
        if activation:
            named.add_module(f"activation{i}", make(activation, units))
        inputs = units
    holder = nn.Module()
    holder.add_module(name, named)
    return holder


class Cell(nn.Module):
    """The parameters of a recurrence without the suffix of a layer."""

    def __init__(self, width, gates):
        super().__init__()
        for name, shape in (("weight_ih", (gates * width, width)), ("weight_hh", (gates * width, width))):
            setattr(self, name, nn.Parameter(torch.zeros(shape)))
        self.bias_ih, self.bias_hh = nn.Parameter(torch.zeros(gates * width)), nn.Parameter(torch.zeros(gates * width))

    def products(self, x, h, gates):
        return zip(
            (x @ self.weight_ih.T + self.bias_ih).chunk(gates, -1),
            (h @ self.weight_hh.T + self.bias_hh).chunk(gates, -1),
        )


class Dialect:
    framework, sequential, order, agru_gates, output = "prediction-flow", "_sequential", "rzn", 3, torch.sigmoid
    activations = tuple(ACTIVATIONS)

    def activation(self, name, units):
        return ACTIVATIONS[name]()

    def keys(self, a):
        return a

    def step(self, cell, kind, x, h, a):
        """AGRU leaves its update gate alone; AUGRU shortens what is kept, h' = n + a z (h - n)."""
        (xr, hr), (xz, hz), (xn, hn) = cell.products(x, h, 3)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        if kind == "AGRU":
            return (1 - a) * h + a * n
        return n + a * torch.sigmoid(xz + hz) * (h - n)


class Peer(nn.Module):
    def __init__(self, a, rows, dialect):
        super().__init__()
        self.a, self.dialect, self.rows = a, dialect, rows
        width = a["embedding_size"]
        for owner, count in rows.items():
            self.add_module(f"embedding:{owner}", nn.Embedding(count, width, padding_idx=0))
        total = len(a["number_features"]) + width * len(a["category_features"])
        read = {name for group in a["attention_groups"] for pair in group["pairs"] for name in pair.values()}
        self.others = [each["name"] for each in a["sequence_features"] if each["name"] not in read]
        self.owner = {each["name"]: each.get("embedding_name", each["name"]) for each in a["sequence_features"]}
        total += width * len(self.others)
        for group in a["attention_groups"]:
            size = width * len(group["pairs"])
            total += size
            stack = nn.Module()
            stack.interest_extractor = gru(size)
            if group["gru_type"] in ("GRU", "AIGRU"):
                stack.interest_evolution = gru(size)
            else:
                stack.interest_evolution = nn.Module()
                stack.interest_evolution.rnn = Cell(size, dialect.agru_gates if group["gru_type"] == "AGRU" else 3)
            stack.attention = nn.Module()
            stack.attention.mlp = layers(
                dialect.sequential, 4 * size, group["hidden_layers"], group["activation"], dialect.activation
            )
            stack.attention.fc = nn.Linear(group["hidden_layers"][-1], 1)
            if a["use_negsampling"]:
                stack.auxiliary_net = layers("_sequential", 2 * size, [5], "sigmoid", lambda name, units: nn.Sigmoid())
            self.add_module(f"attention_pooling:{group['name']}", stack)
        self.mlp = layers(dialect.sequential, total, a["hidden_layers"], a["dnn_activation"], dialect.activation)
        self.final_layer = nn.Linear(a["hidden_layers"][-1], 1)

    def embed(self, name, values):
        return getattr(self, f"embedding:{self.owner.get(name, name)}")(values)

    def attention(self, stack, target, keys, count):
        q = target.unsqueeze(1).expand_as(keys)
        x = torch.cat([q, keys, q - keys, q * keys], -1)
        flat = getattr(stack.attention.mlp, self.dialect.sequential)(x.reshape(-1, x.shape[-1]))
        s = stack.attention.fc(flat).reshape(keys.shape[:2]) / keys.shape[-1] ** 0.5
        s[:, count:] = float("-inf")
        return torch.softmax(s, 1)

    def follow(self, group, history, target, count):
        stack, kind = getattr(self, f"attention_pooling:{group['name']}"), group["gru_type"]
        if not count:  # the framework cannot say
            return torch.zeros_like(target)
        every = torch.full((len(history),), count)
        states = run_gru(stack.interest_extractor, history, every)[0]
        if kind == "GRU":
            evolved = run_gru(stack.interest_evolution, states, every)[0]
            return (self.attention(stack, target, evolved, count).unsqueeze(1) @ evolved).squeeze(1)
        a = self.attention(stack, target, states, count)
        if kind == "AIGRU":
            return run_gru(stack.interest_evolution, states * a.unsqueeze(-1), every)[1]
        h = torch.zeros_like(target)
        for t in range(count):
            h = self.dialect.step(stack.interest_evolution.rnn, kind, states[:, t], h, a[:, t, None])
        return h

    def score(self, request):
        a, count = self.a, len(next(iter(request["candidates"].values())))
        given = {name: [value] * count for name, value in {**request["user"], **request["context"]}.items()}
        given.update(request["candidates"])
        x = [torch.tensor(given[name], dtype=torch.float32).double().view(-1, 1) for name in a["number_features"]]
        flat = {name: self.embed(name, torch.tensor(given[name])) for name in a["category_features"]}
        x += flat.values()
        x += [self.embed(name, torch.tensor(given[name])).max(1)[0] for name in self.others]
        for group in a["attention_groups"]:
            columns, length = [], 0
            for pair in group["pairs"]:
                name = pair["pos_hist"]
                wire = name if name in request["history"] else pair["ad"]
                column, length = padded(request["history"][wire], a["max_length"], "first")
                columns.append(self.embed(name, column.expand(count, -1)))
            target = torch.cat([flat[pair["ad"]] for pair in group["pairs"]], -1)
            x.append(self.follow(group, torch.cat(columns, -1), target, length))
        out = self.final_layer(getattr(self.mlp, self.dialect.sequential)(torch.cat(x, -1)))
        return torch.sigmoid(out).squeeze(-1)


def made(seed, dialect, shares):
    """A case of a dialect; with `shares` histories use the tables of their targets."""
    draw = Draw(seed)
    rows = {name: int(draw.random.integers(6, 40)) for name in ("user_id", "month", "item_id", "cate_id", "slot")}
    categories = draw.random.permutation(list(rows)).tolist()
    numbers = draw.random.permutation(["age", "price"]).tolist()[: draw.pick(0, 1, 2)]
    pairs = [("item_id", "hist_item"), ("cate_id", "hist_cate")]
    split = draw.pick([pairs], [pairs[:1]], [pairs[:1], pairs[1:]])
    sequences = []
    negatives = draw.chance(0.4)
    for target, history in (pair for group in split for pair in group):
        own = not shares or draw.chance(0.3)
        sequences.append({"name": history, **({} if own else {"embedding_name": target})})
        if own:
            rows[history] = int(draw.random.integers(6, 40))
        if negatives:
            sequences.append({"name": f"neg_{history}", **({} if own else {"embedding_name": target})})
            if own:
                rows[f"neg_{history}"] = 7
    pooled = draw.pick(0, 0, 3, 5)
    if pooled:
        sequences.insert(0, {"name": "tags", "max_length": pooled})
        rows["tags"] = 9
    groups = [
        {
            "name": f"group{i}",
            "pairs": [
                {"ad": target, "pos_hist": history, **({"neg_hist": f"neg_{history}"} if negatives else {})}
                for target, history in group
            ],
            "hidden_layers": draw.sizes(3, 5, 8),
            "activation": draw.pick(*dialect.activations),
            "att_dropout": 0.1,
            "gru_type": ("GRU", "AIGRU", "AGRU", "AUGRU")[(seed + i) % 4],
        }
        for i, group in enumerate(split)
    ]
    owner = {each["name"]: each.get("embedding_name", each["name"]) for each in sequences}
    wires = {history: target if owner[history] == target else history for group in split for target, history in group}
    a = {
        "source": "a peer of prediction-flow",
        "number_features": numbers,
        "category_features": categories,
        "sequence_features": sequences,
        "attention_groups": groups,
        "embedding_size": draw.pick(2, 3, 5),
        "hidden_layers": draw.sizes(4, 7, 16),
        "dnn_activation": draw.pick(*dialect.activations),
        "dropout": 0.1,
        "use_negsampling": negatives,
        "max_length": draw.pick(3, 6, 9),
        "groups": {
            "user": ["user_id", *(["age"] if "age" in numbers else []), *(["tags"] if pooled else [])],
            "context": ["month"],
            "candidate": ["item_id", "cate_id", "slot", *(["price"] if "price" in numbers else [])],
            "behaviour": list(wires.values()),
        },
    }
    longest = a["max_length"]
    peer = Peer(a, rows, dialect)
    randomise(peer, draw.random)
    for name in rows:
        getattr(peer, f"embedding:{name}").weight.data[0] = 0

    def value(name):
        if name in ("age", "price"):
            return round(float(draw.random.normal()), 3)
        if name == "tags":
            count = draw.pick(0, 1, pooled)
            return ids(draw.random, 9, count) + [0] * (pooled - count)
        return int(draw.random.integers(rows[name]))

    requests = []
    for length in [0, longest + 3, *lengths(draw.random, longest)]:
        count = draw.pick(1, 2, 7)
        requests.append(
            {
                "user": {name: value(name) for name in a["groups"]["user"]},
                "context": {"month": value("month")},
                "history": {wire: ids(draw.random, rows[owner[history]], length) for history, wire in wires.items()},
                "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
            }
        )
    requests = with_scores(peer, requests)
    if pooled:
        a["max_length"] = {**{name: longest for name in owner}, "tags": pooled}
    return dialect.keys(a), state_dict(peer), {}, requests


def case(seed):
    a, tensors, options, requests = made(seed, Dialect(), True)
    if seed % 2:
        a.update(num_classes=2, final_activation="sigmoid")
    else:
        a.update(num_classes=1, final_activation=None)
    return a, tensors, options, requests
