"""What `dien convert` reads beside state dict and architecture file: vocabularies, FuxiCTR's files, notations."""

import json
import pickle

import numpy as np
import pytest

from dien.model import documents
from dien.model.model_directory import Scorer, load
from dien.sources import convert
from dien.sources import weights
from dien.sources.fold import Norm, batch_norm_before, norm_after, tf1_cell, torch_cell
from dien.sources.source import ConversionError, Source
from test_convert import GOLDEN, command, converted

FUXI = "fuxictr-augru-bilinear"
TF1 = "reference-tf1-prelu"


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


# ---- the authors' code


def pickled(path, vocabulary):
    """A dict as Python 2's cPickle writes it: byte strings, protocol 0."""
    lines = b"".join(f"S'{text}'\np{i + 1}\nI{row}\ns".encode() for i, (text, row) in enumerate(vocabulary.items()))
    path.write_bytes(b"(dp0\n" + lines + b".")
    return path


def test_pickled_vocabularies(tmp_path):
    """uid_voc.pkl, mid_voc.pkl and cat_voc.pkl: clients then send the strings of the log."""
    texts = {
        "uid": [f"A{row}" for row in range(60)],
        "mid": ["default_mid", *(f"B{row}" for row in range(1, 300))],
        "cat": ["default_cat", *(f"Books {row}" for row in range(1, 25))],
    }
    flags = []
    for name, column in texts.items():
        path = pickled(tmp_path / f"{name}_voc.pkl", {text: row for row, text in enumerate(column)})
        flags += ["--vocabulary", f"{name}={path}"]
    requests = [
        {
            **{
                group: {
                    name: ([texts[name][row] for row in value] if isinstance(value, list) else texts[name][value])
                    for name, value in request[group].items()
                }
                for group in ("user", "history", "candidates")
            },
            "scores": request["scores"],
        }
        for request in documents.read(GOLDEN / TF1 / "requests.json")
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run = command(TF1, *flags, "--samples", tmp_path / "requests.json", "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    scorer = load(tmp_path / "out")
    assert convert.largest_difference(scorer, requests) < 1e-6
    known = {**requests[1], "candidates": {"mid": ["default_mid"], "cat": ["default_cat"]}}
    unknown = {**known, "candidates": {"mid": ["never seen"], "cat": ["nor this"]}}
    assert np.array_equal(scorer.score(known), scorer.score(unknown))


def test_vocabularies_of_python_3_and_json(tmp_path):
    vocabulary = {"é": 0, "b": 1}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(vocabulary))
    (tmp_path / "a.json").write_text(json.dumps(vocabulary))
    assert (
        convert.read_vocabulary(str(tmp_path / "a.pkl"))
        == vocabulary
        == convert.read_vocabulary(str(tmp_path / "a.json"))
    )


@pytest.mark.parametrize("vocabulary", [{"a": 0, "b": 2}, {"a": 0}, {str(row): max(row, 1) for row in range(300)}])
def test_a_vocabulary_that_is_not_the_tables(vocabulary):
    with pytest.raises(ConversionError, match="vocabulary of mid"):
        converted(TF1, vocabularies={"mid": vocabulary})


def test_npz_with_output_numbers(tmp_path):
    """variable.name ends in :0."""
    tensors = weights.read(str(GOLDEN / TF1 / "state_dict.safetensors"))
    np.savez(tmp_path / "a.npz", **{f"{name}:0": tensor for name, tensor in tensors.items()})
    expected, found = converted(TF1)[1], converted(TF1, file=tmp_path / "a.npz")[1]
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "renamed",
    [
        {"gru2/": "gru2/gru_cell/"},
        {"gru2/": "gru2/vec_att_gru_cell/"},
        {"prelu_": "prelu/prelu"},
        {"prelu_": "Attention_layer_1/prelu_"},
        {"prelu1/prelu_prelu1": "prelu_1/prelu", "prelu2/prelu_prelu2": "prelu_2/prelu"},
        {"": "dien/"},
    ],
    ids=str,
)
def test_doubtful_names(renamed):
    """What no TensorFlow was at hand to confirm is matched leniently."""

    def change(_, tensors):
        for old, new in renamed.items():
            for name in [
                name for name in tensors if name == old or old == "" or (old.endswith("/") and name.startswith(old))
            ]:
                tensors[new + name[len(old) :]] = tensors.pop(name)

    expected, found = converted(TF1)[1], converted(TF1, change=change)[1]
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_optimiser_slots_are_dropped():
    tensors = weights.read(str(GOLDEN / TF1 / "state_dict.safetensors"))
    slots = {"f1/kernel/Adam": np.zeros(1), "f1/kernel/Adam_1": np.zeros(1), "Metrics/beta1_power": np.zeros(())}
    source = Source({**tensors, **slots})
    convert.convert("reference-tf1", documents.read(GOLDEN / TF1 / "architecture.json"), source)
    assert {name: source.dropped[name] for name in slots} == dict.fromkeys(slots, "the optimiser's")


