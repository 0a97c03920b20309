"""One table of wrong requests, two readers: the server and the Python tools refuse the same requests with the same words."""

import json
import random
import subprocess

import pytest

from support import bad_requests, builds, service

pytestmark = pytest.mark.only_on("release", "asan")


@pytest.fixture(scope="module")
def words(tmp_path_factory, build):
    """A server with the table's model, and the tools' reader of it."""
    from dien.model import model_directory

    directory = tmp_path_factory.mktemp("words") / "model"
    scorer = model_directory.save(directory, *bad_requests.model(), [bad_requests.GOOD])
    with service.Service(build, directory) as running:
        yield running, scorer


def told(scorer, request):
    """The tools' (pointer, detail), or none."""
    from dien.model.wire import RequestError
    try:
        scorer.score(request)
    except RequestError as error:
        return error.pointer, error.detail
    return None


def answered(client, request):
    reply = client.post(json.dumps(request).encode())
    assert reply.status in (200, 400), reply
    return None if reply.status == 200 else (reply.json()["pointer"], reply.json()["detail"])


@pytest.mark.parametrize("name", bad_requests.CASES)
def test_refusals(words, name):
    running, scorer = words
    pointer, request = bad_requests.CASES[name]
    with running.client() as client:
        assert answered(client, request) == told(scorer, request)
        assert answered(client, request)[0] == pointer


@pytest.mark.parametrize("name", bad_requests.ACCEPTED)
def test_accepted(words, name):
    running, scorer = words
    with running.client() as client:
        assert answered(client, bad_requests.ACCEPTED[name]) is None
    assert told(scorer, bad_requests.ACCEPTED[name]) is None


def test_random_changes(words):
    running, scorer = words
    drawn, refused = random.Random(7), 0
    with running.client() as client:
        for _ in range(1500):
            request = bad_requests.mutated(drawn)
            expected = told(scorer, request)
            assert answered(client, request) == expected, request
            refused += expected is not None
    assert 300 < refused < 1450


def test_samples_have_the_same_words(words, tmp_path, build):
    """samples.json is read by both: the same fault, the same place."""
    from dien.model import model_directory
    config, tensors = bad_requests.model()
    model_directory.save(tmp_path / "model", config, tensors, [bad_requests.GOOD])
    for name in ("a history under another column's name", "a number beyond float32", "an unknown member"):
        pointer, request = bad_requests.CASES[name]
        (tmp_path / "model" / "samples.json").write_text(json.dumps({"samples": [{**request, "scores": [0.5, 0.5]}]}))
        run = subprocess.run([build.server, "--model", tmp_path / "model", "--check"], capture_output=True, text=True,
                             env=builds.environment())
        assert run.returncode != 0
        assert f"/samples/0{pointer}: {told(words[1], request)[1]}" in run.stdout + run.stderr
