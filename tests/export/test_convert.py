"""model/export/convert.py: the authors' checkpoint keeps its scores; whatever is missing or left over is named."""

import json
import subprocess
import sys

import numpy as np
import pytest

import convert
import safetensors
from frameworks.fold import batch_norm_before, tf1_cell
from frameworks.source import ConversionError, Source
from model_directory import Scorer, load, read_samples


@pytest.fixture(scope="module")
def tensors(tf1_case):
    return dict(safetensors.read(tf1_case / "state_dict.safetensors"))


@pytest.fixture(scope="module")
def architecture(tf1_case):
    return convert.read_json(tf1_case / "architecture.json")


def test_golden(tf1_case, tools, tmp_path):
    """Through the command line: the framework's 221 float64 scores within 1e-6, and they become the samples."""
    run = subprocess.run([sys.executable, tools / "convert.py", "--from", "reference-tf1",
                          "--architecture", tf1_case / "architecture.json", "--weights", tf1_case / "state_dict.safetensors",
                          "--samples", tf1_case / "requests.json", "--output", tmp_path / "out"],
                         capture_output=True, text=True, check=True)
    assert "over 221 scores" in run.stdout and "dropped f1gru/kernel: the auxiliary loss's net" in run.stdout
    requests, scorer = convert.read_json(tf1_case / "requests.json"), load(tmp_path / "out")
    assert [sample["scores"] for sample in read_samples(tmp_path / "out")] == [each["scores"] for each in requests]
    largest = convert.largest_difference(scorer, requests)
    print(f"largest difference from the framework: {largest:.3g}")
    assert largest < 1e-6


@pytest.mark.parametrize("change", [("interests", 0, "evolution", "cell", "augru-and"),
                                    ("interests", 0, "evolution", "reset", "after"),
                                    ("interests", 0, "attention", "inputs", ["k", "q", "q-k", "q*k"]),
                                    ("output", "positive", 1)])
def test_a_wrong_convention_shows(architecture, tensors, tf1_case, change):
    """The golden scores tell each convention from its neighbour."""
    config, converted = convert.convert("reference-tf1", architecture, Source(tensors))
    *path, key, value = change
    place = config
    for step in path:
        place = place[step]
    place[key] = value
    if value == "after":
        converted["interests.interest.evolution.bias_hidden"] = np.zeros(architecture["HIDDEN_SIZE"], np.float32)
    requests = convert.read_json(tf1_case / "requests.json")
    assert convert.largest_difference(Scorer(config, converted), requests) > 1e-3


@pytest.mark.parametrize("name", ["mid_embedding_var", "gru1/gru_cell/gates/bias", "f1/kernel", "bn1/moving_variance",
                                  "f2_att1_1/kernel", "prelu2/prelu_prelu2"])
def test_missing(architecture, tensors, name):
    left = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(ConversionError, match=f"tensor {name} is missing"):
        convert.convert("reference-tf1", architecture, Source(left))


def test_left_over(architecture, tensors):
    with pytest.raises(ConversionError, match="no use for tensor f4/kernel"):
        convert.convert("reference-tf1", architecture, Source({**tensors, "f4/kernel": np.zeros((2, 2), np.float32)}))


def test_misshapen(architecture, tensors):
    with pytest.raises(ConversionError, match=r"tensor f2/kernel has shape \[80, 200\], not \[200, 80\]"):
        convert.convert("reference-tf1", architecture, Source({**tensors, "f2/kernel": tensors["f2/kernel"].T}))


def test_not_finite(architecture, tensors):
    broken = {**tensors, "f3/bias": np.array([np.nan, 0], np.float32)}
    with pytest.raises(ConversionError, match="tensor mlp.layers.2.bias is not finite"):
        convert.convert("reference-tf1", architecture, Source(broken))


def test_optimiser_slots_are_dropped(architecture, tensors):
    slots = {"f1/kernel/Adam": np.zeros(1), "f1/kernel/Adam_1": np.zeros(1), "Metrics/beta1_power": np.zeros(())}
    source = Source({**tensors, **slots})
    convert.convert("reference-tf1", architecture, source)
    assert {name: source.dropped[name] for name in slots} == dict.fromkeys(slots, "the optimiser's")


def test_cell_names_of_other_versions(architecture, tensors):
    """The second cell's own name may be part of its variables."""
    renamed = {name.replace("gru2/", "gru2/vec_att_gru_cell/"): tensor for name, tensor in tensors.items()}
    expected = convert.convert("reference-tf1", architecture, Source(tensors))[1]
    for name, tensor in convert.convert("reference-tf1", architecture, Source(renamed))[1].items():
        assert np.array_equal(tensor, expected[name])


def test_dice_of_the_batch_is_refused(architecture, tensors):
    with pytest.raises(ConversionError, match="nothing to freeze"):
        convert.convert("reference-tf1", {**architecture, "use_dice": True}, Source(tensors))
    with pytest.raises(ConversionError, match="nothing to freeze"):
        convert.convert("reference-tf1", architecture, Source({**tensors, "dice_1/alphadice_1": np.zeros(200)}))


def test_scores_that_disagree_stop_the_conversion(tf1_case, tools, tmp_path):
    requests = convert.read_json(tf1_case / "requests.json")
    requests[3]["scores"][0] += 1e-4
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run = subprocess.run([sys.executable, tools / "convert.py", "--from", "reference-tf1",
                          "--architecture", tf1_case / "architecture.json", "--weights", tf1_case / "state_dict.safetensors",
                          "--samples", tmp_path / "requests.json", "--output", tmp_path / "out"],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "sample 3: the network's score differs by 0.0001" in run.stderr
    assert not (tmp_path / "out").exists()


def test_fold_of_batch_norm():
    random = np.random.default_rng(0)
    weight, bias, x = random.normal(size=(4, 6)), random.normal(size=4), random.normal(size=6)
    gamma, beta, mean, variance = random.normal(size=6), random.normal(size=6), random.normal(size=6), random.random(6)
    folded, folded_bias = batch_norm_before(weight, bias, gamma, beta, mean, variance, 1e-3)
    expected = weight @ (gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta) + bias
    assert np.allclose(folded @ x + folded_bias, expected, rtol=0, atol=1e-12)


def test_tf1_cell():
    """One step of TensorFlow's cell and of ours."""
    random = np.random.default_rng(1)
    inputs, units = 5, 3
    gates, gates_bias = random.normal(size=(8, 6)), random.normal(size=6)
    kernel, kernel_bias = random.normal(size=(8, 3)), random.normal(size=3)
    x, h = random.normal(size=5), random.normal(size=3)

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    r, u = np.split(sigmoid(np.concatenate([x, h]) @ gates + gates_bias), 2)
    expected = u * h + (1 - u) * np.tanh(np.concatenate([x, r * h]) @ kernel + kernel_bias)
    cell = tf1_cell(gates, gates_bias, kernel, kernel_bias, inputs)
    w, b = cell["weight_input"] @ x + cell["bias"], cell["weight_hidden"]
    reset, write = sigmoid(w[:units] + b[:units] @ h), sigmoid(w[units:2 * units] + b[units:2 * units] @ h)
    candidate = np.tanh(w[2 * units:] + b[2 * units:] @ (reset * h))
    assert np.allclose(h + write * (candidate - h), expected, rtol=0, atol=1e-14)
