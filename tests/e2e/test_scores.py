"""The first promise of the README: every score is the training code's, through the library (--check) and through HTTP."""

import json

import pytest

from support import builds, service
from support.modelfile import ModelDirectory, rows

TOLERANCE = 1e-5
RANDOM_MODELS = 30
RANDOM_MODELS_OVER_HTTP = 6


def largest_difference(client, samples):
    """The largest |difference| over samples posted as they are."""
    largest = 0.0
    for sample in samples:
        body = {name: value for name, value in sample.items() if name != "scores"}
        scores = client.post(body).scores()
        assert sorted(scores) == list(range(len(sample["scores"])))
        largest = max([largest, *(abs(scores[place] - score) for place, score in enumerate(sample["scores"]))])
    return largest


def expect_order(client, sample):
    """Results stand in the order of their own scores, which is the training code's where those differ enough."""
    body = {name: value for name, value in sample.items() if name != "scores"}
    order = [result["index"] for result in client.post(body).json()["results"]]
    for better, worse in zip(order, order[1:]):
        assert sample["scores"][better] > sample["scores"][worse] - TOLERANCE


GOLDEN = builds.TOP / "tests" / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES)
def test_golden_over_http(build, converted, case):
    """Other people's checkpoints: the scores that their own code gave in float64, and its order."""
    model = converted(case)
    with service.Service(build, model.path) as running, running.client() as client:
        largest = largest_difference(client, model.samples)
        print(f"{case}: largest difference {largest:.2e} over {len(model.samples)} requests")
        assert 0 < largest <= TOLERANCE  # 0 would mean that the answer was copied
        for sample in model.samples:
            expect_order(client, sample)


@pytest.mark.parametrize("case", CASES)
def test_golden_keeps_its_own_requests(converted, case):
    """The converted samples are the golden case's, not scores of our own."""
    theirs = json.loads((GOLDEN / case / "requests.json").read_text())
    ours = converted(case).samples
    assert len(ours) == len(theirs) > 0
    assert [sample["scores"] for sample in ours] == [sample["scores"] for sample in theirs]


@pytest.mark.parametrize("case", CASES)
def test_golden_check(build, converted, case):
    """The same through the library."""
    status, output = service.check(build, converted(case).path)
    assert status == 0, output
    assert builds.sanitizer_report(output) is None


def test_demo_samples_over_http(server, demo):
    with server.client() as client:
        largest = largest_difference(client, demo.samples)
        print(f"largest difference {largest:.2e} over {len(demo.samples)} requests")
        assert 0 < largest <= TOLERANCE
        for sample in demo.samples:
            expect_order(client, sample)


def test_demo_check(build, demo):
    status, output = service.check(build, demo.path)
    assert status == 0, output
    assert builds.sanitizer_report(output) is None


@pytest.fixture(scope="session")
def random_models():
    """Model directories of random shape and variant, scored by PyTorch in float64; `make models` makes them."""
    made = [ModelDirectory(path.parent) for path in sorted((builds.TOP / "build" / "models").glob("*/config.json"))]
    assert len(made) >= RANDOM_MODELS, "make models"
    return made


def test_random_models_check(build, random_models):
    for model in random_models:
        status, output = service.check(build, model.path)
        assert status == 0, f"{model}: {output}"
        assert builds.sanitizer_report(output) is None, model


def test_random_models_cover_the_variants(random_models):
    """Thirty seeds that all drew the same variant would prove little."""
    interests = [interest for model in random_models for interest in model.config["interests"]]
    assert {interest["attention"]["kind"] for interest in interests} == {"none", "dot", "bilinear", "mlp"}
    cells = {"augru-and", "augru-or", "agru", "aigru", "gru", "gru+pooling", "augru-keep"}
    assert {interest["evolution"]["cell"] for interest in interests} == cells
    assert {interest["extractor"]["reset"] for interest in interests} == {"before", "after"}
    assert {"query" in interest["attention"] for interest in interests} == {True, False}
    assert {model.config["output"]["kind"] for model in random_models} == {"sigmoid", "softmax"}
    activations = {layer["activation"] for model in random_models for layer in model.config["mlp"]["layers"]}
    assert activations >= {"linear", "relu", "prelu", "sigmoid", "dice"}
    dtypes = {entry["dtype"] for model in random_models for entry in model.header.values()}
    assert dtypes >= {"F32", "F16", "BF16", "I8", "I32", "I64", "U8"}
    assert any(field["kind"] == "dense" for model in random_models for field in model.config["fields"])
    pools = {field["pool"] for model in random_models for field in model.config["fields"] if "pool" in field}
    assert pools == {"sum", "mean", "max"}
    assert any("attribute_of" in field for model in random_models for field in model.config["fields"])
    assert any(len(model.config["interests"]) > 1 for model in random_models)


def test_random_models_over_http(build, random_models):
    for model in random_models[:RANDOM_MODELS_OVER_HTTP]:
        with service.Service(build, model.path) as running, running.client() as client:
            assert largest_difference(client, model.samples) <= TOLERANCE, model


def test_random_models_rows_are_columns(build, random_models, rng):
    """Row form and column form of one request: the same bits, whatever the fields are."""
    for model in random_models[:RANDOM_MODELS_OVER_HTTP]:
        if len(model.config["interests"]) > 1:
            continue  # its histories may differ in length, which rows cannot say
        body = model.request(rng, history=5, candidates=9)
        as_rows = {**body, "history": rows(body["history"]), "candidates": rows(body["candidates"])}
        with service.Service(build, model.path) as running, running.client() as client:
            assert client.post(body).scores() == client.post(as_rows).scores(), model