# ---- FuxiCTR


def test_fuxictr_files(tmp_path):
    """feature_map.json and feature_vocab.json as FuxiCTR writes them: ids become its tokens, unknown ones its last row."""
    architecture = documents.read(GOLDEN / FUXI / "architecture.json")
    features = architecture.pop("feature_map")
    (tmp_path / "architecture.json").write_text(json.dumps(architecture))
    (tmp_path / "feature_map.json").write_text(
        json.dumps(
            {
                "dataset_id": "books",
                "num_fields": 6,
                "total_features": 1,
                "input_length": 104,
                "labels": ["label"],
                "features": [*features, {"group": {"source": "", "type": "meta"}}],
            }
        )
    )
    vocabulary = {}
    for feature in features:
        for name, spec in feature.items():
            rows, stem = spec["vocab_size"], spec.get("share_embedding", name)
            vocabulary[name] = {
                **{f"{stem}:{row}": row for row in range(1, rows - 1)},
                "__PAD__": 0,
                "__OOV__": rows - 1,
            }
    (tmp_path / "feature_vocab.json").write_text(json.dumps(vocabulary))

    def tokens(name, value):
        if isinstance(value, list):
            return [tokens(name, row) for row in value]
        found = next(text for text, row in vocabulary[name].items() if row == value)
        return "never seen" if found == "__OOV__" else found

    requests = [
        {
            **{
                group: {name: tokens(name, value) for name, value in request[group].items()}
                for group in ("user", "history", "candidates")
            },
            "scores": request["scores"],
        }
        for request in documents.read(GOLDEN / FUXI / "requests.json")
    ]
    assert "never seen" in json.dumps(requests)
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run = command(
        FUXI,
        "--architecture",
        tmp_path / "architecture.json",
        "--feature-map",
        tmp_path / "feature_map.json",
        "--feature-vocab",
        tmp_path / "feature_vocab.json",
        "--samples",
        tmp_path / "requests.json",
        "--output",
        tmp_path / "out",
    )
    assert run.returncode == 0, run.stderr
    scorer = load(tmp_path / "out")
    assert len(scorer.config["vocabularies"]) == 4 and len(scorer.config["tables"]) == 4  # shared ones once
    assert convert.largest_difference(scorer, requests) < 1e-6


def test_fuxictr_unknown_ids_take_the_last_row():
    config, tensors = converted(FUXI)
    rows = {field["name"]: field["unknown_row"] for field in config["fields"]}
    assert rows == {"user_id": 59, "item_id": 299, "cate_id": 24, "scenario": 4}


def test_fuxictr_without_the_doubles():
    """safetensors stores a shared table once; the feature map says whose it is."""

    def change(_, tensors):
        for name in ("click_history", "cate_history"):
            del tensors[f"embedding_layer.embedding_layers.{name}.weight"]

    expected, found = converted(FUXI)[1], converted(FUXI, change=change)[1]
    assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


def test_fuxictr_doubles_that_differ():
    def change(_, tensors):
        name = "embedding_layer.embedding_layers.click_history.weight"
        tensors[name] = tensors[name] * 2

    with pytest.raises(
        ConversionError, match="click_history.weight differs from that of item_id, whose embedding it shares"
    ):
        converted(FUXI, change=change)


@pytest.mark.parametrize(
    "feature, message",
    [
        (
            {"tags": {"type": "sequence", "vocab_size": 4, "feature_encoder": "layers.KMaxPooling(2)"}},
            "tags: a sequence pooled",
        ),
        ({"picture": {"type": "embedding", "pretrain_dim": 4}}, "picture: type embedding"),
        ({"mood": {"type": "categorical", "vocab_size": 4}}, "embedding_layers.mood.weight is missing"),
    ],
)
def test_fuxictr_features_without_equivalent(feature, message):
    with pytest.raises(ConversionError, match=message):
        converted(FUXI, change=lambda architecture, _: architecture["feature_map"].append(feature))


# ---- rewrites


def test_fold_of_batch_norm():
    random = np.random.default_rng(0)
    weight, bias, x = random.normal(size=(4, 6)), random.normal(size=4), random.normal(size=6)
    for size in (6, 4):
        gamma, beta, mean, variance = (
            random.normal(size=size),
            random.normal(size=size),
            random.normal(size=size),
            random.random(size),
        )
        if size == 6:
            folded, folded_bias = batch_norm_before(weight, bias, gamma, beta, mean, variance, 1e-3)
            expected = weight @ (gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta) + bias
        else:
            folded, folded_bias = norm_after(weight, bias, Norm.of(gamma, beta, mean, variance, epsilon=1e-3))
            expected = gamma * (weight @ x + bias - mean) / np.sqrt(variance + 1e-3) + beta
        assert np.allclose(folded @ x + folded_bias, expected, rtol=0, atol=1e-12)


