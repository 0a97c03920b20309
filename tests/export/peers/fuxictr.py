"""FuxiCTR's DIEN: names and layout of reczoo/FuxiCTR's model_zoo/DIEN, arithmetic from its description."""

import torch
from torch import nn

from peers.common import Draw, gru, ids, lengths, padded, randomise, run_gru, state_dict, with_scores


class Dice(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.bn = nn.BatchNorm1d(units, affine=False, eps=1e-9)
        self.alpha = nn.Parameter(torch.zeros(units))

    def forward(self, x):
        p = torch.sigmoid(self.bn(x))
        return p * x + (1 - p) * self.alpha * x


ACTIVATIONS = {
    "ReLU": lambda n: nn.ReLU(),
    "Sigmoid": lambda n: nn.Sigmoid(),
    "Tanh": lambda n: nn.Tanh(),
    "PReLU": nn.PReLU,
    "Dice": Dice,
    "SiLU": lambda n: nn.SiLU(),
    "LeakyReLU": lambda n: nn.LeakyReLU(),
    None: lambda n: None,
}


def block(inputs, sizes, activations, norm, dropout, once=False):
    """Modules that are not there leave no gap in the numbering."""
    modules = [nn.BatchNorm1d(inputs)] if norm and once else []
    for units, name in zip(sizes, activations):
        modules.append(nn.Linear(inputs, units))
        modules += [nn.BatchNorm1d(units)] if norm and not once else []
        modules += [each for each in [ACTIVATIONS[name](units)] if each is not None]
        modules += [nn.Dropout(dropout)] if dropout else []
        inputs = units
    holder = nn.Module()
    holder.mlp = nn.Sequential(*modules, nn.Linear(inputs, 1))
    return holder


class Cell(nn.Module):
    """Gates in the order u, r, n; u writes."""

    def __init__(self, width, kind, version=""):
        super().__init__()
        if kind == "AGRU" and version and tuple(map(int, version.split("."))) < (2, 3, 2):
            kind = "AUGRU"  # a slip of FuxiCTR's, mended in 2.3.2
        self.x2h, self.h2h, self.kind = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width), kind

    def forward(self, x, h, a):
        (xu, xr, xn), (hu, hr, hn) = self.x2h(x).chunk(3, 1), self.h2h(h).chunk(3, 1)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return h + (a if self.kind == "AGRU" else a * torch.sigmoid(xu + hu)) * (n - h)


class Pretrained(nn.Module):
    """A pretrained table: alone, added to an embedding of the ids, or side by side with it."""

    def __init__(self, spec, width):
        super().__init__()
        self.usage, self.beyond, self.frozen = spec["pretrain_usage"], spec["oov_idx"], spec["freeze_emb"]
        rows, inner = spec["vocab_size"], spec["pretrain_dim"]
        self.pretrain_embedding = nn.Embedding(rows, inner)
        if self.usage != "init":
            self.id_embedding = nn.Embedding(rows, width)
        if self.usage == "concat" or inner != width:
            self.proj = nn.Linear(inner + (width if self.usage == "concat" else 0), width)

    def forward(self, x):
        known = (x <= self.beyond).double().unsqueeze(-1)
        out = self.pretrain_embedding(x)
        out = out if self.frozen else out * known
        if self.usage == "concat":
            return self.proj(torch.cat([out, self.id_embedding(x) * known], -1))
        out = self.proj(out) if hasattr(self, "proj") else out
        return out + self.id_embedding(x) * known if self.usage == "sum" else out


