"""Training by a recipe: resume, Ctrl-C, warm start, the kinds of negatives, the report's measures."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import shops
from dien.data import events, recipe
from dien.model import model_directory
from dien.training import checkpoint, export, measures
from dien.training.fit import Fit, scores_of
from support.dien_command import PACKAGE, run_dien

TEXT = """name = "shop"
[data]
files = "clicks.csv"
user = "user"
time = "time"
[item.attributes]
group = {kind = "integer"}
tags = {kind = "multi"}
price = {kind = "dense"}
"""
SMALL = """[network]
hidden = [8]
[training]
batch = 32
rate = 0.01
patience = 99
epochs = 3
"""


def rows_of(seed=0, items=shops.ITEMS, **options):
    return [[f"u{user}", f"i{item}", when, item % 4, f"t{item % 3}|t{item % 5}", 1.5 * (item % 6)]
            for user, item, when in shops.clicks(seed, items=items, **options)]


def write(folder, rows, name="clicks.csv"):
    return shops.write_csv(folder / name, ["user", "item", "time", "group", "tags", "price"], rows)


def fit_of(folder, text, state=None):
    return Fit(events.read(recipe.parse(str(folder / "r.toml"), text), state))


@pytest.mark.parametrize("more", [
    "[negatives]\nkind = \"uniform\"\ncount = 3\n", "[negatives]\nkind = \"in-batch\"\nlogq = true\n",
    "[negatives]\nkind = \"popularity\"\nlogq = true\n"])
def test_every_kind_of_negatives_trains(tmp_path, more):
    write(tmp_path, rows_of())
    fit = fit_of(tmp_path, TEXT + SMALL + more)
    losses = [fit.train_epoch()["loss"] for _ in range(3)]
    assert losses[2] < losses[0]


@pytest.mark.parametrize("network, training", [
    ("attention = \"mlp\"\nattention_hidden = [6]\nunits = 7", "auxiliary = \"mlp\""),
    ("attention = \"dot\"\ncell = \"gru+pooling\"", ""), ("cell = \"gru\"\npooled = false", "auxiliary = \"none\""),
    ("cell = \"agru\"\nreset = \"before\"\nactivation = \"dice\"", "")],
    ids=range(4))
def test_every_network_trains_and_freezes(tmp_path, network, training):
    write(tmp_path, rows_of(users=60))
    fit = fit_of(tmp_path, TEXT + SMALL.replace("[network]\n", f"[network]\n{network}\n") + training + "\n")
    fit.train_epoch()
    checkpoint.save(fit.state(), str(tmp_path / "m.pt"))
    export.freeze(checkpoint.load(str(tmp_path / "m.pt")), str(tmp_path / "model"))
    assert model_directory.load(tmp_path / "model").config["interests"][0]["evolution"]["cell"] in network + "augru-and"


def test_what_is_served_is_what_was_trained(tmp_path):
    """Scales folded, sets as numbers, attributes in their tensors: the frozen scores are those of training's own batches."""
    write(tmp_path, rows_of())
    fit = fit_of(tmp_path, TEXT + SMALL)
    fit.train_epoch()
    export.freeze(fit.state(), str(tmp_path / "model"))
    scorer, sequences = model_directory.load(tmp_path / "model"), fit.sequences
    names = fit.dataset.values["item"].ids.ids
    places = fit.parts["test"][:20]
    expected = scores_of(fit.network, sequences, places, np.tile(np.arange(1, 9), (20, 1)))
    for place, scores, history in zip(places, expected, sequences.histories(places)[0].places):
        length = int(sequences.lengths(np.array([place]))[0])
        request = {"history": {"item": [names[row - 1] for row in sequences.events.item[history[:length]]]},
                   "candidates": {"item": names[:8]}}
        assert np.abs(scorer.score(request) - scores).max() < 1e-5


def weights_of(path):
    return {name: np.asarray(value) for name, value in checkpoint.load(str(path))["network"].items()}


@pytest.mark.check_only  # five processes, each of which loads PyTorch
def test_resume_is_one_run_and_may_raise_the_epochs(tmp_path, dien):
    write(tmp_path, rows_of())
    page = shops.recipe(tmp_path, TEXT + SMALL)

    def train(name, *more):
        return dien("train", page, "--checkpoint", tmp_path / name, *more)

    assert train("whole.pt").returncode == 0
    assert train("parts.pt", "--epochs", "2").returncode == 0
    run = train("parts.pt", "--resume", "--epochs", "3")
    assert run.returncode == 0 and "epoch 3  " in run.stdout and "epoch 2  " not in run.stdout
    whole, parts = weights_of(tmp_path / "whole.pt"), weights_of(tmp_path / "parts.pt")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    other = shops.recipe(tmp_path, (TEXT + SMALL).replace("0.01", "0.02"), "other.toml")
    run = dien("train", other, "--checkpoint", tmp_path / "parts.pt", "--resume")
    assert run.returncode == 1 and "another training.rate" in run.stderr
    write(tmp_path, rows_of(7), "tomorrow.csv")
    run = train("parts.pt", "--resume", "--data", tmp_path / "tomorrow.csv")
    assert run.returncode == 1 and "--from" in run.stderr


