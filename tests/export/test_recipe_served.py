"""From a file to a ranked answer: each kind of data by one recipe of under 40 lines, through the real server."""

import numpy as np
import pytest

import shops
from dien.model import model_directory
from support import service

pytestmark = pytest.mark.only_on("release")  # the model's file is new here, the server's code is not

QUICK = """
[network]
hidden = [16]
[training]
epochs = 8
batch = 64
rate = 0.01
"""


def train(dien, folder, text):
    """Train a recipe, and return the model directory."""
    page = shops.recipe(folder, text)
    run = dien("train", page, "--checkpoint", folder / "model.pt", "--output", folder / "model")
    assert run.returncode == 0, run.stderr
    return folder / "model"


def ranked(build, model, requests):
    """The server's results of each request, after it agreed with PyTorch on all of them and on the samples."""
    scorer = model_directory.load(model)
    answers = []
    with service.Service(build, model) as running:
        for request in [*requests, *({key: value for key, value in sample.items() if key != "scores"}
                                     for sample in model_directory.read_samples(model))]:
            reply = running.score(request)
            scores = np.array([score for _, score in sorted(reply.scores().items())])
            assert np.abs(scores - scorer.score(request)).max() < 1e-5
            answers.append(reply.json()["results"])
    return answers[:len(requests)]


def test_clicks_of_a_csv(build, dien, tmp_path):
    """The item that follows is ranked first."""
    shops.write_csv(tmp_path / "clicks.csv", ["user", "item", "time", "category", "country"],
                    [[f"u{user}", f"item-{item}", time, item % 5, ["DE", "PL"][user % 2]]
                     for user, item, time in shops.clicks()])
    model = train(dien, tmp_path, """
        name = "shop"
        [data]
        files = "clicks.csv"
        user = "user"
        time = "time"
        [item.attributes]
        category = {kind = "integer"}
        [user]
        country = {}
        """.replace("        ", "") + QUICK)
    results = ranked(build, model, [{"user": {"country": "DE"}, "history": {"item": ["item-3", "item-4"]},
                                     "candidates": {"item": ["item-20", "item-5", "item-12", "never seen"]}}])
    assert results[0][0]["index"] == 1