class Peer(nn.Module):
    def __init__(self, a, specs, dropout, once):
        super().__init__()
        self.a, self.specs, width = a, specs, a["embedding_dim"]
        self.embedding_layer = nn.Module()
        layers, encoders = nn.ModuleDict(), nn.ModuleDict()
        for name, spec in specs.items():
            if "Linear" in spec.get("feature_encoder", ""):
                encoders[name] = nn.Linear(width, width)
            if spec.get("share_embedding") in layers:
                layers[name] = layers[spec["share_embedding"]]
            elif spec["type"] == "numeric":
                layers[name] = nn.Linear(1, width, bias=False)
            elif "pretrained_emb" in spec:
                layers[name] = Pretrained(spec, width)
            else:
                layers[name] = nn.Embedding(spec["vocab_size"], width, padding_idx=0)
        self.embedding_layer.embedding_layers, self.embedding_layer.feature_encoders = layers, encoders
        self.extraction_modules, self.evolving_modules, self.attention_modules = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        self.targets = [[each] if isinstance(each, str) else each for each in a["dien_target_field"]]
        self.sequences = [[each] if isinstance(each, str) else each for each in a["dien_sequence_field"]]
        total = width * sum(spec["type"] != "sequence" or "feature_encoder" in spec for spec in specs.values())
        for target in self.targets:
            model = width * len(target)
            total += model * (3 if a["enable_sum_pooling"] else 1)
            self.extraction_modules.append(gru(model))
            if a["gru_type"] == "GRU":
                self.evolving_modules.append(gru(model))
                continue
            evolving = nn.Module()
            evolving.gru_cell = Cell(model, a["gru_type"], a.get("fuxictr_version", ""))
            self.evolving_modules.append(evolving)
            attention = nn.Module()
            if a["attention_type"] == "bilinear_attention":
                attention.W_kernel = nn.Parameter(torch.eye(model))
            if a["attention_type"] == "din_attention":
                count = len(a["attention_hidden_units"])
                attention.attn_mlp = block(
                    4 * model, a["attention_hidden_units"], [a["attention_activation"]] * count, False, dropout
                )
            self.attention_modules.append(attention)
        self.old = a.get("fuxictr_version", "") < "2.0.2"
        if self.old and not a["enable_sum_pooling"]:
            total += 2 * width * sum(map(len, self.targets))
        names = a["dnn_activations"]
        names = names if isinstance(names, list) else [names] * len(a["dnn_hidden_units"])
        if self.old:  # the MLP has no norms of its own: one stands before it
            self.dnn = nn.Sequential(
                nn.BatchNorm1d(total) if a["batch_norm"] else nn.Identity(),
                block(total, a["dnn_hidden_units"], names, False, dropout),
            )
        else:
            self.dnn = block(total, a["dnn_hidden_units"], names, a["batch_norm"], dropout, once)
        if a["aux_loss_alpha"]:
            self.aux_net = block(2 * width, [3], ["ReLU"], False, 0)

    def embed(self, name, values):
        layer = self.embedding_layer.embedding_layers[name]
        out = (
            layer(torch.tensor(values, dtype=torch.float32).double().view(-1, 1))
            if self.specs[name]["type"] == "numeric"
            else layer(values)
        )
        encoders = self.embedding_layer.feature_encoders
        return encoders[name](out) if name in encoders else out

    def attention(self, i, states, target, mask):
        kind, module = self.a["attention_type"], self.attention_modules[i]
        if kind == "din_attention":
            t = target.unsqueeze(1).expand_as(states)
            x = torch.cat([t, states, t - states, t * states], -1)
            s = module.attn_mlp.mlp(x.reshape(-1, x.shape[-1])).reshape(mask.shape)
        else:
            keys = states @ module.W_kernel if kind == "bilinear_attention" else states
            s = (keys @ target.unsqueeze(-1)).squeeze(-1)
        s = s * mask.double()
        if not self.a["use_attention_softmax"]:
            return s
        return torch.softmax(s - 1e9 * (1 - mask.double()), -1)

    def follow(self, i, sequence, target, ids_of_first):
        mask = ids_of_first > 0
        count = mask.sum(1)
        if not int(count[0]):
            return torch.zeros_like(target)
        states = run_gru(self.extraction_modules[i], sequence, count)[0]
        if self.a["gru_type"] == "GRU":
            return run_gru(self.evolving_modules[i], states, count)[1]
        a, h = self.attention(i, states, target, mask), torch.zeros_like(target)
        for t in range(int(count[0])):
            h = self.evolving_modules[i].gru_cell(states[:, t], h, a[:, t, None])
        return h

    def score(self, request):
        rows, behaviours = len(next(iter(request["candidates"].values()))), self.a["groups"]["behavior"]
        given = {name: [value] * rows for name, value in {**request["user"], **request["context"]}.items()}
        given.update(request["candidates"])
        flat = {
            name: self.embed(name, given[name] if spec["type"] == "numeric" else torch.tensor(given[name]))
            for name, spec in self.specs.items()
            if spec["type"] != "sequence"
        }
        x = []
        for i, (target, sequence) in enumerate(zip(self.targets, self.sequences)):
            columns = {}
            for name in sequence:
                wire = name if name in behaviours else self.specs[name]["share_embedding"]
                columns[name] = padded(request["history"][wire], self.specs[name]["max_len"], "first")[0].expand(
                    rows, -1
                )
            emb = torch.cat([self.embed(name, column) for name, column in columns.items()], -1)
            goal = torch.cat([flat[name] for name in target], -1)
            state, sums = self.follow(i, emb, goal, columns[sequence[0]]), [emb.sum(1), goal * emb.sum(1)]
            if self.old:
                x += [*sums, state]
            else:
                x += [state, *sums] if self.a["enable_sum_pooling"] else [state]
        flat.update(self.pooled(given))
        x = torch.cat([*x, *(flat[name] for name in self.specs if name in flat)], -1)
        return torch.sigmoid(self.dnn[1].mlp(self.dnn[0](x)) if self.old else self.dnn.mlp(x)).squeeze(-1)

    def pooled(self, given):
        """Sequences that are no histories: row 0, which is zero, fills them up."""
        out = {}
        for name, spec in self.specs.items():
            if spec["type"] == "sequence" and spec.get("feature_encoder"):
                every = [[*each, *[0] * (spec["max_len"] - len(each))] for each in given[name]]
                emb = self.embedding_layer.embedding_layers[name](torch.tensor(every))
                out[name] = emb.sum(1)
                if "Average" in spec["feature_encoder"]:
                    out[name] = out[name] / ((emb.sum(-1) != 0).double().sum(1, keepdim=True) + 1e-12)
        return out


