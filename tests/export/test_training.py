"""From a clickstream to a model directory, on a small synthetic shop: read, train, resume, freeze, verify."""

import csv
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from dien.data import clickstream
from dien.data.examples import Negatives, batches, examples_of
from dien.model import model_directory
from dien.training import checkpoint
from dien.training import evaluate
from dien.training import freeze
from dien.training.auxiliary import InnerProduct, Net, auxiliary_loss
from dien.training.baselines import Markov, Popularity
from dien.training.metrics import auc, bootstrap, interval
from dien.training.recipe import Shape
from dien.training.train import Options, Trainer
from support.dien_command import PACKAGE

ITEMS = [f"{letter}{number}" for letter in "ABC" for number in range(1, 7)]
HEADER = ["year", "month", "day", "order", "country", "session ID", "page 1 (main category)", "page 2 (clothing model)",
          "colour", "location", "model photography", "price", "price 2", "page"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """200 sessions in which the next click is mostly the next item of the catalogue."""
    random, rows = np.random.default_rng(0), []
    for session in range(1, 201):
        item = int(random.integers(len(ITEMS)))
        for order in range(1, 2 + int(random.integers(1, 9))):
            code = ITEMS[item]
            rows.append([2008, 4 + session // 50, 1, order, 1 + session % 40, session, "ABC".index(code[0]) + 1, code,
                         1 + item % 14, 1 + item % 6, 1 + item % 2, 20 + 3 * item, 1, 1 + item % 5])
            item = (item + 1) % len(ITEMS) if random.random() < 0.8 else int(random.integers(len(ITEMS)))
    random.shuffle(rows)  # a reader must not trust the file's order
    path = tmp_path_factory.mktemp("data") / "clicks.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file, delimiter=";").writerows([HEADER, *rows])
    return path


@pytest.fixture(scope="module")
def shop(data):
    return clickstream.read(str(data))


def small(**changes):
    return Options(**{"epochs": 3, "batch": 32, "rate": 0.01, **changes})


@pytest.fixture(scope="module")
def trained(shop):
    catalogue, sessions = shop
    trainer = Trainer(small(epochs=6), Shape(hidden=(16,)), catalogue, clickstream.split(sessions))
    while not trainer.done():
        trainer.train_epoch()
    return trainer.state()


def test_reading(shop):
    catalogue, sessions = shop
    assert catalogue.codes == ITEMS and len(sessions) == 200 and sessions.offsets[-1] == len(sessions.clicks)
    assert catalogue.attributes["category"].tolist() == [0] + [1] * 6 + [2] * 6 + [3] * 6
    assert catalogue.attributes["price_band"].tolist() == sorted(catalogue.attributes["price_band"])
    assert set(catalogue.attributes["price_band"]) == {0, 1, 2, 3, 4, 5}
    follows = np.diff(sessions.clicks) % len(ITEMS) == 1
    assert follows.mean() > 0.6  # in order again
    assert sessions.country.tolist() == [1 + session % 40 for session in range(1, 201)]


def test_split_is_by_time(shop):
    parts = clickstream.split(shop[1])
    assert [len(part) for part in (parts.train, parts.validation, parts.test, parts.known)] == [140, 20, 40, 160]
    joined = np.concatenate([parts.train.clicks, parts.validation.clicks, parts.test.clicks])
    assert np.array_equal(joined, shop[1].clicks)


def test_examples(shop):
    sessions = clickstream.Sessions(np.array([5, 6, 7, 8, 3, 9, 4]), np.array([0, 4, 5, 7]), np.array([1, 2, 3]),
                                    np.array([4, 5, 6]))
    examples = examples_of(sessions, 2)
    assert examples.history.tolist() == [[5, 0], [5, 6], [6, 7], [9, 0]]
    assert examples.target.tolist() == [6, 7, 8, 4] and examples.length.tolist() == [1, 2, 2, 1]
    assert examples.session.tolist() == [0, 0, 0, 2] and examples.single["country"].tolist() == [1, 1, 1, 3]
    drawn = list(batches(examples, 2, np.random.default_rng(0)))
    assert sorted(np.concatenate(drawn).tolist()) == [0, 1, 2, 3]
    assert all(len(set(examples.length[index])) == 1 for index in drawn)


def test_negatives(shop):
    catalogue, sessions = shop
    negatives, random = Negatives(sessions, len(ITEMS)), np.random.default_rng(0)
    positive = np.full(40_000, 3)
    share = np.bincount(sessions.clicks, minlength=19)[1:] / len(sessions.clicks)
    for kind, expected in (("uniform", np.full(18, 1 / 18)), ("popularity", share)):
        drawn = negatives.draw(kind, positive, 2, random)
        assert drawn.shape == (40_000, 2) and drawn.min() == 1 and drawn.max() == 18 and not (drawn == 3).any()
        expected = np.where(np.arange(1, 19) == 3, 0, expected)
        measured = np.bincount(drawn.ravel(), minlength=19)[1:] / drawn.size
        assert np.allclose(measured, expected / expected.sum(), atol=0.005)


def test_auc():
    """Against the definition, with ties."""
    random = np.random.default_rng(0)
    positive, negative = random.integers(0, 20, 60) / 20, random.integers(0, 15, (60, 3)) / 20
    pairs = positive[:, None] - negative.ravel()
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert abs(auc(positive, negative) - expected) < 1e-12
    session = np.repeat(np.arange(20), 3)
    result = interval(expected, replicates := bootstrap(positive, negative, session))
    assert result.value == expected and result.low < expected < result.high
    assert result.high - result.low < 0.3
    assert np.array_equal(replicates, bootstrap(positive, negative, session))  # paired with another model's


def test_baselines():
    sessions = clickstream.Sessions(np.array([1, 2, 1, 3, 2, 2]), np.array([0, 4, 6]), np.array([1, 1]),
                                    np.array([4, 4]))
    examples = examples_of(sessions, 5)
    candidates = np.tile([1, 2, 3], (len(examples), 1))
    assert np.allclose(Popularity(sessions, 3).score(examples, candidates)[0], [2 / 6, 3 / 6, 1 / 6])
    chain = Markov(sessions, 3, back_off=1.0)  # 1 to 2, 2 to 1, 1 to 3, 2 to 2; not across the sessions
    assert np.allclose(chain.score(examples, candidates)[0], np.array([0 + 2 / 6, 1 + 3 / 6, 1 + 1 / 6]) / 3)
    lifted = Markov(sessions, 3, 1.0, lift=True)
    expected = np.array([2 / 6, 9 / 6, 7 / 6]) / 3 / np.array([2 / 6, 3 / 6, 1 / 6])
    assert np.allclose(lifted.score(examples, candidates)[0], expected)


def test_auxiliary_loss():
    """The inner product's form by hand; the net's form learns what the inner product cannot start with."""
    states = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    following, negative = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]]), torch.tensor([[[-1.0, 0.0], [0.0, 0.5]]])
    positives, negatives = np.array([1.0, 2.0]), np.array([-1.0, 1.0])
    expected = -np.mean(np.log(1 / (1 + np.exp(-positives))) + np.log(1 - 1 / (1 + np.exp(-negatives))))
    assert abs(float(auxiliary_loss(InnerProduct(), states, following, negative)) - expected) < 1e-6
    net = Net(4, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss = auxiliary_loss(net, states, following, negative)
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.1


def test_it_learns_the_shop(shop, trained):
    """It ranks the next click above the negatives, as the chain does."""
    catalogue, sessions = shop
    results = evaluate.evaluate(catalogue, clickstream.split(sessions), {"DIEN": trained})
    aucs, lead = results["auc"], results["lead"]["popularity"]["uniform"]
    assert aucs["DIEN"]["uniform"].value > 0.75 > aucs["popularity"]["uniform"].value
    assert abs(lead.value - (aucs["DIEN"]["uniform"].value - aucs["popularity"]["uniform"].value)) < 1e-12
    assert lead.low > 0 and "DIEN" not in results["lead"]
    assert evaluate.table("AUC", aucs).count("\n") == 1 + len(aucs)


@pytest.mark.parametrize("changes, shape", [({"auxiliary": "mlp"}, {}), ({"auxiliary": "none"}, {"activation": "dice"}),
                                            ({"variant": "gru"}, {}), ({"variant": "din", "auxiliary": "none"}, {})])
def test_every_variant_trains(shop, changes, shape):
    catalogue, sessions = shop
    trainer = Trainer(small(**changes), Shape(hidden=(8,), **shape), catalogue, clickstream.split(sessions))
    losses = [trainer.train_epoch()["loss"] for _ in range(3)]
    assert losses[2] < losses[0]


def weights_of(path):
    return {name: tensor.numpy() for name, tensor in checkpoint.load(path)["network"].items()}


def test_resume_is_the_same_run(data, dien, tmp_path):
    """Three epochs at once, and two then one more: the same weights to the bit. Through the command line."""
    def train(path, *more):
        return dien("train", "--data", data, "--checkpoint", path, "--batch", "32", "--hidden", "8",
                    "--activation", "dice", *more)

    assert train(tmp_path / "whole.pt", "--epochs", "3").returncode == 0
    catalogue, sessions = clickstream.read(str(data))
    parts = clickstream.split(sessions)
    options, shape = Options(epochs=3, batch=32), Shape("dice", (8,))
    first = Trainer(options, shape, catalogue, parts)
    first.train_epoch()
    first.train_epoch()
    checkpoint.save(first.state(), str(tmp_path / "parts.pt"))
    run = train(tmp_path / "parts.pt", "--epochs", "3", "--resume")
    assert run.returncode == 0 and "epoch 3" in run.stdout and "epoch 2 " not in run.stdout
    whole, resumed = weights_of(tmp_path / "whole.pt"), weights_of(tmp_path / "parts.pt")
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    more = train(tmp_path / "parts.pt", "--epochs", "4", "--patience", "9", "--resume")
    assert more.returncode == 0 and "epoch 4" in more.stdout
    other = train(tmp_path / "parts.pt", "--epochs", "3", "--resume", "--alpha", "0.5")
    assert other.returncode != 0 and "made with other options" in other.stderr


# Of PyTorch 2.6 and later: torch.load() refuses whatever is neither a tensor nor a plain value.
LATER_DEFAULT = """
import torch

_load = torch.load


def load(*arguments, weights_only=True, **options):
    return _load(*arguments, weights_only=weights_only, **options)


torch.load = load
"""


def test_under_the_default_of_later_pytorch(data, tmp_path):
    """Each command that reads a checkpoint: one with an optimiser's state, losses and counts."""
    (tmp_path / "sitecustomize.py").write_text(LATER_DEFAULT)

    def python(*words):
        ran = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE}", "OMP_NUM_THREADS": "1"})
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    refused = python("-c", "import pathlib, torch; torch.save(pathlib.Path('x'), 'a.pt')\ntry: torch.load('a.pt')\n"
                           "except Exception as error: print(type(error).__name__)")
    assert refused == "UnpicklingError\n"  # so the commands below do run under that default
    small = ("--batch", "32", "--hidden", "8")
    python("-m", "dien", "train", "--data", data, "--checkpoint", "a.pt", "--epochs", "1", *small)
    resumed = python("-m", "dien", "train", "--data", data, "--checkpoint", "a.pt", "--epochs", "2", "--resume", *small)
    assert "epoch 2" in resumed and "epoch 1 " not in resumed
    python("-m", "dien", "evaluate", "--data", data, "--output", "results.json", "a.pt")
    python("-m", "dien", "freeze", "--checkpoint", "a.pt", "--results", "results.json", "--output", "model")
    assert (tmp_path / "model" / "samples.json").exists() and json.loads((tmp_path / "results.json").read_text())
    ablate = ("-m", "dien", "ablate", "--data", data, "--directory", "runs", "--only", "DIN: attention, no GRU", *small)
    python(*ablate, "--epochs", "1")
    assert "epoch 2" in python(*ablate, "--epochs", "2")  # from the checkpoint that the first run left


