"""Writes tests/golden/deepctr-*: random weights under DeepCTR's names, with the scores of the peer, in float64.

    python3 tests/export/make_deepctr_golden.py
"""

import json
import pathlib
import sys

import numpy as np

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "model" / "export"), str(TOP / "tests" / "export")]

from dien.model import safetensors  # noqa: E402
from peers.deepctr import Names, Peer  # noqa: E402

ROWS = {"user": 60, "gender": 3, "item_id": 200, "cate_id": 25, "tags": 30, "colours": 12}
WIDTHS = {"user": 10, "gender": 4, "item_id": 16, "cate_id": 8, "tags": 6, "colours": 3}
BASE: dict = {
    "source": "DeepCTR DIEN (TensorFlow, Keras)",
    "note": "float32 variables; scores of a float64 forward pass written from DeepCTR's source (tests/export/peers/deepctr.py)",
    "use_negsampling": False,
    "history_feature_list": ["item_id", "cate_id"],
    "max_length": 50,
    "att_hidden_units": [64, 16],
    "att_activation": "dice",
    "att_weight_normalization": True,
    "dnn_hidden_units": [64, 32],
    "dnn_activation": "relu",
    "use_bn": False,
    "sparse_features": ["user", "gender", "item_id", "cate_id"],
    "dense_features": ["pay_score"],
    "feature_order": ["user", "gender", "item_id", "cate_id", "pay_score", "hist_item_id", "seq_length", "hist_cate_id"],
    "embedding_names": {"hist_item_id": "item_id", "hist_cate_id": "cate_id"},
    "groups": {"user": ["user", "gender", "pay_score"], "candidate": ["item_id", "cate_id"], "behavior": ["item_id", "cate_id"]},
}
CASES: dict = {
    "gru": {"gru_type": "GRU"},
    "aigru": {"gru_type": "AIGRU", "att_weight_normalization": False, "att_activation": "sigmoid", "use_bn": True,
              "dnn_activation": "dice", "max_length": 20, "embedding_names": {"hist_item_id": "item_id"},
              "groups": {**BASE["groups"], "behavior": ["item_id", "hist_cate_id"]}},
    "agru": {"gru_type": "AGRU", "att_activation": "tanh", "dnn_activation": "prelu", "dense_dimensions": {"pay_score": 3},
             "sparse_features": ["cate_id", "user", "item_id", "gender"], "max_length": 20,
             "group_names": {"user": "who", "gender": "who"},
             "feature_order": ["hist_item_id", "seq_length", "hist_cate_id", "cate_id", "user", "item_id", "pay_score",
                               "gender"]},
    "augru": {"gru_type": "AUGRU", "use_negsampling": True},
    "pooled": {"gru_type": "GRU", "max_length": 20,
               "pooled_features": {"tags": {"combiner": "mean", "maxlen": 5}, "colours": {"combiner": "max", "maxlen": 3}},
               "feature_order": [*BASE["feature_order"], "tags", "tags_length", "colours", "colours_length"],
               "groups": {"user": ["user", "gender", "pay_score", "tags"], "behavior": ["item_id", "cate_id"],
                          "candidate": ["item_id", "cate_id", "colours"]}},
}


def request(random, a, length, count):
    def rows(feature):
        return ROWS[feature.removeprefix("hist_")]

    size = a["dense_dimensions"]["pay_score"]
    score = random.normal(0, 1, size).astype(np.float32).tolist()
    made = {
        "user": {"user": int(random.integers(ROWS["user"])), "gender": int(random.integers(ROWS["gender"])),
                 "pay_score": score if size > 1 else score[0]},
        "history": {name: random.integers(1, rows(name), length).tolist() for name in a["groups"]["behavior"]},
        "candidates": {name: random.integers(1, ROWS[name], count).tolist() for name in ("item_id", "cate_id")},
    }
    if "pooled_features" in a:
        made["user"]["tags"] = random.integers(0, ROWS["tags"], random.integers(0, 6)).tolist()
        made["candidates"]["colours"] = [random.integers(0, ROWS["colours"], random.integers(1, 4)).tolist()
                                         for _ in range(count)]
    return made


def write(name, seed):
    random = np.random.default_rng(seed)
    shown = {**BASE, **CASES[name]}
    a = {"dense_dimensions": {"pay_score": 1}, **shown}
    known = {name: size for name, size in ROWS.items() if name in a["feature_order"]}
    rows = {**known, **{f"hist_{each}": ROWS[each] for each in a["history_feature_list"]}}
    peer = Peer(a, rows, {**WIDTHS, **{f"hist_{each}": WIDTHS[each] for each in a["history_feature_list"]}}, Names(0))
    peer.randomise(random)
    limit = a["max_length"]
    lengths = [0, 1, 2, limit - 1, limit, limit + 5, *random.integers(1, limit, 4).tolist()]
    requests = [request(random, a, length, 1 if place == 6 else 12) for place, length in enumerate(lengths)]
    folder = TOP / "tests" / "golden" / f"deepctr-{name}"
    folder.mkdir(exist_ok=True)
    (folder / "architecture.json").write_text(json.dumps(shown, indent=1) + "\n")
    (folder / "requests.json").write_text(json.dumps([{**each, "scores": peer.score(each).tolist()} for each in requests]) + "\n")
    safetensors.write(folder / "state_dict.safetensors", {key: value.astype(np.float32) for key, value in peer.w.items()})


if __name__ == "__main__":
    for place, each in enumerate(CASES):
        write(each, 20 + place)