def test_the_folders_are_checked_before_the_data(tmp_path, dien):
    page = shops.recipe(tmp_path, TEXT)  # its file does not exist
    for words in (["no/a.pt"], ["a.pt", "--output", tmp_path / "no" / "m"]):
        words = ["--checkpoint", tmp_path / words[0], *words[1:]]
        run = dien("train", page, *words)
        assert run.returncode == 1 and f"there is no directory {tmp_path / 'no'}" in run.stderr


def test_ctrl_c_keeps_the_last_epoch(tmp_path):
    write(tmp_path, rows_of())
    page = shops.recipe(tmp_path, (TEXT + SMALL).replace("epochs = 3", "epochs = 100000"))
    process = subprocess.Popen([sys.executable, "-u", "-m", "dien", "train", page, "--checkpoint", tmp_path / "a.pt"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "a.pt").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in errors
    kept = checkpoint.load(str(tmp_path / "a.pt"))
    assert f"has epoch {kept['epoch']}; --resume goes on" in output


def test_warm_start_grows_vocabularies(tmp_path):
    """Old ids keep their rows and weights, new ones begin at the unknown row; attributes of absent items stay."""
    write(tmp_path, rows_of())
    today = fit_of(tmp_path, TEXT + SMALL)
    today.train_epoch()
    state = today.state()
    checkpoint.save(state, str(tmp_path / "today.pt"))
    state = checkpoint.load(str(tmp_path / "today.pt"))
    new = [row[:4] + [row[4] + "|fresh", row[5]] for row in rows_of(5, items=35) if row[1] != "i3"]
    write(tmp_path, new)
    fit = fit_of(tmp_path, TEXT + SMALL, state)
    grew = fit.warm_start(state)
    assert any(line.startswith("tables.item: ") for line in grew) and any(line.startswith("dense.tags.weight") for line in grew)
    old, ids = today.dataset.values["item"].ids.ids, fit.dataset.values["item"].ids.ids
    assert ids[:len(old)] == old and len(ids) == 35 and fit.dataset.values["tags"].ids.ids[-1] == "fresh"
    table, before = fit.network.weight("tables.item").detach().numpy(), np.asarray(state["best"]["weights"]["tables.item"])
    assert np.array_equal(table[:len(before)], before)
    assert all(np.array_equal(row, before[0]) for row in table[len(before):])
    lost = ids.index("i3") + 1
    assert fit.dataset.attributes["group"][lost] == today.dataset.attributes["group"][lost]
    assert np.allclose(fit.sequences.attributes["tags"][lost][:5], today.sequences.attributes["tags"][lost][:5])
    assert fit.sequences.attributes["tags"][lost][5] == 0
    fit.train_epoch()
    export.freeze(fit.state(), str(tmp_path / "tomorrow"))


def test_warm_start_refuses_another_network(tmp_path):
    write(tmp_path, rows_of(users=60))
    first = fit_of(tmp_path, TEXT + SMALL)
    first.train_epoch()
    with pytest.raises(ValueError, match="mlp.layers.0.*widths and layers"):
        fit_of(tmp_path, TEXT + SMALL.replace("[8]", "[9]")).warm_start(first.state())


@pytest.mark.check_only  # a minute of training
def test_tomorrows_model_takes_a_third_of_the_steps(tmp_path):
    """A warm start on tomorrow's clicks reaches the validation AUC of a cold one in a third of its steps."""
    write(tmp_path, rows_of(users=600))
    text = TEXT + SMALL.replace("epochs = 3", "epochs = 12")
    today = fit_of(tmp_path, text)
    while not today.done():
        today.train_epoch()
    write(tmp_path, rows_of(11, items=33, users=600))

    def aucs(fit):
        return [sum(value for name, value in fit.train_epoch().items() if name.startswith("auc")) for _ in range(12)]

    cold = aucs(fit_of(tmp_path, text))
    warm_fit = fit_of(tmp_path, text, today.state())
    warm_fit.warm_start(today.state())
    warm = aucs(warm_fit)
    reached = next(place for place, value in enumerate(warm) if value >= max(cold)) + 1
    print(f"cold: best {max(cold) / 2:.4f} after epoch {1 + int(np.argmax(cold))}; warm reaches it in epoch {reached}")
    assert reached * 3 <= 1 + int(np.argmax(cold))


def test_the_report_and_the_card(tmp_path, dien):
    write(tmp_path, rows_of())
    page = shops.recipe(tmp_path, TEXT + SMALL)
    run = dien("train", page, "--checkpoint", tmp_path / "a.pt", "--output", tmp_path / "model")
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    first = report["models"]["DIEN"]
    assert set(report["models"]) == {"DIEN", "popularity", "Markov"}
    assert {"auc_uniform", "auc_popularity", "gauc", "log_loss", "calibration", "hit_rate_10", "ndcg_10",
            "by_length"} <= set(first)
    assert sum(row["rows"] for row in first["calibration"]) == 9 * report["tested"]
    assert sum(row["examples"] for row in first["by_length"]) == report["tested"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("# shop, version 1") and "| Markov |" in card and "[item.attributes]" in card
    image = tmp_path / "model" / "report.png"
    assert not image.exists() or image.read_bytes().startswith(b"\x89PNG")
    assert image.exists() or "python3-matplotlib" in run.stdout
    again = dien("evaluate", "--output", tmp_path / "again", tmp_path / "a.pt")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "report.json").read_text()) == report