@pytest.fixture(scope="module")
def frozen(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("frozen")
    freeze.freeze(trained, str(output), "7")
    return output


def test_freeze(trained, frozen):
    """The directory scores as the checkpoint does, and names its source; the samples are not sessions."""
    scorer, network = model_directory.load(frozen), evaluate.network_of(trained)
    assert scorer.config["version"] == "7" and "CC BY 4.0" in scorer.config["metadata"]["attribution"]
    for sample in model_directory.read_samples(frozen):
        scores = scorer.score(sample)
        assert np.array_equal(scores, sample["scores"])
        network.eval()
        with torch.no_grad():
            live = torch.sigmoid(network(scorer.wire.batch(sample))[0])[0].numpy()
        assert np.abs(live - scores).max() < 1e-5


def test_rows_never_seen_are_the_unknown_row(frozen):
    scorer = model_directory.load(frozen)
    table = scorer.network.weight("tables.month").detach().numpy()
    assert all(np.array_equal(table[month], table[0]) for month in (1, 2, 3, 7, 8, 12))
    assert all(not np.array_equal(table[month], table[0]) for month in (4, 5, 6))


def test_freeze_refuses_the_ablation(trained, tmp_path):
    with pytest.raises(ValueError, match="not DIEN"):
        freeze.freeze({**trained, "options": {**trained["options"], "variant": "gru"}}, str(tmp_path / "out"), "1")


class ReferenceServer(http.server.BaseHTTPRequestHandler):
    """POST /score answered by the training code in float64, plus `error`, in rank order."""

    scorer = None
    error = 0.0

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = self.scorer.score(request) + self.error
        order = np.argsort(-scores, kind="stable")
        body = json.dumps({"results": [{"index": int(i), "score": scores[i]} for i in order]}).encode()
        self.send_response(200 if self.path == "/score" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("error, status", [(0.0, 0), (2e-5, 1)])
def test_verify(frozen, dien, error, status):
    handler = type("Handler", (ReferenceServer,), {"scorer": model_directory.load(frozen), "error": error})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            run = dien("verify", "--model", frozen, "--requests", "10", "--url", f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()
    assert run.returncode == status, run.stderr
    assert "largest difference" in run.stdout


def test_verify_without_a_server(frozen, dien):
    run = dien("verify", "--model", frozen, "--url", "http://127.0.0.1:1")
    assert run.returncode == 1 and "refused" in run.stderr
