"""torch-rechub's DIEN from 0.8.0: names and layout of datawhalechina/torch-rechub, arithmetic from its description."""

import torch
from torch import nn

from peers.common import Draw, gru, ids, lengths, padded, randomise, run_gru, state_dict, with_scores


class Dice(nn.Module):
    """Statistics across the units of each row; one alpha."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        p = torch.sigmoid(centred / torch.sqrt(torch.sum(centred**2 + 1e-3, 1, keepdim=True)))
        return p * x + (1 - p) * self.alpha * x


class Cell(nn.Module):
    """Nine parameters, multiplied from the right."""

    def __init__(self, width):
        super().__init__()
        for gate in "urh":
            for letter in "WU":
                setattr(self, letter + gate, nn.Parameter(torch.zeros(width, width)))
            setattr(self, f"b{gate}", nn.Parameter(torch.zeros(1, width)))

    def forward(self, x, h, a):
        u = torch.sigmoid(x @ self.Wu + h @ self.Uu + self.bu)
        r = torch.sigmoid(x @ self.Wr + h @ self.Ur + self.br)
        c = torch.tanh(x @ self.Wh + r * (h @ self.Uh) + self.bh)
        return (1 - a * u) * h + a * u * c


class Evolving(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.Wa = nn.Parameter(torch.zeros(width, width))
        self.augru_cell = Cell(width)

    def forward(self, states, target, mask):
        s = ((states @ self.Wa) * target.unsqueeze(1)).sum(-1).masked_fill(~mask, float("-inf"))
        a = torch.nan_to_num(torch.softmax(s, 1))
        h = torch.zeros_like(target)
        for t in range(states.shape[1]):
            h = self.augru_cell(states[:, t], h, a[:, t, None])
        return h


class Peer(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = a
        features = [*a["features"], *a["target_features"], *a["history_features"]]
        self.embedding = nn.Module()
        self.embedding.embed_dict = nn.ModuleDict(
            {
                each["name"]: nn.Embedding(each["vocab_size"], each["embed_dim"], each["padding_idx"])
                for each in features
                if each["type"] != "dense" and not each.get("shared_with")
            }
        )
        widths = [each["embed_dim"] for each in a["history_features"]]
        self.interest_extractor_layers = nn.ModuleList(map(gru, widths))
        self.interest_evolving_layers = nn.ModuleList(map(Evolving, widths))
        inputs, modules = sum(each["embed_dim"] for each in features), []
        for units in a["mlp_params"]["dims"]:
            modules += [nn.Linear(inputs, units), nn.BatchNorm1d(units), Dice(), nn.Dropout(0.1)]
            inputs = units
        self.mlp = nn.Module()
        self.mlp.mlp = nn.Sequential(*modules, nn.Linear(inputs, 1))

    def embed(self, feature, values):
        return self.embedding.embed_dict[feature.get("shared_with") or feature["name"]](values)

    def score(self, request):
        a, rows = self.a, len(next(iter(request["candidates"].values())))
        given = {
            name: [value] * rows for name, value in {**request.get("user", {}), **request.get("context", {})}.items()
        }
        given.update(request["candidates"])
        targets = [self.embed(each, torch.tensor(given[each["name"]])) for each in a["target_features"]]
        states = []
        for i, each in enumerate(a["history_features"]):
            name = each["name"] if each["name"] in a["groups"]["behavior"] else a["target_features"][i]["name"]
            column, count = padded(request["history"][name], a["max_length"])
            x = self.embed(each, column.expand(rows, -1))
            mask = (column != each["padding_idx"]).expand(rows, -1)
            if not count:
                states.append(torch.zeros_like(targets[i]))
                continue
            out = run_gru(self.interest_extractor_layers[i], x, torch.full((rows,), count))[0]
            states.append(self.interest_evolving_layers[i](out, targets[i], mask))
        sparse = [
            self.embed(each, torch.tensor(given[each["name"]])) for each in a["features"] if each["type"] == "sparse"
        ]
        dense = [
            torch.tensor(given[each["name"]], dtype=torch.float32).double().reshape(rows, -1)
            for each in a["features"]
            if each["type"] == "dense"
        ]
        return torch.sigmoid(self.mlp.mlp(torch.cat([*states, *targets, *sparse, *dense], 1))).squeeze(1)


def case(seed):
    draw = Draw(seed)

    def sparse(name, padding=None, **more):
        return {
            "name": name,
            "type": "sparse",
            "vocab_size": int(draw.random.integers(5, 40)),
            "embed_dim": draw.pick(2, 4, 5),
            "padding_idx": padding,
            **more,
        }

    targets = [sparse(name, 0) for name in ["item_id", "cate_id", "brand"][: draw.pick(1, 2, 3)]]
    histories = [
        {**each, "name": f"hist_{each['name']}", "type": "sequence", "pooling": "concat", "shared_with": each["name"]}
        for each in targets[: len(targets) - draw.pick(0, 0, 1)] or targets
    ]
    if draw.chance(0.3):
        histories[0]["shared_with"] = None  # a table of its own
    features = [
        sparse("user_id"),
        sparse("month"),
        {"name": "age", "type": "dense", "embed_dim": draw.pick(1, 2)},
        sparse("slot"),
    ]
    features = [features[i] for i in draw.random.permutation(4)][: draw.pick(2, 3, 4)]
    names = [each["name"] for each in features]
    a = {
        "source": "a peer of torch-rechub",
        "features": features,
        "target_features": targets,
        "history_features": histories,
        "neg_history_features": [
            {**each, "name": f"neg_{each['name']}", "shared_with": each["shared_with"] or each["name"]}
            for each in histories
        ],
        "mlp_params": {"dims": draw.sizes(4, 7, 16), "dropout": 0.1},
        "alpha": 0.2,
        "max_length": draw.pick(3, 6, 12),
        "batch_norm_eps": 1e-5,
        "dice_eps": 1e-3,
        "groups": {
            "user": [name for name in ("user_id", "age") if name in names],
            "context": [name for name in names if name == "month"],
            "candidate": [*(each["name"] for each in targets), *(name for name in names if name == "slot")],
            "behavior": [each["shared_with"] or each["name"] for each in histories],
        },
    }
    peer = Peer(a)
    randomise(peer, draw.random)
    every = {each["name"]: each for each in [*features, *targets, *histories]}

    def value(name):
        if every[name]["type"] == "dense":
            drawn = draw.random.normal(0, 1, every[name]["embed_dim"]).astype("float32").tolist()
            return drawn if len(drawn) > 1 else drawn[0]
        return int(draw.random.integers(every[name]["vocab_size"]))

    requests = []
    for length in [0, a["max_length"] + 4, *lengths(draw.random, a["max_length"])]:
        count = draw.pick(1, 2, 7)
        requests.append(
            {
                "user": {name: value(name) for name in a["groups"]["user"]},
                "context": {name: value(name) for name in a["groups"]["context"]},
                "history": {
                    name: ids(draw.random, every[name]["vocab_size"], length if i == 0 else draw.pick(0, 1, length))
                    for i, name in enumerate(a["groups"]["behavior"])
                },
                "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
            }
        )
    return a, state_dict(peer), {}, with_scores(peer, requests)