def _specs(draw, pairs, a):
    """A feature map: some tables shared, some pretrained, a number."""

    def categorical(**more):
        return {
            "source": "",
            "type": "categorical",
            "padding_idx": 0,
            "vocab_size": int(draw.random.integers(6, 40)),
            **more,
        }

    specs = {
        "user_id": categorical(),
        "hour": categorical(),
        "price": {"source": "", "type": "numeric"},
        "slot": categorical(),
    }
    for name in ("item_id", "cate_id", "shop_id"):
        specs[name] = categorical()
    if draw.chance(0.4):
        usage, rows = draw.pick("init", "sum", "concat"), specs["item_id"]["vocab_size"]
        specs["item_id"].update(
            pretrained_emb="item.h5",
            pretrain_dim=draw.pick(a["embedding_dim"], 5),
            pretrain_usage=usage,
            freeze_emb=draw.chance(),
            oov_idx=rows - 1 - draw.pick(0, 2),
        )
    for target, sequence in pairs:
        for item, name in zip(target, sequence):
            own = {"vocab_size": specs[item]["vocab_size"], "max_len": a["max_length"][name]}
            if name == a["own"]:
                specs[name] = categorical(type="sequence", **own)
            else:
                owner = {"click_history": "item_id", "cart_history": "item_id"}.get(name, item)
                own["vocab_size"] = specs[owner]["vocab_size"]
                specs[name] = {"source": "", "type": "sequence", "share_embedding": owner, "padding_idx": 0, **own}
                specs[name].update(
                    {key: value for key, value in specs[owner].items() if key in ("oov_idx", "freeze_emb")}
                )
    order = draw.random.permutation([name for name in specs if specs[name]["type"] != "sequence"]).tolist()
    return {name: specs[name] for name in [*order, *(name for name in specs if name not in order)]}


