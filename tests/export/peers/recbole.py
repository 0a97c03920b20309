"""RecBole's DIEN: names and layout of RUCAIBox/RecBole, arithmetic from its description."""

import math

import numpy as np
import torch
from torch import nn

from peers.common import Draw, gru, ids, lengths, padded, randomise, run_gru, state_dict, with_scores


class Cell(nn.Module):
    """Gates in the order r, u, n; u writes."""

    def __init__(self, width, kind):
        super().__init__()
        for name, shape in (
            ("weight_ih", (3 * width, width)),
            ("weight_hh", (3 * width, width)),
            ("bias_ih", (3 * width,)),
            ("bias_hh", (3 * width,)),
        ):
            setattr(self, name, nn.Parameter(torch.zeros(shape)))
        self.kind = kind

    def forward(self, x, h, a):
        xs, hs = (x @ self.weight_ih.T + self.bias_ih).chunk(3, 1), (h @ self.weight_hh.T + self.bias_hh).chunk(3, 1)
        n = torch.tanh(xs[2] + torch.sigmoid(xs[0] + hs[0]) * hs[2])
        gate = a * torch.sigmoid(xs[1] + hs[1]) if self.kind == "AUGRU" else a
        return h + gate * (n - h)


class Silu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


def mlp(inputs, sizes, activation, norm):
    modules = []
    for units in sizes:
        modules += [nn.Dropout(0.2), nn.Linear(inputs, units), *([nn.BatchNorm1d(units)] if norm else []), activation()]
        inputs = units
    holder = nn.Module()
    holder.mlp_layers = nn.Sequential(*modules)
    return holder


class Peer(nn.Module):
    def __init__(self, a, softmax, items, users):
        super().__init__()
        self.a, self.softmax = a, softmax
        size, sizes = a["embedding_size"], a["mlp_hidden_size"]
        width = size * items
        self.interset_extractor = nn.Module()
        self.interset_extractor.gru = gru(width)
        self.interset_extractor.auxiliary_net = mlp(2 * width, [*sizes, 1], nn.Sigmoid, False)
        self.interest_evolution = nn.Module()
        layer = nn.Module()
        layer.att_mlp_layers, layer.dense = mlp(4 * width, sizes, nn.Sigmoid, False), nn.Linear(sizes[-1], 1)
        self.interest_evolution.attention_layer = layer
        if a["gru_type"] in ("GRU", "AIGRU"):
            self.interest_evolution.dynamic_rnn = gru(width)
        else:
            self.interest_evolution.dynamic_rnn = nn.Module()
            self.interest_evolution.dynamic_rnn.rnn = Cell(width, a["gru_type"])
        self.embedding_layer = nn.Module()
        for kind, fields in (("token", "token"), ("float", "float")):
            tables = nn.ModuleDict()
            for side in ("user", "item"):
                chosen = [each for each in a[f"{side}_fields"] if each["type"] == fields]
                if fields == "float":
                    chosen = [each for each in chosen if each["name"] in a["config"]["numerical_features"]]
                if chosen:
                    tables[side] = nn.Module()
                    rows = sum(each["vocab_size"] for each in chosen) if fields == "token" else len(chosen)
                    tables[side].embedding = nn.Embedding(rows, size)
            setattr(self.embedding_layer, f"{kind}_embedding_table", tables)
        self.embedding_layer.token_seq_embedding_table = nn.ModuleDict(
            {
                side: nn.ModuleList(
                    nn.Embedding(each["vocab_size"], size)
                    for each in a[f"{side}_fields"]
                    if each["type"] == "token_seq"
                )
                for side in ("user", "item")
            }
        )
        self.dnn_mlp_layers = mlp(2 * width + size * users, sizes, Silu, True)
        self.dnn_predict_layer = nn.Linear(sizes[-1], 1)

    def side(self, side, columns):
        """The vector of a side from its columns of ids and numbers, whatever their shape."""
        a, parts, offset = self.a, [], 0
        for each in a[f"{side}_fields"]:
            if each["type"] == "token":
                rows = torch.as_tensor(columns[each["name"]])
                parts.append(self.embedding_layer.token_embedding_table[side].embedding(rows + offset))
                offset += each["vocab_size"]
        place = 0
        for each in a[f"{side}_fields"]:
            if each["type"] == "token_seq":
                table = self.embedding_layer.token_seq_embedding_table[side][place]
                place += 1
                values = torch.tensor(a[f"{side}_attributes"][each["name"]])[torch.as_tensor(columns[f"{side}_id"])]
                mask = (values != 0).double().unsqueeze(-1)
                parts.append((table(values) * mask).sum(-2) / (mask.sum(-2) + 1e-8))
        place = 0
        for each in a[f"{side}_fields"]:
            if each["type"] == "float" and each["name"] in a["config"]["numerical_features"]:
                vector = self.embedding_layer.float_embedding_table[side].embedding.weight[place]
                place += 1
                parts.append(
                    torch.as_tensor(columns[each["name"]], dtype=torch.float32).double().unsqueeze(-1) * vector
                )
        return torch.cat(parts, -1)

    def attention(self, q, keys, count):
        layer = self.interest_evolution.attention_layer
        q = q.unsqueeze(1).expand_as(keys)
        s = layer.dense(layer.att_mlp_layers.mlp_layers(torch.cat([q, keys, q - keys, q * keys], -1))).squeeze(-1)
        real = torch.arange(keys.shape[1]) < count.unsqueeze(1)
        s = s.masked_fill(~real, float("-inf") if self.softmax else 0.0) / math.sqrt(keys.shape[-1])
        return torch.softmax(s, 1) if self.softmax else s

    def evolve(self, q, keys, count):
        rnn, kind = self.interest_evolution.dynamic_rnn, self.a["gru_type"]
        if kind == "GRU":
            out = run_gru(rnn, keys, count)[0]
            return (self.attention(q, out, count).unsqueeze(1) @ out).squeeze(1)
        a = self.attention(q, keys, count)
        if kind == "AIGRU":
            return run_gru(rnn, keys * a.unsqueeze(-1), count)[1]
        h = torch.zeros_like(q)
        for t in range(int(count[0])):
            h = rnn.rnn(keys[:, t], h, a[:, t, None])
        return h

    def score(self, request):
        candidates = filled(self.a, "item", request["candidates"])
        rows = len(candidates["item_id"])
        user = {name: [value] * rows for name, value in filled(self.a, "user", request["user"]).items()}
        history, count = {}, 0
        for name, column in filled(self.a, "item", request["history"]).items():
            column, count = padded(column, self.a["max_length"])
            history[name] = column.expand(rows, -1)
        counts = torch.full((rows,), count)
        keys = run_gru(self.interset_extractor.gru, self.side("item", history), counts)[0]
        target = self.side("item", candidates)
        x = torch.cat([self.evolve(target, keys, counts), target, self.side("user", user)], -1)
        return torch.sigmoid(self.dnn_predict_layer(self.dnn_mlp_layers.mlp_layers(x))).squeeze(1)


