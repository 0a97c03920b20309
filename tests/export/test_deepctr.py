"""DeepCTR on Keras: the files that its users have, and what is refused by name."""

import re

import h5py
import numpy as np
import pytest

import tensorflow_files as files
from dien.model import documents
from dien.model.model_directory import Scorer
from dien.sources import convert, keras_h5, weights
from dien.sources.source import ConversionError, Source
from support.dien_command import GOLDEN
from test_convert import command, converted

ATTENTION = "attention_sequence_pooling_layer/local_activation_unit"
KINDS = ("gru", "aigru", "agru", "augru")


def variables(kind):
    """The golden case's variables, in the order in which Keras lists them."""
    held = weights.read(str(GOLDEN / f"deepctr-{kind}" / "state_dict.safetensors"))
    return {name: np.asarray(array, np.float32) for name, array in held.items()}


def keras(path, tensors, whole=False, plain=False, pieces=1):
    """A file of Keras's: save_weights(), or save() if it is `whole`; `plain` leaves the layer out of a weight's name."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        layers = {}
        for name in tensors:
            layers.setdefault(name.split("/")[0], []).append(name)
        layers["flatten"] = []

        def put(attributes, key, names):
            names = [name.encode() for name in names]
            if pieces == 1:
                attributes[key] = np.array(names) if names else np.zeros(0, "S1")
            else:
                for place in range(pieces):
                    attributes[f"{key}{place}"] = np.array(names[place::pieces] or [b""][:0], "S200")

        put(root.attrs, "layer_names", list(layers))
        root.attrs["backend"] = b"tensorflow"
        for layer, names in layers.items():
            group = root.create_group(layer)
            shown = {name: f"{name.split('/', 1)[1] if plain else name}:0" for name in names}
            put(group.attrs, "weight_names", shown.values())
            for name in names:
                group[shown[name]] = tensors[name]
        if whole:
            file.attrs["model_config"] = b"{}"
            file.create_group("optimizer_weights")["training/Adam/iter:0"] = 3


def refusal(path):
    with pytest.raises(ConversionError) as error:
        weights.read(str(path))
    return str(error.value)


def refused(kind, message, change):
    with pytest.raises(ConversionError, match=message):
        converted(f"deepctr-{kind}", change=change)


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


# ---- files

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["weights.h5", "model.h5", "plain.h5", "pieces.h5", "weights.npz", "ckpt", "graph.pb"])
def test_each_form(tmp_path, kind, form):
    """One model in each file that can hold it. (Keras's files of AGRU and AUGRU lack a part: see below.)"""
    tensors, path = variables(kind), tmp_path / form
    if form.endswith(".h5"):
        keras(path, tensors, form == "model.h5", form == "plain.h5", 3 if form == "pieces.h5" else 1)
    elif form == "weights.npz":
        np.savez(path, **{f"{name}:0": array for name, array in tensors.items()})
    elif form == "ckpt":
        slots = {f"training/Adam/{name}/{slot}": np.zeros_like(array) for name, array in tensors.items() for slot in "mv"}
        files.checkpoint(path, {**tensors, **slots, "training/Adam/iter": np.array(3, np.int64)}, compress=True, shards=2)
    else:
        path.write_bytes(files.frozen(tensors))
    same(converted(f"deepctr-{kind}", file=path)[1], converted(f"deepctr-{kind}")[1])


@pytest.mark.parametrize("kind, form", [("gru", "weights.h5"), ("augru", "ckpt")])
def test_command(tmp_path, kind, form):
    case = f"deepctr-{kind}"
    if form == "ckpt":
        files.checkpoint(tmp_path / form, variables(kind))
    else:
        keras(tmp_path / form, variables(kind))
    run = command(case, "--samples", GOLDEN / case / "requests.json", "--output", tmp_path / "out", file=tmp_path / form)
    assert run.returncode == 0, run.stderr
    assert ("dropped dnn/kernel0: the auxiliary loss's net" in run.stdout) == (kind == "augru")


@pytest.mark.parametrize("kind", ["agru", "augru"])
@pytest.mark.parametrize("form", ["weights.h5", "weights.npz"])
def test_files_without_the_second_recurrence(tmp_path, kind, form):
    """As Keras writes AGRU and AUGRU: refused by name, with the way out."""
    tensors = {name: array for name, array in variables(kind).items() if not name.startswith("gru2")}
    if form == "weights.h5":
        keras(tmp_path / form, tensors)
    else:
        np.savez(tmp_path / form, **tensors)
    run = command(f"deepctr-{kind}", "--output", tmp_path / "out", file=tmp_path / form)
    assert run.returncode == 1 and not (tmp_path / "out").exists()
    for words in ("tensor gru2/gates/kernel is missing", "AGRU and AUGRU never hold them", "tf.train.Saver()", "--weights ckpt"):
        assert words in run.stderr


def test_without_h5py(tmp_path, monkeypatch):
    keras(tmp_path / "a.h5", variables("gru"))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    message = refusal(tmp_path / "a.h5")
    assert "apt-get install python3-h5py" in message and "numpy.savez" in message and str(tmp_path / "a.h5") in message


def test_damaged_files(tmp_path):
    """Cut anywhere, or with a byte changed: an error with the file's name, or a file that still reads."""
    keras(tmp_path / "a.h5", {name: array for name, array in variables("gru").items() if array.size < 400})
    content = (tmp_path / "a.h5").read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(8, len(content), 40):
        (tmp_path / "a.h5").write_bytes(content[:length])
        assert str(tmp_path / "a.h5") in refusal(tmp_path / "a.h5")
    for place in random.integers(8, len(content), 150):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            weights.read(str(tmp_path / "a.h5"))
        except ConversionError as error:
            assert str(tmp_path / "a.h5") in str(error) or "tensor" in str(error)


def test_other_hdf5_files(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["table"] = np.ones(3)
    assert "not as Keras writes it" in refusal(tmp_path / "data.h5")
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 1))
    message = refusal(tmp_path / "model.weights.h5")
    assert "a weights file of Keras 3" in message and "numpy.savez" in message
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        group = file.create_group("dense")
        group.attrs["weight_names"] = np.array([b"dense/kernel:0"])
        group.create_dataset("dense/kernel:0", (2**40, 4), "f4", chunks=(1024, 4))
    assert "tensor dense/kernel:0 has the shape" in refusal(tmp_path / "big.h5")


