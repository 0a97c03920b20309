"""model/export/model_directory.py: what is saved loads to the same scores; what is wrong is named."""

import json

import numpy as np
import pytest

import random_model
from dien.model import model_directory
from dien.model.safetensors import BF16


@pytest.fixture(scope="module")
def parts():
    return random_model.make(4)


def test_round_trip(parts, tmp_path):
    config, tensors, requests = parts
    saved = model_directory.save(tmp_path, config, tensors, requests)
    loaded = model_directory.load(tmp_path)
    samples = model_directory.read_samples(tmp_path)
    assert len(samples) == len(requests)
    for sample, request in zip(samples, requests):
        assert sample["scores"] == saved.score(request).tolist() == loaded.score(sample).tolist()
    assert json.loads((tmp_path / "config.json").read_text()) == config


def test_tables_of_narrow_types(parts):
    """I8, BF16 and F16 tables count as the numbers they stand for."""
    stored = {"tables.a": np.array([[1, -2], [127, 0]], np.int8), "tables.a.scale": np.array([0.5, 0.01], np.float32)}
    plain = model_directory.dequantise(stored)
    assert plain["tables.a"].tolist() == [[0.5, -1.0], [127 * float(np.float32(0.01)), 0.0]] and len(plain) == 1
    with pytest.raises(ValueError, match="tensor tables.a.scale is missing"):
        model_directory.dequantise({"tables.a": stored["tables.a"]})
    config, tensors, requests = parts
    halves = {name: tensor for name, tensor in tensors.items() if not name.endswith(".scale")}
    wide = dict(halves)
    for name, table in config["tables"].items():
        values = np.random.default_rng(0).normal(size=(table["rows"], table["width"])).astype(np.float32)
        halves[f"tables.{name}"] = BF16.rounded(values)
        wide[f"tables.{name}"] = halves[f"tables.{name}"].widened()
    for request in requests:
        assert np.array_equal(model_directory.Scorer(config, halves).score(request),
                              model_directory.Scorer(config, wide).score(request))


def test_tensor_names(parts):
    config, tensors, _ = parts
    with pytest.raises(ValueError, match="tensor mlp.layers.9.weight is none of this model's"):
        model_directory.Scorer(config, {**tensors, "mlp.layers.9.weight": np.zeros((1, 1), np.float32)})
    name = next(name for name in tensors if name.startswith("attributes."))
    with pytest.raises(ValueError, match=f"tensor {name} is missing"):
        model_directory.Scorer(config, {key: value for key, value in tensors.items() if key != name})


def test_samples_must_agree(parts, tmp_path):
    config, tensors, requests = parts
    scores = model_directory.Scorer(config, tensors).score(requests[1])
    tolerance = model_directory.SAMPLES_TOLERANCE
    close, far = (scores + 0.5 * tolerance).tolist(), (scores + 1.5 * tolerance).tolist()
    model_directory.save(tmp_path / "close", config, tensors, [{**requests[1], "scores": close}])
    assert model_directory.read_samples(tmp_path / "close")[0]["scores"] == close
    with pytest.raises(ValueError, match="sample 0: the network's score differs"):
        model_directory.save(tmp_path / "far", config, tensors, [{**requests[1], "scores": far}])
    with pytest.raises(ValueError, match=f"sample 0: {len(scores) + 1} scores for"):
        model_directory.save(tmp_path / "many", config, tensors, [{**requests[1], "scores": [*close, 0.5]}])
    with pytest.raises(ValueError, match="one sample or more"):
        model_directory.save(tmp_path / "none", config, tensors, [])