def case(seed):
    draw = Draw(seed)
    pairs = [
        [["item_id", "cate_id"], ["click_history", "cate_history"]],
        [["shop_id"], ["shop_history"]],
        [["item_id"], ["cart_history"]],
        [["cate_id"], ["click_history"]],
        [["shop_id"], ["shop_history"]],
    ]
    pairs = [pairs[i] for i in draw.random.permutation(5)[: draw.pick(1, 2, 3)]]
    longest = {
        "click_history": draw.pick(3, 6, 12),
        "shop_history": draw.pick(3, 6, 12),
        "cart_history": draw.pick(3, 6, 12),
    }
    lengths_of = {name: longest.get(name, longest["click_history"]) for _, sequence in pairs for name in sequence}
    every = list(lengths_of)
    a = {
        "source": "a peer of FuxiCTR",
        "gru_type": draw.pick("GRU", "AGRU", "AUGRU", "AUGRU"),
        "attention_type": draw.pick("bilinear_attention", "dot_attention", "din_attention"),
        "use_attention_softmax": draw.chance(0.7),
        "attention_hidden_units": draw.sizes(3, 5, 8),
        "attention_activation": draw.pick("Dice", "ReLU", "Sigmoid", "PReLU", "Tanh"),
        "enable_sum_pooling": draw.chance(0.4),
        "dnn_hidden_units": draw.sizes(4, 7, 16),
        "batch_norm": draw.chance(),
        "embedding_dim": draw.pick(3, 4),
        "aux_loss_alpha": draw.pick(0, 1.0),
        "max_length": lengths_of,
        "own": draw.pick(every[0], "", ""),
        "dien_neg_seq_field": [],
    }
    a["dnn_activations"] = draw.pick("ReLU", "Dice", "PReLU", "SiLU", "Sigmoid")
    if draw.chance(0.3):
        a["dnn_activations"] = [
            draw.pick("ReLU", "Dice", "PReLU", "LeakyReLU", "Tanh", None) for _ in a["dnn_hidden_units"]
        ]
    a["dien_target_field"] = [target if len(target) > 1 or draw.chance() else target[0] for target, _ in pairs]
    a["dien_sequence_field"] = [
        sequence if len(sequence) > 1 or draw.chance() else sequence[0] for _, sequence in pairs
    ]
    specs = _specs(draw, pairs, a)
    if specs["item_id"].get("pretrained_emb"):
        a["enable_sum_pooling"] = False  # the padding's row is not zero then
    elif draw.chance(0.25):
        specs["cate_id"]["feature_encoder"] = "nn.Linear(3, 3)"
    a["fuxictr_version"] = draw.pick("2.0.1", "2.3.1", "2.3.2", "2.3.9")
    if specs["item_id"].get("pretrained_emb") or a["own"]:
        a["fuxictr_version"] = "2.3.9"
    tags = draw.pick("", "", "layers.MaskedAveragePooling()", "layers.MaskedSumPooling()")
    if tags:
        specs["tags"] = {"source": "", "type": "sequence", "feature_encoder": tags, "padding_idx": 0, "vocab_size": 9}
        specs["tags"]["max_len"] = 3
    shared = [specs[name].get("share_embedding") for name in every]
    a["groups"] = {
        "user": ["user_id", *(["tags"] if tags else [])],
        "context": ["hour"],
        "candidate": ["item_id", "cate_id", "shop_id", "price", "slot"],
        "behavior": [
            name
            if name == a["own"]
            or shared.count(owner) > 1
            or (owner == "cate_id" and "feature_encoder" in specs["cate_id"])
            else owner
            for name, owner in zip(every, shared)
        ],
    }
    peer = Peer(a, specs, draw.pick(0, 0.3), draw.chance(0.3))
    randomise(peer, draw.random)
    for name, layer in peer.embedding_layer.embedding_layers.items():
        if isinstance(layer, nn.Embedding):
            layer.weight.data[0] = 0
    tokens = draw.chance(0.4)
    vocabulary = None
    if tokens:
        vocabulary = {}
        for name, spec in specs.items():
            if spec["type"] != "numeric":
                rows = spec["vocab_size"]
                vocabulary[name] = {
                    "__PAD__": 0,
                    **{
                        f"{name if spec['type'] != 'sequence' else spec.get('share_embedding', name)} {i}": i
                        for i in range(1, rows - 1)
                    },
                    "__OOV__": rows - 1,
                }
    return _finish(draw, a, specs, peer, vocabulary, every)


def _finish(draw, a, specs, peer, vocabulary, every):
    wires = dict(zip(every, a["groups"]["behavior"]))

    def value(name):
        if name == "tags":
            return ids(draw.random, 9, draw.pick(0, 1, 2, 3))
        return (
            float(draw.random.normal(0, 1))
            if specs[name]["type"] == "numeric"
            else int(draw.random.integers(specs[name]["vocab_size"]))
        )

    requests = []
    longest = max(a["max_length"].values())
    for length in [0, longest + 4, *lengths(draw.random, longest)]:
        count, history = draw.pick(1, 2, 7), {}
        for sequence in peer.sequences:
            known = [len(history[wires[name]]) for name in sequence if wires[name] in history]
            for name in sequence:
                if wires[name] not in history:
                    history[wires[name]] = ids(draw.random, specs[name]["vocab_size"], *known[:1] or [length])
            length = draw.pick(0, 1, length)
        requests.append(
            {
                "user": {name: value(name) for name in a["groups"]["user"]},
                "context": {"hour": value("hour")},
                "history": history,
                "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
            }
        )
    scored = with_scores(peer, requests)
    shown = {key: value for key, value in a.items() if key != "own"}
    shown["feature_map"] = [{name: spec} for name, spec in specs.items()]
    if vocabulary:
        shown["feature_vocab"] = vocabulary
        scored = [
            _as_tokens(request, specs, vocabulary, {wire: name for name, wire in wires.items()}) for request in scored
        ]
    return shown, state_dict(peer), {}, scored


def _as_tokens(request, specs, vocabulary, sequences):
    """The same request with tokens for ids; out-of-vocabulary rows as a token that no vocabulary has."""

    def token(name, row):
        if specs[name]["type"] == "numeric":
            return row
        if isinstance(row, list):
            return [token(name, each) for each in row]
        found = next(text for text, each in vocabulary[name].items() if each == row)
        return "never seen" if found == "__OOV__" and "oov_idx" not in specs[name] else found

    out = {group: {name: token(name, row) for name, row in request[group].items()} for group in ("user", "context")}
    out["candidates"] = {name: [token(name, row) for row in column] for name, column in request["candidates"].items()}
    out["history"] = {
        wire: [token(sequences[wire], row) for row in column] for wire, column in request["history"].items()
    }
    return {**out, "scores": request["scores"]}