def test_names_that_are_there_twice(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"dense", b"dense"])
        group = file.create_group("dense")
        group.attrs["weight_names"] = np.array([b"dense/kernel:0"])
        group["dense/kernel:0"] = np.ones((2, 1), np.float32)
    assert "tensor dense/kernel:0 is there twice" in refusal(tmp_path / "a.h5")
    assert keras_h5.SIZE_MAX > 2**32  # tables of gigabytes are read


# ---- the network

@pytest.mark.parametrize("kind, path, value", [
    ("augru", ("interests", 0, "evolution", "cell"), "augru-and"), ("agru", ("interests", 0, "evolution", "cell"), "augru-or"),
    ("gru", ("interests", 0, "evolution", "cell"), "aigru"),
    ("aigru", ("interests", 0, "attention", "normalise"), "softmax"),
    ("gru", ("interests", 0, "attention", "inputs"), ["k", "q", "q-k", "q*k"]),
    ("augru", ("mlp", "inputs"), ["interest.interest", "user.user", "user.gender", "candidate.item_id", "candidate.cate_id",
                                  "user.pay_score"])], ids=lambda value: str(value)[:20])
def test_a_wrong_convention_shows(kind, path, value):
    config, tensors = converted(f"deepctr-{kind}")
    *steps, key = path
    place = config
    for step in steps:
        place = place[step]
    assert place[key] != value
    place[key] = value
    requests = documents.read(GOLDEN / f"deepctr-{kind}" / "requests.json")
    assert convert.largest_difference(Scorer(config, tensors), requests) > 1e-4


def test_epsilons_show():
    """Of Dice and of BatchNorm: a variance near zero tells 1e-9 from 1e-8 and 1e-3."""
    def small(_, tensors):
        for name in list(tensors):
            if name.endswith("/moving_variance"):
                tensors[name] = np.full_like(tensors[name], 1e-8)

    _, tensors = converted("deepctr-gru", change=small)
    assert np.allclose(tensors["interests.interest.attention.layers.0.gain"], 1 / np.sqrt(1.1e-8), rtol=1e-6)
    config, folded = converted("deepctr-aigru", change=small)
    held = variables("aigru")
    gain = held["dnn_1/batch_normalization/gamma"] / np.sqrt(1e-8 + 1e-3)
    assert np.allclose(folded["mlp.layers.0.weight"], (held["dnn_1/kernel0"] * gain).T, rtol=1e-5)
    assert config["metadata"]["batch_norm_folded"]["mlp.layers.0"] == ["after"]


def test_leaky_slopes_are_kerass():
    config, tensors = converted("deepctr-gru", change=lambda a, _: a.update(dnn_activation="LeakyReLU"))
    assert config["mlp"]["layers"][0]["activation"] == "prelu" and np.allclose(tensors["mlp.layers.0.alpha"], 0.3)


def test_layers_of_a_later_model_of_the_process():
    """Keras counts on: dnn_9 and dnn_10 are found by what they are, and sorted as numbers."""
    def later(_, tensors):
        for name in list(tensors):
            changed = re.sub(r"\b(dnn|dice|batch_normalization|dense|prediction_layer|attention_sequence_pooling_layer|"
                             r"local_activation_unit)(_(\d+))?(?=/)",
                             lambda found: f"{found[1]}_{int(found[3] or 0) + 9}", name)
            tensors[changed] = tensors.pop(name)

    for kind in KINDS:
        same(converted(f"deepctr-{kind}", change=later)[1], converted(f"deepctr-{kind}")[1])