def test_tf1_cell():
    """One step of TensorFlow's cell and of ours."""
    random = np.random.default_rng(1)
    inputs, units = 5, 3
    gates, gates_bias = random.normal(size=(8, 6)), random.normal(size=6)
    kernel, kernel_bias = random.normal(size=(8, 3)), random.normal(size=3)
    x, h = random.normal(size=5), random.normal(size=3)
    r, u = np.split(sigmoid(np.concatenate([x, h]) @ gates + gates_bias), 2)
    expected = u * h + (1 - u) * np.tanh(np.concatenate([x, r * h]) @ kernel + kernel_bias)
    cell = tf1_cell(gates, gates_bias, kernel, kernel_bias, inputs=inputs)
    w, b = cell["weight_input"] @ x + cell["bias"], cell["weight_hidden"]
    reset, write = sigmoid(w[:units] + b[:units] @ h), sigmoid(w[units : 2 * units] + b[units : 2 * units] @ h)
    candidate = np.tanh(w[2 * units :] + b[2 * units :] @ (reset * h))
    assert np.allclose(h + write * (candidate - h), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("order", ["rzc", "ruc", "urc"])
def test_torch_cell(order):
    """One step of each order and polarity and of ours."""
    random = np.random.default_rng(2)
    inputs, units = 5, 3
    weight, hidden = random.normal(size=(9, inputs)), random.normal(size=(9, units))
    bias, bias_hidden, x, h = (
        random.normal(size=9),
        random.normal(size=9),
        random.normal(size=inputs),
        random.normal(size=units),
    )
    from_x, from_h = dict(zip(order, np.split(weight @ x + bias, 3))), dict(
        zip(order, np.split(hidden @ h + bias_hidden, 3))
    )
    gate = "z" if "z" in order else "u"
    update, reset = sigmoid(from_x[gate] + from_h[gate]), sigmoid(from_x["r"] + from_h["r"])
    candidate = np.tanh(from_x["c"] + reset * from_h["c"])
    expected = update * h + (1 - update) * candidate if gate == "z" else (1 - update) * h + update * candidate
    cell = torch_cell(weight, hidden, bias, bias_hidden, order=order)
    ours, recurrent = np.split(cell["weight_input"] @ x + cell["bias"], 3), np.split(cell["weight_hidden"] @ h, 3)
    write = sigmoid(ours[1] + recurrent[1])
    c = np.tanh(ours[2] + sigmoid(ours[0] + recurrent[0]) * (recurrent[2] + cell["bias_hidden"]))
    assert np.allclose(h + write * (c - h), expected, rtol=0, atol=1e-14)


# ---- multi-valued features that DeepCTR-Torch's DIEN does not read


def test_multi_valued_features_that_are_no_history():
    """They have a table in the checkpoint and no place in the network: dropped, and the scores stay."""

    def change(architecture, tensors):
        architecture["feature_order"] += ["tags", "tags_length"]
        tensors["embedding_dict.tags.weight"] = np.ones((9, 4), np.float32)

    case = "deepctr-torch-augru"
    architecture = documents.read(GOLDEN / case / "architecture.json")
    tensors = weights.read(str(GOLDEN / case / "state_dict.safetensors"))
    change(architecture, tensors)
    source = Source(tensors)
    config, stored = convert.convert("deepctr-torch", architecture, source)
    assert "never reads it" in source.dropped["embedding_dict.tags.weight"]
    assert convert.largest_difference(Scorer(config, stored), documents.read(GOLDEN / case / "requests.json")) < 1e-6


def test_a_sparse_feature_that_was_forgotten_is_not_dropped():
    """Without `gender` the dense feature would have to be wider; with its width said, the inputs do not fit."""

    def forget(architecture, _):
        for key in ("sparse_features", "feature_order"):
            architecture[key].remove("gender")
        architecture["groups"]["user"].remove("gender")

    with pytest.raises(ConversionError, match="embedding_dict.gender.weight: .*or of a feature that sparse_features lacks"):
        converted("deepctr-torch-augru", change=forget)

    def also_say(architecture, tensors):
        forget(architecture, tensors)
        architecture["dense_dimensions"] = {"pay_score": 1}

    with pytest.raises(ConversionError, match="inputs are left for the dense features"):
        converted("deepctr-torch-augru", change=also_say)
