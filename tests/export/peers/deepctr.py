"""DeepCTR's DIEN on Keras: names of variables and layouts of shenweichen/DeepCTR, arithmetic from its source, in numpy.

A request is a batch of padded rows as the package sees it. Every step of both recurrences runs over all rows, and a mask
of lengths holds the states of those that have ended.
"""

import numpy as np

from peers.common import Draw, ids, lengths

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
    "tanh": np.tanh,
    "linear": lambda x: x,
    "swish": lambda x: x / (1 + np.exp(-x)),
}
sigmoid = ACTIVATIONS["sigmoid"]


class Names:
    """Keras counts the layers of a kind through the whole process: dnn, dnn_1, ..."""

    def __init__(self, first):
        self.first, self.counts = first, {}

    def new(self, kind):
        count = self.counts[kind] = self.counts.get(kind, self.first - 1) + 1
        return f"{kind}_{count}" if count else kind


class Dnn:
    """layers.core.DNN: kernels beside biases, BatchNormalization, then the activation's layer."""

    def __init__(self, names, prefix, inputs, sizes, activation, use_bn, shared_axes=False):
        self.prefix, self.sizes, self.activation = prefix, sizes, activation
        self.shapes, widths = {}, [inputs, *sizes]
        for i, units in enumerate(sizes):
            self.shapes[f"{prefix}/kernel{i}"], self.shapes[f"{prefix}/bias{i}"] = (widths[i], units), (units,)
        self.norms = [names.new("batch_normalization") for _ in sizes] if use_bn else []
        for name, units in zip(self.norms, sizes):
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                self.shapes[f"{prefix}/{name}/{part}"] = (units,)
        self.acts = []
        for units in sizes:
            if activation == "dice":
                name = names.new("dice")
                self.acts.append((f"{prefix}/{name}", f"{prefix}/{name}/{names.new('batch_normalization')}"))
                self.shapes[f"{prefix}/{name}/dice_alpha"] = (units,)
                self.shapes[f"{self.acts[-1][1]}/moving_mean"] = self.shapes[f"{self.acts[-1][1]}/moving_variance"] = (units,)
            elif activation == "prelu":
                self.acts.append((f"{prefix}/{names.new('p_re_lu')}", ""))
                self.shapes[f"{self.acts[-1][0]}/alpha"] = (units,)

    def run(self, w, x):
        for i in range(len(self.sizes)):
            x = x @ w[f"{self.prefix}/kernel{i}"] + w[f"{self.prefix}/bias{i}"]
            if self.norms:
                at = f"{self.prefix}/{self.norms[i]}"
                x = (x - w[f"{at}/moving_mean"]) / np.sqrt(w[f"{at}/moving_variance"] + 1e-3) * w[f"{at}/gamma"] + w[f"{at}/beta"]
            if self.activation == "dice":
                at, norm = self.acts[i]
                p = sigmoid((x - w[f"{norm}/moving_mean"]) / np.sqrt(w[f"{norm}/moving_variance"] + 1e-9))
                x = w[f"{at}/dice_alpha"] * (1 - p) * x + p * x
            elif self.activation == "prelu":
                x = np.maximum(x, 0) + w[f"{self.acts[i][0]}/alpha"] * np.minimum(x, 0)
            else:
                x = ACTIVATIONS[self.activation](x)
        return x


