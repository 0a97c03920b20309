"""model/demo: what is committed is what the training tools made, small, and its source is named."""

import json

import numpy as np
import pytest

from dien.model import model_directory
from support.dien_command import TOP


@pytest.fixture(scope="module")
def demo():
    return TOP / "model" / "demo"


def test_samples(demo):
    scorer = model_directory.load(demo)
    samples = model_directory.read_samples(demo)
    largest = max(float(np.abs(scorer.score(sample) - sample["scores"]).max()) for sample in samples)
    print(f"largest difference: {largest:.3g}")
    assert largest < 1e-9 and len(samples) >= 16


def test_size_and_source(demo):
    assert sum(path.stat().st_size for path in demo.iterdir()) < 1_000_000
    metadata = model_directory.read_config(demo)["metadata"]
    for words in ("10.24432/C5QK7X", "CC BY 4.0", "Lapczynski", "Changed:"):
        assert words in metadata["attribution"]
        assert words in " ".join((demo / "README.md").read_text().split())
    assert metadata["labels"]["category"]["1"] == "trousers"
    assert metadata["training"]["variant"] == "dien"


def test_results_in_the_readme(demo):
    """The README's numbers are those that the evaluation wrote into the model."""
    readme = (demo / "README.md").read_text()
    for name, aucs in model_directory.read_config(demo)["metadata"]["auc_test"].items():
        cells = [f"{value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high in aucs.values()]
        assert f"| {name} | {' | '.join(cells)} |" in readme


def test_session(demo):
    """The request of `make demo`: every item known, every candidate scored, in rank order worth showing."""
    scorer = model_directory.load(demo)
    session = json.loads((demo / "session.json").read_text())
    field = scorer.config["fields"][0]
    items = session["history"]["item"] + session["candidates"]["item"]
    assert all(scorer.wire.row(field, item) != field["unknown_row"] for item in items)
    scores, attention = scorer.explain(session)
    assert len(set(scores.tolist())) == len(scores) == 15 and scores.max() - scores.min() > 0.3
    assert attention["clicks"].shape == (15, len(session["history"]["item"]))
