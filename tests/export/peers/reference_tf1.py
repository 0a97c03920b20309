"""The authors' TensorFlow 1 DIEN: variable names and layouts of mouna99/dien, arithmetic from its description, in numpy."""

import numpy as np

from peers.common import Draw, ids, lengths

CLASSES = {
    "Model_DIN_V2_Gru_Vec_attGru_Neg": "vec",
    "Model_DIN_V2_Gru_QA_attGru": "qa",
    "Model_DIN_V2_Gru_att_Gru": "ai",
    "Model_DIN_V2_Gru_Gru_att": "pool",
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Peer:
    """Runs each request alone and unpadded; only Dice looks at all rows of the batch."""

    def __init__(self, w, kind, max_length, dice):
        self.w, self.kind, self.max_length, self.dice = w, kind, max_length, dice

    def dense(self, name, x):
        return x @ self.w[f"{name}/kernel"] + self.w[f"{name}/bias"]

    def prelu(self, name, x):
        return np.maximum(0, x) + self.w[name] * np.minimum(0, x)

    def cell(self, scope, x, h, a=None):
        xh = np.concatenate([x, h], -1)
        r, u = np.split(sigmoid(self.dense(f"{scope}/gates", xh)), 2, -1)
        c = np.tanh(self.dense(f"{scope}/candidate", np.concatenate([x, r * h], -1)))
        if a is not None and self.kind == "qa":
            return (1 - a) * h + a * c
        if a is not None and self.kind == "vec":
            u = (1 - a) * u
        return u * h + (1 - u) * c

    def attention(self, item, keys):
        q = self.prelu("prelu_", self.dense("f11_1", item))
        q, k = np.broadcast_arrays(q[:, None], keys)
        x = np.concatenate([q, k, q - k, q * k], -1)
        for layer in ("f1_att1_1", "f2_att1_1"):
            x = sigmoid(self.dense(layer, x))
        s = self.dense("f3_att1_1", x)[..., 0]
        powers = np.exp(s - s.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def inputs(self, request):
        w, rows = self.w, len(request["candidates"]["mid"])

        def items(columns):
            return np.concatenate([w[f"{name}_embedding_var"][columns[name]] for name in ("mid", "cat")], -1)

        item = items(request["candidates"])
        history = items({name: column[-self.max_length :] for name, column in request["history"].items()})
        h, states = np.zeros(self.w["gru1/gru_cell/candidate/bias"].shape), []
        for x in history:
            h = self.cell("gru1/gru_cell", x, h)
            states.append(h)
        states = np.broadcast_to(states, (rows, len(states), len(h)))
        a = None if self.kind == "pool" else self.attention(item, states)
        g, outputs = np.zeros_like(states[:, 0]), []
        for t in range(states.shape[1]):
            if self.kind in ("ai", "pool"):
                g = self.cell("gru2", states[:, t] * (a[:, t, None] if self.kind == "ai" else 1), g)
            else:
                g = self.cell("gru2", states[:, t], g, a[:, t, None])
            outputs.append(g)
        if self.kind == "pool":
            outputs = np.stack(outputs, 1)
            g = (self.attention(item, outputs)[..., None] * outputs).sum(1)
        total = np.broadcast_to(history.sum(0), item.shape)
        user = np.broadcast_to(w["uid_embedding_var"][request["user"]["uid"]], (rows, w["uid_embedding_var"].shape[1]))
        return np.concatenate([user, item, total, item * total, g], -1)

    def activate(self, place, x):
        if not self.dice:
            return self.prelu(f"prelu{place}/prelu_prelu{place}", x)
        mean = x.mean(0)
        std = np.sqrt(np.mean(np.square(x - mean) + 1e-9, 0))
        p = sigmoid((x - mean) / (std + 1e-9))
        return self.w[f"dice_{place}/alphadice_{place}"] * (1 - p) * x + p * x

    def scores(self, requests):
        """All requests as one batch."""
        pieces = [self.inputs(request) for request in requests]
        x = np.concatenate(pieces)
        w = self.w
        x = (x - w["bn1/moving_mean"]) / np.sqrt(w["bn1/moving_variance"] + 1e-3) * w["bn1/gamma"] + w["bn1/beta"]
        for place in (1, 2):
            x = self.activate(place, self.dense(f"f{place}", x))
        powers = np.exp(self.dense("f3", x))
        y = powers / powers.sum(1, keepdims=True) + 1e-8
        return np.split(y[:, 0], np.cumsum([len(piece) for piece in pieces])[:-1])


def _weights(draw, rows, width, units, kind, dice, sizes):
    w = {f"{name}_embedding_var": draw.random.normal(0, 0.5, (count, width)) for name, count in rows.items()}
    shapes = {
        "f11_1": (2 * width, units),
        "f1_att1_1": (4 * units, sizes[0]),
        "f2_att1_1": (sizes[0], sizes[1]),
        "f3_att1_1": (sizes[1], 1),
        "f1": (7 * width + units, sizes[2]),
        "f2": (sizes[2], sizes[3]),
        "f3": (sizes[3], 2),
        "gru1/gru_cell/gates": (2 * width + units, 2 * units),
        "gru1/gru_cell/candidate": (2 * width + units, units),
        "gru2/gates": (2 * units, 2 * units),
        "gru2/candidate": (2 * units, units),
    }
    if kind == "vec":
        shapes["f1gru"] = (4 * width, 5)  # of the auxiliary loss
    for name, shape in shapes.items():
        w[f"{name}/kernel"] = draw.random.normal(0, 1.3 / np.sqrt(shape[0]), shape)
        w[f"{name}/bias"] = draw.random.normal(0, 0.4, shape[1])
    for name in ("gamma", "beta", "moving_mean"):
        w[f"bn1/{name}"] = draw.random.normal(0.5, 0.3, 7 * width + units)
    w["bn1/moving_variance"] = draw.random.uniform(0.5, 2, 7 * width + units)
    for name, size in (("prelu_", units), ("prelu1/prelu_prelu1", sizes[2]), ("prelu2/prelu_prelu2", sizes[3])):
        if name == "prelu_" or not dice:
            w[name] = draw.random.normal(0, 0.4, size)
    for place in (1, 2):
        if dice:
            w[f"dice_{place}/alphadice_{place}"] = draw.random.normal(0, 0.4, sizes[1 + place])
    return {name: value.astype(np.float32) for name, value in w.items()}


def _renamed(draw, w):
    """The doubtful names as another TensorFlow, or another scope, would have them; optimiser's slots."""
    changes = [
        ("gru2/", draw.pick("gru2/", "gru2/gru_cell/", "gru2/vec_att_gru_cell/")),
        ("prelu1/prelu_prelu1", draw.pick("prelu1/prelu_prelu1", "prelu_1/prelu")),
    ]
    if draw.chance():
        changes += [("prelu_", "prelu/prelu")]
    named, scope = {}, draw.pick("", "dien/")
    for name, value in w.items():
        for old, new in changes:
            if name == old or (old.endswith("/") and name.startswith(old)):
                name = new + name[len(old) :]
        named[scope + name] = value
        named[f"{scope}{name}/Adam"] = named[f"{scope}{name}/Adam_1"] = np.zeros_like(value)
    return {**named, f"{scope}Metrics/beta1_power": np.zeros(()), f"{scope}Metrics/beta2_power": np.zeros(())}


def case(seed):
    draw = Draw(seed)
    width, units, dice = draw.pick(3, 4, 6), draw.pick(5, 8, 9), draw.chance(0.4)
    name = draw.pick(*CLASSES)
    rows = {each: int(draw.random.integers(6, 30)) for each in ("uid", "mid", "cat")}
    sizes = draw.random.permutation([3, 4, 6, 7, 11])[
        :4
    ].tolist()  # unlike each other and the query's: names are doubtful
    a = {
        "source": f"a peer of the authors' code, {name}",
        "EMBEDDING_DIM": width,
        "HIDDEN_SIZE": units,
        "ATTENTION_SIZE": units,
        "use_negsampling": name.endswith("Neg"),
        "use_dice": dice,
        "max_length": draw.pick(3, 6, 12),
        "batch_norm_eps": 1e-3,
        "groups": {"user": ["uid"], "candidate": ["mid", "cat"], "behavior": ["mid", "cat"]},
    }
    w = _weights(draw, rows, width, units, CLASSES[name], dice, sizes)
    peer = Peer({each: value.astype(np.float64) for each, value in w.items()}, CLASSES[name], a["max_length"], dice)
    requests = []
    for length in [a["max_length"] + 4, *lengths(draw.random, a["max_length"])]:
        count = draw.pick(1, 2, 7)
        requests.append(
            {
                "user": {"uid": int(draw.random.integers(rows["uid"]))},
                "history": {each: ids(draw.random, rows[each], length, 0) for each in ("mid", "cat")},
                "candidates": {each: ids(draw.random, rows[each], count, 0) for each in ("mid", "cat")},
            }
        )
    scored = [{**request, "scores": scores.tolist()} for request, scores in zip(requests, peer.scores(requests))]
    vocabularies, texts = {}, {}
    if draw.chance():
        texts = {
            each: [f"{each}-{draw.random.integers(10**9)}-{row}" for row in range(count)]
            for each, count in rows.items()
        }
        vocabularies = {each: {text: row for row, text in enumerate(column)} for each, column in texts.items()}
        scored = [
            {
                **{
                    group: {
                        each: ([texts[each][row] for row in value] if isinstance(value, list) else texts[each][value])
                        for each, value in request[group].items()
                    }
                    for group in ("user", "history", "candidates")
                },
                "scores": request["scores"],
            }
            for request in scored
        ]
    options = {"vocabularies": vocabularies, "calibrate": scored if dice else None}
    return a, _renamed(draw, w), options, scored
