"""LongCTR's DIEN: names and layout of reczoo/LongCTR; its stack is FuxiCTR's."""

import torch
from torch import nn

from peers import fuxictr
from peers.common import Draw, ids, lengths, randomise, state_dict, with_scores

FRAMEWORK = "fuxictr"


class Peer(fuxictr.Peer):
    """The history and the target are the features of an item. The MLP reads the other features, the target, the state, and
    with sum pooling the sum and its product with the target."""

    def __init__(self, a, specs, dropout, once):
        items = [name for name, spec in specs.items() if spec["source"] == "item"]
        super().__init__({**a, "dien_target_field": [items], "dien_sequence_field": [items]}, specs, dropout, once)
        self.items, inner = items, self.embedding_layer
        self.embedding_layer = nn.Module()
        self.embedding_layer.embedding_layer = inner

    def embedded(self, name, values):
        """Values of a feature, each an id or a list of ids, as [..., width]."""
        spec, layer = self.specs[name], self.embedding_layer.embedding_layer.embedding_layers[name]
        if spec["type"] == "numeric":
            return layer(torch.tensor(values, dtype=torch.float32).double().view(-1, 1))
        if spec["type"] == "categorical":
            return layer(torch.tensor(values, dtype=torch.int64))
        emb = layer(torch.tensor([[*each, *[0] * (spec["max_len"] - len(each))] for each in values], dtype=torch.int64))
        if not values:
            return emb.reshape(0, self.a["embedding_dim"])
        if "Sum" in spec["feature_encoder"]:
            return emb.sum(1)
        return emb.sum(1) / ((emb.sum(-1) != 0).double().sum(1, keepdim=True) + 1e-12)

    def score(self, request):
        rows = len(next(iter(request["candidates"].values())))
        given = {name: [value] * rows for name, value in {**request["user"], **request["context"]}.items()}
        given.update(request["candidates"])
        own = [self.embedded(name, given[name]) for name in self.specs if name not in self.items]
        target = torch.cat([self.embedded(name, given[name]) for name in self.items], -1)
        history = torch.cat([self.embedded(name, request["history"][name][: self.a["max_len"]]) for name in self.items], -1)
        history = history.expand(rows, -1, -1)
        state = self.follow(0, history, target, torch.ones(history.shape[:2]))
        x = [*own, target, state]
        if self.a["enable_sum_pooling"]:
            x += [history.sum(1), target * history.sum(1)]
        return torch.sigmoid(self.dnn.mlp(torch.cat(x, -1))).squeeze(-1)


def case(seed):
    draw = Draw(seed)
    poolings = ("layers.MaskedAveragePooling()", "layers.MaskedSumPooling()")

    def categorical(source="", **more):
        return {
            "source": source,
            "type": "categorical",
            "padding_idx": 0,
            "vocab_size": int(draw.random.integers(6, 40)),
            **more,
        }

    specs = {"user_id": categorical(), "hour": categorical(), "slot": categorical(), "article_id": categorical("item")}
    if draw.chance():
        specs["category"] = categorical("item")
    if draw.chance(0.4):
        specs["price"] = {"source": "item", "type": "numeric"}
    if draw.chance():
        specs["topics"] = categorical("item", type="sequence", feature_encoder=draw.pick(*poolings), max_len=draw.pick(1, 3))
    if draw.chance():
        specs["tags"] = categorical(type="sequence", feature_encoder=draw.pick(*poolings), max_len=draw.pick(1, 3))
    specs = {name: specs[name] for name in draw.random.permutation(list(specs)).tolist()}
    a = {
        "source": "a peer of LongCTR",
        "model": "DIEN",
        "dataset_id": "x",
        "gru_type": ("GRU", "AGRU", "AUGRU")[seed % 3],
        "attention_type": draw.pick("bilinear_attention", "dot_attention", "din_attention"),
        "use_attention_softmax": draw.chance(0.7),
        "attention_hidden_units": draw.sizes(3, 5, 8),
        "attention_activation": draw.pick("Dice", "ReLU", "PReLU"),
        "enable_sum_pooling": draw.chance(),
        "dnn_hidden_units": draw.sizes(4, 7, 16),
        "dnn_activations": draw.pick("ReLU", "Dice", "PReLU"),
        "batch_norm": draw.chance(),
        "embedding_dim": draw.pick(3, 4),
        "aux_loss_alpha": 0,
        "max_len": draw.pick(3, 6, 9),
        "padding": "post",
        "fuxictr_version": "2.3.7",
        "groups": {"user": ["user_id", *(["tags"] if "tags" in specs else [])], "context": ["hour"]},
    }
    items = [name for name, spec in specs.items() if spec["source"] == "item"]
    a["groups"]["candidate"] = ["slot", *items]
    peer = Peer(a, specs, draw.pick(0, 0.3), False)
    randomise(peer, draw.random)
    for layer in peer.embedding_layer.embedding_layer.embedding_layers.values():
        if isinstance(layer, nn.Embedding):
            layer.weight.data[0] = 0

    def value(name):
        spec = specs[name]
        if spec["type"] == "numeric":
            return round(float(draw.random.normal()), 3)
        if spec["type"] == "sequence":
            return ids(draw.random, spec["vocab_size"], int(draw.random.integers(0, spec["max_len"] + 1)))
        return ids(draw.random, spec["vocab_size"], 1)[0]

    requests = []
    for length in [0, a["max_len"] + 3, *lengths(draw.random, a["max_len"])]:
        count = draw.pick(1, 2, 7)
        requests.append(
            {
                "user": {name: value(name) for name in a["groups"]["user"]},
                "context": {"hour": value("hour")},
                "history": {name: [value(name) for _ in range(length)] for name in items},
                "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
            }
        )
    shown = {**a, "feature_map": [{name: spec} for name, spec in specs.items()]}
    return shown, state_dict(peer), {}, with_scores(peer, requests)
