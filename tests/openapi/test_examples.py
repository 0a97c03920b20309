"""The replies in proto/openapi.json are the demo model's own.

After another demo model: python3 tests/openapi/refresh_examples.py http://127.0.0.1:8080 beside `make run`.
"""

import json

import pytest

from refresh_examples import CONVERSATIONS, DOCUMENT, USER, content, conversation

pytestmark = pytest.mark.only_on("release", "asan")  # the form of a body is no matter of threads

PATHS = json.loads(DOCUMENT.read_text())["paths"]


def numbers_apart(reply):
    """A reply without its scores and attention, and those."""
    rest, numbers = {**reply}, []
    if "results" in reply:
        rest["results"] = []
    for result in reply.get("results", []):
        attention = result.get("attention", {})
        rest["results"].append({name: value for name, value in result.items() if name not in ("score", "attention")}
                               | {name: len(scores) for name, scores in attention.items()})
        numbers += [result["score"], *(score for scores in attention.values() for score in scores)]
    return rest, numbers


@pytest.mark.parametrize("path", CONVERSATIONS)
def test_replies_are_the_demo_model_s(server, path):
    """In the document's order, as a client goes on with the token that it was given."""
    operation = PATHS[path]["post"]
    documented = content(operation["responses"]["200"])["examples"]
    assert list(content(operation["requestBody"])["examples"]) == list(documented), "each request has its reply"
    with server.client() as client:
        assert client.ask("DELETE", USER).status == 204
        asked = {name: (request, reply) for name, request, reply in conversation(
            operation, lambda body: client.post(body, path.replace("/users/{id}", USER)).json())}
    for name, (request, reply) in asked.items():
        assert request == content(operation["requestBody"])["examples"][name]["value"], "the token of the reply before"
        expected, numbers = numbers_apart(documented[name]["value"])
        said, given = numbers_apart(reply)
        assert said == expected, name
        assert given == pytest.approx(numbers, rel=0, abs=1e-5), name


def test_what_is_held_is_the_demo_model_s(server):
    """After the last of those conversations."""
    operation = PATHS[CONVERSATIONS[-1]]["post"]
    with server.client() as client:
        client.ask("DELETE", USER)
        list(conversation(operation, lambda body: client.post(body, USER + "/history").json()))
        held = client.get(USER).json()
    documented = content(PATHS["/users/{id}"]["get"]["responses"]["200"])["examples"]["demo"]["value"]
    times = ("age_seconds", "idle_seconds")
    assert {**held, **{name: documented[name] for name in times}} == documented
    assert all(0 <= held[name] < 60 for name in times)
