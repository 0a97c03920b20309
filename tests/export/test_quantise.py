"""Tables in fewer bits: how far rounding may move them, and samples that are honest about it."""

import json

import numpy as np
import pytest

from dien.model import documents
from dien.model import quantise
from dien.model.model_directory import dequantise, load, read_samples
from dien.model.safetensors import read_stored
from dien.sources import convert
from test_convert import GOLDEN, command

CASE = "deepctr-torch-agru"


def test_i8_is_within_half_a_step_of_each_row():
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * np.logspace(-6, 6, 50, dtype=np.float32)[:, None]
    values[3] = 0
    stored = quantise.tables({"tables.a": values, "mlp.x": values}, "i8")
    assert stored["tables.a"].dtype == np.int8 and stored["mlp.x"] is values
    back = dequantise(stored)["tables.a"]
    step = np.abs(values).max(axis=1, keepdims=True) / 127
    assert (np.abs(back - values) <= step * 0.5001).all()
    assert not back[3].any()


def test_f16_refuses_what_it_cannot_hold():
    tables = {"tables.a": np.array([[1.0, 70000.0]], np.float32)}
    with pytest.raises(ValueError, match="tables.a has values beyond what F16"):
        quantise.tables(tables, "f16")
    assert quantise.tables(tables, "bf16")["tables.a"].widened()[0, 1] == pytest.approx(70000, rel=2**-8)


@pytest.mark.parametrize("kind, dtype", [("f16", np.float16), ("bf16", np.uint16), ("i8", np.int8)])
def test_samples_have_the_scores_of_the_rounded_tables(tmp_path, kind, dtype):
    requests = GOLDEN / CASE / "requests.json"
    run = command(CASE, "--samples", requests, "--tables", kind, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert f"note: tables as {kind} change the scores by up to" in run.stdout
    tables = [tensor for name, tensor in read_stored(tmp_path / "out" / "model.safetensors").items()
              if name.startswith("tables.") and not name.endswith(".scale")]
    assert tables and all(getattr(tensor, "bits", tensor).dtype == dtype for tensor in tables)
    scorer = load(tmp_path / "out")
    assert convert.largest_difference(scorer, read_samples(tmp_path / "out")) == 0
    moved = convert.largest_difference(scorer, documents.read(requests))
    assert 1e-7 < moved < 0.02
    assert f"by up to {moved:.3g}" in run.stdout


def test_rounding_hides_no_disagreement(tmp_path):
    """The framework's scores are compared before the tables are rounded."""
    requests = documents.read(GOLDEN / CASE / "requests.json")
    requests[2]["scores"][0] += 5e-5
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run = command(CASE, "--samples", tmp_path / "requests.json", "--tables", "i8", "--output", tmp_path / "out")
    assert run.returncode == 1 and "sample 2: the network's score differs by 5e-05" in run.stderr
    assert not (tmp_path / "out").exists()
