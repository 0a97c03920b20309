"""From a file to a ranked answer: each kind of data by one recipe of under 40 lines, through the real server."""

import datetime
import json

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
epochs = 16
patience = 16
batch = 32
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


def test_ratings_beside_a_table_of_movies(build, dien, tmp_path):
    """As MovieLens has them: ids past 2^53, a rating as the label, genres of several values in a second table, a price."""
    first = 2**53 + 1
    random = np.random.default_rng(1)
    genres = ["Action", "Comedy", "Film-Noir", "Sci-Fi"]
    taste = random.integers(4, size=120)
    rows = []
    for user in range(120):
        for step, movie in enumerate(random.permutation(40)[:12]):
            rows.append([user, first + int(movie), 5 if movie % 4 == taste[user] else int(random.integers(1, 4)), 1000 + step])
    shops.write_csv(tmp_path / "ratings.csv", ["userId", "movieId", "rating", "timestamp"], rows)
    shops.write_csv(tmp_path / "movies.csv", ["movieId", "title", "genres", "price"],
                    [[first + movie, f"Movie, {movie}", "|".join(sorted({genres[movie % 4], genres[(movie // 4) % 4]})),
                      f"{3 + 1000 * (movie % 4)}.5"] for movie in range(40)])
    model = train(dien, tmp_path, """name = "movies"
[data]
files = "ratings.csv"
form = "impressions"
user = "userId"
item = "movieId"
time = "timestamp"
label = "rating"
label_from = 4
[item]
name = "movie"
kind = "integer"
[items]
files = "movies.csv"
[item.attributes]
genres = {kind = "multi"}
price = {kind = "dense"}
[training]
epochs = 12
patience = 12
batch = 64
rate = 0.01
[network]
hidden = [16]
""")
    liked = [movie for movie in range(40) if movie % 4 == 3]
    results = ranked(build, model, [{"history": {"movie": [first + movie for movie in liked[:4]]},
                                     "candidates": {"movie": [first + 4, first + liked[-1], first + 5]}}])
    assert results[0][0]["index"] == 1
    config = model_directory.read_config(model)
    assert sorted(config["metadata"]["multi_valued"]["genres"]) == genres
    given = {"movie": [first, 7], "genres": [[0.5, 0.5, 0, 0], [0, 0, 1, 0]], "price": [3.5, 12.0]}  # sent beside the ids
    assert len(ranked(build, model, [{"history": {"movie": [first]}, "candidates": given}])[0]) == 2


@pytest.mark.check_only  # half a minute of training
def test_views_and_carts(build, dien, tmp_path):
    """Two kinds of behaviour in JSON lines are two histories of their own; ids have 80 characters of Unicode; .zst or .gz."""
    pytest.importorskip("zstandard")
    import zstandard
    names = [("漢字é😀" * 20)[:78] + f"{item:02}" for item in range(shops.ITEMS)]
    lines = []
    for user, item, time in shops.clicks(3, users=300):
        lines.append({"who": user, "what": "view", "sku": names[item], "dwell": 1.5,
                      "at": datetime.datetime.fromtimestamp(1_764_000_000 + time, datetime.timezone.utc).isoformat()})
        if item % 3 == 0:
            lines.append({**lines[-1], "what": "cart"})
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "log.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    model = train(dien, tmp_path, """name = "log"
[data]
files = "log.jsonl.zst"
user = "who"
item = "sku"
time = "at"
event = "what"
targets = "view"
[behaviour]
dwell = {kind = "dense", width = 2}
[interests]
views = {events = ["view"], max_length = 8}
carts = {events = ["cart"]}
""" + QUICK)
    results = ranked(build, model, [
        {"history": {"views_item": names[4:6], "views_dwell": [1.5, 2.5], "carts_item": [names[3]], "carts_dwell": [1.5]},
         "candidates": {"item": [names[20], names[6], names[12]]}},
        {"history": {"views_item": [names[5]], "views_dwell": [1.5], "carts_item": [], "carts_dwell": []},
         "candidates": {"item": names}}])
    assert results[0][0]["index"] == 1 and len(results[1]) == shops.ITEMS


def test_impressions_with_positions(build, dien, tmp_path):
    """Rows with labels, and a field that only a candidate has: its position. The labels follow the last click."""
    random, rows = np.random.default_rng(2), []
    for user in range(150):
        last = int(random.integers(shops.ITEMS))
        for time in range(8):
            shown = [(last + 1) % shops.ITEMS, *random.integers(shops.ITEMS, size=2).tolist()]
            clicked = int(random.random() > 0.85)
            for place, item in enumerate(shown):
                rows.append([user, item, time, place, int(place == clicked)])
            last = shown[clicked]
    shops.write_csv(tmp_path / "shown.csv", ["user", "item", "time", "position", "click"],
                    [row[:3] + [random.integers(5)] + row[4:] for row in rows])
    model = train(dien, tmp_path, """name = "shown"
[data]
files = "shown.csv"
form = "impressions"
user = "user"
time = "time"
label = "click"
[item]
kind = "integer"
[candidate]
position = {kind = "integer"}
""" + QUICK)
    results = ranked(build, model, [{"history": {"item": [3, 4]}, "candidates": {"item": [20, 5, 12], "position": [0, 1, 2]}}])
    assert results[0][0]["index"] == 1
    report = json.loads((model / "report.json").read_text())
    assert report["models"]["DIEN"]["gauc"] > 0.6 and report["models"]["DIEN"]["lists"] > 10
