"""The replies in proto/openapi.json are the demo model's own.

After another demo model: python3 tests/openapi/refresh_examples.py http://127.0.0.1:8080 beside `make run`.
"""

import json

import pytest

from support import builds

SCORE = json.loads((builds.TOP / "proto" / "openapi.json").read_text())["paths"]["/score"]["post"]
REQUESTS = SCORE["requestBody"]["content"]["application/json"]["examples"]
REPLIES = SCORE["responses"]["200"]["content"]["application/json"]["examples"]


def numbers_apart(reply):
    """A reply without its scores and attention, and those."""
    rest, numbers = {**reply, "results": []}, []
    for result in reply["results"]:
        attention = result.get("attention", {})
        rest["results"].append({name: value for name, value in result.items() if name not in ("score", "attention")}
                               | {name: len(scores) for name, scores in attention.items()})
        numbers += [result["score"], *(score for scores in attention.values() for score in scores)]
    return rest, numbers


def test_each_request_has_its_reply():
    assert list(REQUESTS) == list(REPLIES)


@pytest.mark.parametrize("name", REQUESTS)
def test_replies_are_the_demo_model_s(server, name):
    documented, expected = numbers_apart(REPLIES[name]["value"])
    said, numbers = numbers_apart(server.score(REQUESTS[name]["value"]).json())
    assert said == documented
    assert numbers == pytest.approx(expected, rel=0, abs=1e-5)