def test_activations_without_the_scope_around_them():
    def bare(_, tensors):
        for name in [name for name in tensors if "/dice" in name]:
            tensors[name[name.index("dice"):]] = tensors.pop(name)

    same(converted("deepctr-gru", change=bare)[1], converted("deepctr-gru")[1])
    same(converted("deepctr-aigru", change=bare)[1], converted("deepctr-aigru")[1])


# ---- refused by name

def test_hashed_features():
    for value in (True, ["user"]):
        refused("gru", "use_hash: the server does not hash ids.*to_hash_bucket_fast", lambda a, _, value=value:
                a.update(use_hash=value))


@pytest.mark.parametrize("value", ["mean", {"tags": "mean"}, {"tags": {"combiner": "mean"}},
                                   {"tags": {"combiner": "last", "maxlen": 3}}, {"tags": {"combiner": "sum", "maxlen": 0}},
                                   {"tags": {"combiner": "sum", "maxlen": 3, "weight_name": "w"}}], ids=str)
def test_pooled_features_that_are_none(value):
    refused("gru", "pooled_features must be an object of", lambda a, _: a.update(pooled_features=value))


def test_features_that_are_not_named():
    refused("gru", "tensor sparse_seq_emb_tags/embeddings: its feature is neither in sparse_features nor a history",
            lambda _, tensors: tensors.update({"sparse_seq_emb_tags/embeddings": np.ones((9, 4), np.float32)}))
    refused("gru", "inputs are left for the dense features", lambda a, _: a.update(dense_features=[]))
    refused("gru", "history_feature_list: each of them must be one of sparse_features",
            lambda a, _: a.update(history_feature_list=["item_id", "brand"]))


@pytest.mark.parametrize("name, message", [
    (f"{ATTENTION}/dnn/dice/batch_normalization/moving_mean", "moving_mean is missing"),
    (f"{ATTENTION}/dnn/dice_1/dice_alpha", "dice_1/dice_alpha is missing"),
    (f"{ATTENTION}/kernel", "local_activation_unit/kernel is missing"),
    ("sparse_emb_user/embeddings", "tensor sparse_emb_user/embeddings is missing"),
    ("gru1/gru_cell/candidate/kernel", "tensor gru1/candidate/kernel is missing"),
    ("gru2/gru_cell/gates/kernel", "tensor gru2/gates/kernel is missing"), ("dense/kernel", "dense/kernel is missing"),
    ("prediction_layer/global_bias", "prediction_layer/global_bias is missing"), ("dnn_1/bias1", "tensor dnn_1/bias1 is missing"),
    ("dnn_1/kernel1", "tensor dnn_1/kernel1 is missing"), ("dnn_1/kernel0", "tensor dnn_1/kernel0 is missing")])
def test_variables_that_are_missing(name, message):
    assert name in variables("gru")
    refused("gru", message, lambda _, tensors: tensors.pop(name))


@pytest.mark.parametrize("change, message", [
    ({"task": "regression"}, "only binary"), ({"gru_type": "LSTM"}, "not one of GRU"),
    ({"att_activation": "gelu"}, "activation gelu has no equivalent"), ({"use_bn": True}, "0 of 2 layers"),
    ({"dnn_activation": "dice"}, "tensor dnn_1/dice/dice_alpha or dnn_1/dice_1/dice_alpha is missing"),
    ({"att_hidden_units": [64]}, "the tensors have"),
    ({"transform_fn": "log"}, "transform_fn is not understood"), ({"max_length": 0}, "max_length must be")])
def test_architecture_files_that_do_not_fit(change, message):
    refused("gru", message, lambda a, _: a.update(change))


def test_a_dice_that_lost_its_statistics():
    """As DeepCTR before 0.8.7 saved it."""
    def lose(_, tensors):
        for name in [name for name in tensors if "/dice/batch_normalization" in name]:
            del tensors[name]

    refused("gru", "0 BatchNormalizations beside it where one was expected. Before 0.8.7", lose)


def test_a_prelu_of_each_step():
    """PReLU as the attention's activation has slopes for each step of the padded history."""
    def stepwise(a, tensors):
        a["att_activation"] = "PReLU"
        at = f"{ATTENTION}/dnn"
        for name in [name for name in tensors if "/dice" in name]:
            del tensors[name]
        tensors[f"{at}/p_re_lu/alpha"] = np.ones((50, 64), np.float32)
        tensors[f"{at}/p_re_lu_1/alpha"] = np.ones((50, 16), np.float32)

    refused("gru", r"p_re_lu/alpha has shape \[50, 64\]", stepwise)


def test_the_other_deepctr():
    with pytest.raises(ConversionError, match="these are DeepCTR's tensors: convert them with --from deepctr$"):
        convert.convert("deepctr-torch", {}, Source(variables("gru")))