def test_measures_against_their_definitions():
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 15, 300) / 15, (random.random(300) < 0.3).astype(float)
    weight, user = random.integers(1, 4, 300).astype(float), random.integers(0, 12, 300)

    def pairs(chosen):
        positive, negative = chosen & (labels > 0), chosen & (labels == 0)
        won = (scores[positive][:, None] > scores[negative]) + 0.5 * (scores[positive][:, None] == scores[negative])
        both = weight[positive][:, None] * weight[negative]
        return (won * both).sum() / both.sum()

    everyone = np.ones(300, bool)
    assert abs(measures.auc(scores, labels, weight) - pairs(everyone)) < 1e-12
    expected = np.average([pairs(user == each) for each in range(12)], weights=np.bincount(user, weight))
    assert abs(measures.gauc(scores, labels, user, weight) - expected) < 1e-12
    assert np.isnan(measures.auc(scores, np.ones(300)))
    loss = measures.log_loss(np.array([0.5, 0.25]), np.array([1, 0]), np.array([1, 3]))
    assert abs(loss - (np.log(2) - 3 * np.log(0.75)) / 4) < 1e-9
    found = measures.calibration(scores, scores > 0.5, np.ones(300))
    assert [row["rows"] for row in found] == [30] * 10 and found[0]["positives"] == 0 and found[9]["positives"] == 1
    lists = np.repeat([0, 1, 2], 20)
    given = np.tile(np.arange(20.0), 3)
    positive = np.zeros(60)
    positive[[19, 20 + 17, 40 + 2]] = 1  # ranks 1, 3 and 18
    top = measures.top(given, positive, lists)
    assert abs(top["hit_rate"] - 2 / 3) < 1e-12 and abs(top["ndcg"] - (1 + 1 / 2) / 3) < 1e-12 and top["lists"] == 3
    constant = measures.top(np.zeros(2000), np.tile([1] + [0] * 19, 100), np.repeat(np.arange(100), 20))
    assert 0.35 < constant["hit_rate"] < 0.65  # no gain by standing first


def test_ablation_of_a_recipe(tmp_path):
    """Each variant has its own network; what is there already is not trained again."""
    write(tmp_path, rows_of())
    (tmp_path / "r.toml").write_text(TEXT + SMALL + "[split]\nexamples = 40\n")
    words = ["ablate", tmp_path / "r.toml", "--data", tmp_path / "clicks.csv", "--directory", tmp_path / "out", "--epochs", "1",
             "--only", "as the recipe says", "no attention", "attention as the update gate"]
    run = run_dien(*words)
    assert run.returncode == 0, run.stderr
    reports = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(reports) == words[-3:] and all(each["epoch"] == 1 for each in reports.values())
    aucs = [each["models"]["DIEN"]["auc_uniform"] for each in reports.values()]
    assert len(set(aucs)) == 3
    table = (tmp_path / "out" / "results.md").read_text()
    assert table in run.stdout
    names = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert names == [f"| {name}" for name in [*words[-3:], "popularity", "Markov"]]
    cells = {path.stem: checkpoint.load(str(path))["config"]["interests"][0]["evolution"]["cell"]
             for path in (tmp_path / "out").glob("*.pt")}
    assert cells == {"recipe": "augru-and", "recipe-gru": "gru", "recipe-agru": "agru"}
    again = run_dien(*words)
    assert again.returncode == 0 and "epoch 1" not in again.stderr + again.stdout.replace("best epoch 1", "")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == reports


def test_ablation_refuses_the_demos_words(tmp_path):
    for more, message in ((["--only", "DIEN"], "a recipe's variants are"),
                          (["--hidden", "3"], "--hidden is an option of the demo")):
        run = run_dien("ablate", tmp_path / "r.toml", "--directory", tmp_path, *more)
        assert run.returncode == 2 and message in run.stderr
    run = run_dien("ablate", "--directory", tmp_path)
    assert run.returncode == 2 and "give a recipe, or --data for the demo" in run.stderr