def filled(a, side, columns):
    """What the requests leave out, from the data set's table."""
    columns = dict(columns)
    for name, values in a[f"{side}_attributes"].items():
        if name not in columns and np.ndim(values) == 1:
            columns[name] = np.asarray(values)[columns[f"{side}_id"]].tolist()
    return columns


def case(seed):
    draw = Draw(seed)
    items = [{"name": "item_id", "type": "token", "vocab_size": int(draw.random.integers(8, 40))}]
    items += [
        {"name": "price", "type": "float", "vocab_size": 1},
        {"name": "cate_id", "type": "token", "vocab_size": 6},
        {"name": "tags", "type": "token_seq", "vocab_size": 7},
    ][: draw.pick(0, 1, 2, 3)]
    users = [{"name": "user_id", "type": "token", "vocab_size": 11}]
    users += [{"name": "age", "type": "float", "vocab_size": 1}, {"name": "gender", "type": "token", "vocab_size": 3}][
        : draw.pick(0, 1, 2)
    ]
    numerical = [name for name in ("price", "age") if draw.chance(0.7)]

    def values(field, count):
        if field["type"] == "float":
            return draw.random.normal(0, 1, count).astype("float32").tolist()
        if field["type"] == "token_seq":
            return draw.random.integers(0, field["vocab_size"], (count, 3)).tolist()
        return draw.random.integers(0, field["vocab_size"], count).tolist()

    attributes = {
        side: {each["name"]: values(each, fields[0]["vocab_size"]) for each in fields[1:]}
        for side, fields in (("item", items), ("user", users))
    }
    used = {
        side: [each["name"] for each in fields if each["type"] != "float" or each["name"] in numerical]
        for side, fields in (("item", items), ("user", users))
    }
    softmax = draw.chance()
    told = {} if draw.chance() else {"attention_softmax": "on" if softmax else "off"}
    a = {
        "source": "a peer of RecBole",
        "config": {"numerical_features": numerical, "pooling_mode": "mean"},
        "user_fields": users,
        "item_fields": items,
        "item_attributes": attributes["item"],
        "user_attributes": attributes["user"],
        "gru_type": draw.pick("GRU", "AIGRU", "AGRU", "AUGRU"),
        "max_length": draw.pick(3, 6, 12),
        "embedding_size": draw.pick(2, 4),
        "mlp_hidden_size": draw.sizes(4, 7, 16),
        "groups": {"user": used["user"], "candidate": used["item"], "behavior": used["item"]},
    }
    if told:
        a["peer_version"] = "1.2.1" if softmax else "1.1.1"
    else:
        a["attention_softmax"] = softmax
    peer = Peer(a, softmax, len(used["item"]), len(used["user"]))
    randomise(peer, draw.random)

    def columns(side, fields, count):
        """Ids, with or without what the data set knows of them."""
        chosen = {fields[0]["name"]: ids(draw.random, fields[0]["vocab_size"], count, 0)}
        for each in fields[1:]:
            if each["name"] in used[side] and each["type"] != "token_seq" and draw.chance():
                chosen[each["name"]] = values(each, count)
        return chosen

    requests = []
    for length in [a["max_length"] + 4, *lengths(draw.random, a["max_length"])]:
        requests.append(
            {
                "user": {name: column[0] for name, column in columns("user", users, 1).items()},
                "history": columns("item", items, length),
                "candidates": columns("item", items, draw.pick(1, 2, 7)),
            }
        )
    return a, state_dict(peer), told, with_scores(peer, requests)
