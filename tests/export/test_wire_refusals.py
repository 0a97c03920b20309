"""The Python tools' reader of requests refuses what the server refuses (tests/e2e/test_same_words.py compares the words)."""

import json

import numpy as np
import pytest

from dien.model import documents, model_directory
from dien.model.model_directory import Scorer, difference
from dien.model.wire import RequestError
from dien.sources import convert
from support import bad_requests
from support.dien_command import GOLDEN, run_dien


@pytest.fixture(scope="module")
def scorer():
    return Scorer(*bad_requests.model())


@pytest.mark.parametrize("name", bad_requests.CASES)
def test_refused_at_its_place(scorer, name):
    pointer, request = bad_requests.CASES[name]
    with pytest.raises(RequestError) as error:
        scorer.score(request)
    assert error.value.pointer == pointer
    assert str(error.value) == (f"{pointer}: {error.value.detail}" if pointer else error.value.detail)


@pytest.mark.parametrize("name", bad_requests.ACCEPTED)
def test_accepted(scorer, name):
    assert ((0 < (scores := scorer.score(bad_requests.ACCEPTED[name]))) & (scores < 1)).all()


@pytest.mark.parametrize("member", ["user_id", "history_token", "history_append"])
def test_a_history_elsewhere_is_not_taken_as_empty(scorer, member):
    request = {name: value for name, value in bad_requests.GOOD.items() if name != "history"}
    with pytest.raises(RequestError, match="give the history itself") as error:
        scorer.score({**request, member: bad_requests.GOOD["history"] if member == "history_append" else "u"})
    assert error.value.pointer == f"/{member}"


# ---- the files that hold requests: --samples and --calibrate, with the tf1 case and its names

TF1 = GOLDEN / "reference-tf1-prelu"


def requests_of(change=lambda requests: None):
    requests = documents.read(TF1 / "requests.json")
    change(requests)
    return requests


def rename_history(requests):
    """A history under DeepCTR's names, which once counted as an empty one."""
    requests[3]["history"] = {f"hist_{name}": values for name, values in requests[3]["history"].items()}


@pytest.mark.parametrize("option", ["--samples", "--calibrate"])
def test_a_history_under_other_names(tmp_path, option):
    (tmp_path / "requests.json").write_text(json.dumps(requests_of(rename_history)))
    run = run_dien("convert", "--from", "reference-tf1", "--architecture", TF1 / "architecture.json", "--weights",
                   TF1 / "state_dict.safetensors", option, tmp_path / "requests.json", "--output", tmp_path / "out")
    assert run.returncode == 1 and not (tmp_path / "out").exists()
    assert run.stderr.endswith('requests.json: request 3: /history/hist_mid: The model has no history field "hist_mid".\n')


@pytest.mark.parametrize("scores, detail", [
    (None, "The scores must be an array of numbers."), ("0.5", "The scores must be an array of numbers."),
    ([True], "The scores must be an array of numbers."), ([None], "The scores must be an array of numbers."),
    ([0.5] * 50, "There must be one score for each candidate."), ([], "There must be one score for each candidate.")])
def test_scores_that_are_none(tmp_path, scores, detail):
    path = tmp_path / "requests.json"
    path.write_text(json.dumps(requests_of(lambda requests: requests[2].update(scores=scores))))
    with pytest.raises(ValueError) as error:
        convert.requests_of(str(path))
    assert str(error.value) == f"{path}: request 2: /scores: {detail}"


TEXTS = {
    '[{"candidates": NaN}]': "NaN is no number",
    '[{"scores": [NaN]}]': "NaN is no number",
    '[{"scores": [Infinity]}]': "Infinity is no number",
    '[{"user": {}, "user": {}}]': 'the name "user" is there twice',
    '[{"user": {},\n "x"}]': "line 2, column 5: Expecting ':'",
    '{"requests": []}': "not a list of one request or more",
    "[]": "not a list of one request or more",
    "[5]": "request 0: A request must be an object.",
    '[{"user": {"uid": 1}}]': "request 0: /candidates: A request must have candidates.",
    "[" * 100_000: "nest too deep",
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:40])
def test_texts(tmp_path, text):
    path = tmp_path / "requests.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        convert.requests_of(str(path))
    assert str(error.value).startswith(f"{path}: ") and TEXTS[text] in str(error.value)


# ---- every comparison fails on NaN

def test_differences_of_nothing_are_infinite():
    nan, infinity = float("nan"), float("inf")
    for scores, truth in (([nan], [0.5]), ([0.5], [nan]), ([0.5, nan], [0.5, 0.5]), ([infinity], [infinity]), ([0.5], [0.5, 1])):
        assert difference(scores, truth) == infinity
    assert difference([0.5, 0.25], [0.5, 0.5]) == 0.25


def test_scores_that_are_not_numbers_are_refused():
    config, tensors = bad_requests.model()
    with pytest.raises(ValueError, match="sample 0: the network's score differs by inf"):
        model_directory.scored(Scorer(config, tensors), [{**bad_requests.GOOD, "scores": [0.5, float("nan")]}])
    tensors["tables.item"][:] = np.nan
    with pytest.raises(ValueError, match="sample 0: the network's score is not a number"):
        model_directory.scored(Scorer(config, tensors), [bad_requests.GOOD])
    assert convert.largest_difference(Scorer(config, tensors), [{**bad_requests.GOOD, "scores": [0.5, 0.5]}]) == float("inf")