class Peer:
    def __init__(self, a, rows, widths, names):
        self.a, shapes = a, {}
        self.tables = {}  # the variable of each embedding
        embedding = a["embedding_names"]
        for feature in [*a["sparse_features"], *(name for name in a["feature_order"] if name in rows)]:
            named = embedding.get(feature, feature)
            if named not in self.tables:
                kind = "sparse_emb" if feature in a["sparse_features"] else "sparse_seq_emb"
                self.tables[named] = f"{kind}_{named}/embeddings"
                shapes[self.tables[named]] = (rows[feature], widths[feature])
        self.query = self.grouped([name for name in a["sparse_features"] if name in a["history_feature_list"]])
        hidden = self.hidden = sum(widths[name] for name in self.query)
        own = a["gru_type"] in ("AGRU", "AUGRU")  # cells of the package's own, whose layer has no level in the names
        self.cells = ["gru1/gru_cell", "gru2" if own else "gru2/gru_cell"]
        for cell in self.cells:
            shapes.update({f"{cell}/gates/kernel": (2 * hidden, 2 * hidden), f"{cell}/gates/bias": (2 * hidden,),
                           f"{cell}/candidate/kernel": (2 * hidden, hidden), f"{cell}/candidate/bias": (hidden,)})
        self.auxiliary = None
        if a["use_negsampling"] and a["gru_type"] == "AUGRU":
            self.auxiliary = Dnn(names, names.new("dnn"), 2 * hidden, [100, 50, 1], "sigmoid", False)
        pooling = names.new("attention_sequence_pooling_layer")
        self.unit = f"{pooling}/{names.new('local_activation_unit')}"
        self.attention = Dnn(names, f"{self.unit}/{names.new('dnn')}", 4 * hidden, a["att_hidden_units"], a["att_activation"],
                             False)
        last = a["att_hidden_units"][-1] if a["att_hidden_units"] else 4 * hidden
        shapes.update({f"{self.unit}/kernel": (last, 1), f"{self.unit}/bias": (1,)})
        embedded = [*a["sparse_features"], *a.get("pooled_features", {})]
        inputs = sum(widths[name] for name in embedded) + hidden + sum(a["dense_dimensions"].values())
        self.dnn = Dnn(names, names.new("dnn"), inputs, a["dnn_hidden_units"], a["dnn_activation"], a["use_bn"])
        self.dense = names.new("dense")
        self.prediction = names.new("prediction_layer")
        shapes[f"{self.dense}/kernel"] = (a["dnn_hidden_units"][-1] if a["dnn_hidden_units"] else inputs, 1)
        shapes[f"{self.prediction}/global_bias"] = (1,)
        for each in filter(None, (self.auxiliary, self.attention, self.dnn)):
            shapes.update(each.shapes)
        self.shapes, self.w = shapes, {}

    def randomise(self, random):
        for name, shape in self.shapes.items():
            last = name.rsplit("/", 1)[-1]
            if last == "moving_variance":
                values = random.uniform(0.2, 2, shape)
            elif last == "gamma":
                values = random.uniform(0.4, 1.6, shape)
            elif last == "embeddings":
                values = random.normal(0, 0.7, shape)
            else:
                values = random.normal(0, 1.3 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, shape)
            self.w[name] = values.astype(np.float32).astype(np.float64)

    def embed(self, feature, values):
        return self.w[self.tables[self.a["embedding_names"].get(feature, feature)]][np.asarray(values)]

    def step(self, cell, x, h, a=None):
        """TensorFlow's GRUCell, and with an attention score QAAttGRUCell or VecAttGRUCell."""
        w = self.w
        r, u = np.split(sigmoid(np.concatenate([x, h], -1) @ w[f"{cell}/gates/kernel"] + w[f"{cell}/gates/bias"]), 2, -1)
        c = np.tanh(np.concatenate([x, r * h], -1) @ w[f"{cell}/candidate/kernel"] + w[f"{cell}/candidate/bias"])
        if a is None:
            return u * h + (1 - u) * c
        if self.a["gru_type"] == "AGRU":
            return (1 - a) * h + a * c
        u = (1 - a) * u
        return u * h + (1 - u) * c

    def dynamic_rnn(self, cell, x, count, scores=None):
        """Outputs, zero past the end, and last states, which stay as they are past it."""
        h, outputs = np.zeros((len(x), self.hidden)), []
        for t in range(x.shape[1]):
            new = self.step(cell, x[:, t], h, None if scores is None else scores[:, t, None])
            running = (t < count)[:, None]
            outputs.append(np.where(running, new, 0))
            h = np.where(running, new, h)
        return np.stack(outputs, 1), h

    def scores(self, query, keys, count):
        q = np.repeat(query[:, None], keys.shape[1], 1)
        out = self.attention.run(self.w, np.concatenate([q, keys, q - keys, q * keys], -1))
        s = (out @ self.w[f"{self.unit}/kernel"] + self.w[f"{self.unit}/bias"])[..., 0]
        mask = np.arange(keys.shape[1]) < count[:, None]
        if not self.a["att_weight_normalization"]:
            return np.where(mask, s, 0)
        s = np.where(mask, s, -(2.0**32) + 1)
        powers = np.exp(s - s.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def score(self, request):
        a, rows = self.a, len(next(iter(request["candidates"].values())))
        given = {name: [value] * rows for name, value in {**request.get("user", {}), **request.get("context", {})}.items()}
        given.update(request["candidates"])
        sparse = {name: self.embed(name, given[name]) for name in a["sparse_features"]}
        columns, count = [], 0
        for sequence in self.grouped([name for name in a["feature_order"] if name.startswith("hist_")]):
            name = sequence if sequence in a["groups"]["behavior"] else sequence[5:]
            kept = request["history"][name][-a["max_length"]:]
            count = len(kept)
            columns.append(self.embed(sequence, [kept + [0] * (a["max_length"] - count)] * rows))
        counts = np.full(rows, count)
        query = np.concatenate([sparse[name] for name in self.query], -1)
        states, _ = self.dynamic_rnn(self.cells[0], np.concatenate(columns, -1), counts)
        if a["gru_type"] == "GRU":
            outputs, _ = self.dynamic_rnn(self.cells[1], states, counts)
            final = (self.scores(query, outputs, counts)[..., None] * outputs).sum(1)
        else:
            weights = self.scores(query, states, counts)
            if a["gru_type"] == "AIGRU":
                _, final = self.dynamic_rnn(self.cells[1], states * weights[..., None], counts)
            else:
                _, final = self.dynamic_rnn(self.cells[1], states, counts, weights)
        dense = [np.asarray(given[name], np.float64).reshape(rows, -1) for name in a["dense_features"]]
        pooled = self.grouped([name for name in a["feature_order"] if name in a.get("pooled_features", {})])
        x = np.concatenate([*(sparse[name] for name in self.grouped(a["sparse_features"])),
                            *(self.pool(name, given[name]) for name in pooled), final, *dense], -1)
        logit = self.dnn.run(self.w, x) @ self.w[f"{self.dense}/kernel"] + self.w[f"{self.prediction}/global_bias"]
        return sigmoid(logit)[:, 0]

    def pool(self, name, rows):
        """layers.SequencePoolingLayer over padded ids, with their count."""
        combiner, most = self.a["pooled_features"][name]["combiner"], self.a["pooled_features"][name]["maxlen"]
        counts = np.array([len(values) for values in rows])
        embedded = self.embed(name, [[*values, *[0] * (most - len(values))] for values in rows])
        mask = (np.arange(most) < counts[:, None])[..., None].astype(float)
        if combiner == "max":
            return (embedded - (1 - mask) * 1e9).max(1)
        total = (embedded * mask).sum(1)
        return total / (counts[:, None] + 1e-8) if combiner == "mean" else total

    def grouped(self, features):
        """inputs.embedding_lookup(): lists of embeddings by group, joined in the order in which the groups occur."""
        found = {}
        for feature in features:
            found.setdefault(self.a.get("group_names", {}).get(feature, "default_group"), []).append(feature)
        return [feature for group in found.values() for feature in group]


def case(seed):
    draw = Draw(seed)
    items = ["item_id", "cate_id", "brand"][:draw.pick(1, 2, 3)]
    users = ["user", "gender"][:draw.pick(0, 1, 2)]
    dense = draw.pick([], ["price"], ["price", "score"])
    sizes = dict.fromkeys(dense, 1)
    if draw.chance(0.3) and dense:
        sizes[dense[0]] = 3
    sparse = draw.random.permutation([*users, "month", "slot", *items]).tolist()
    rows = {name: int(draw.random.integers(5, 40)) for name in sparse}
    widths = {name: draw.pick(2, 3, 4, 6) for name in sparse}
    own = items[0] if draw.chance(0.25) else None  # a history with a table of its own
    names = {f"hist_{item}": item for item in items if item != own}
    if "gender" in sparse and draw.chance():
        names["gender"] = "month"
        first, second = sorted(("gender", "month"), key=sparse.index)
        rows[second], widths[second] = rows[first], widths[first]
    for item in items:
        rows[f"hist_{item}"], widths[f"hist_{item}"] = rows[item], widths[item]
    histories = draw.random.permutation([f"hist_{item}" for item in items]).tolist()
    a = {
        "source": "a peer of DeepCTR",
        "gru_type": draw.pick("GRU", "AIGRU", "AGRU", "AUGRU"),
        "use_negsampling": draw.chance(),
        "history_feature_list": draw.random.permutation(items).tolist(),
        "max_length": draw.pick(3, 6, 12),
        "att_hidden_units": draw.sizes(3, 5, 8),
        "att_activation": draw.pick("dice", "relu", "sigmoid", "tanh", "swish", "linear"),
        "att_weight_normalization": draw.chance(),
        "dnn_hidden_units": draw.sizes(4, 7, 16, least=0),
        "dnn_activation": draw.pick("relu", "dice", "prelu", "sigmoid", "tanh"),
        "use_bn": draw.chance(),
        "sparse_features": sparse,
        "dense_features": dense,
        "dense_dimensions": sizes,
        "feature_order": [*sparse, *dense, histories[0], "seq_length", *histories[1:]],
        "embedding_names": names,
        "groups": {
            "user": [*users, *dense[1:]],
            "context": ["month"],
            "candidate": [*items, "slot", *dense[:1]],
            "behavior": [f"hist_{item}" if item == own else item for item in items],
        },
    }
    many = draw.pick([], ["tags"], ["tags", "colours"])
    if many:
        a["pooled_features"] = {name: {"combiner": draw.pick("sum", "mean", "max"), "maxlen": draw.pick(1, 4)} for name in many}
        a["feature_order"] = draw.random.permutation([*a["feature_order"], *many, "tags_length"]).tolist()
        a["sparse_features"] = [name for name in a["feature_order"] if name in sparse]
        a["dense_features"] = [name for name in a["feature_order"] if name in dense]
        a["groups"]["user"].append("tags")
        a["groups"]["candidate" if draw.chance() else "context"] += many[1:]
        for name in many:
            rows[name], widths[name] = int(draw.random.integers(5, 40)), draw.pick(2, 3)
    if draw.chance(0.3):
        a["group_names"] = {name: draw.pick("first", "second") for name in [*sparse[::2], *histories[:1]]}
    peer = Peer(a, rows, widths, Names(draw.pick(0, 0, 3)))
    peer.randomise(draw.random)

    def value(name):
        if name in many:
            how = a["pooled_features"][name]
            least = 1 if how["combiner"] == "max" else 0  # a maximum of nothing is -1e9 there
            return draw.random.integers(0, rows[name], int(draw.random.integers(least, how["maxlen"] + 1))).tolist()
        if name in dense:
            drawn = draw.random.normal(0, 1, sizes[name]).astype("float32").tolist()
            return drawn if sizes[name] > 1 else drawn[0]
        return int(draw.random.integers(rows[name]))

    requests = []
    for length in [0, a["max_length"] + 4, *lengths(draw.random, a["max_length"])]:
        count = draw.pick(1, 2, 7)
        request = {
            "user": {name: value(name) for name in a["groups"]["user"]},
            "context": {name: value(name) for name in a["groups"]["context"]},
            "history": {name: ids(draw.random, rows[name], length) for name in a["groups"]["behavior"]},
            "candidates": {name: [value(name) for _ in range(count)] for name in a["groups"]["candidate"]},
        }
        requests.append({**request, "scores": peer.score(request).tolist()})
    shown = a if set(sizes.values()) - {1} else {key: each for key, each in a.items() if key != "dense_dimensions"}
    tensors = {name: each.astype(np.float32) for name, each in peer.w.items()}
    if draw.chance(0.3):  # an optimiser's, as Keras and the graph name them
        for name, each in list(tensors.items())[:6]:
            tensors[f"training/Adam/{name}/m"] = tensors[f"{name}/Adam_1"] = np.zeros_like(each)
        tensors["Adam/iter"] = np.array(3)
    return shown, tensors, {}, requests
