"""proto/openapi.json: public validators accept it, its examples work, and what the server says is what it says."""

import copy
import json
import random
import subprocess

import pytest

from support import builds
from support.service import head

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release")]  # npm's validators, of documents

DOCUMENT = builds.TOP / "proto" / "openapi.json"
TOOLS = builds.TOP / "build" / "tools"
OPENAPI = json.loads(DOCUMENT.read_text())
EXAMPLES = OPENAPI["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["examples"]


def validate(what, text=""):
    ran = subprocess.run(["node", builds.TOP / "tests" / "e2e" / "openapi.mjs", TOOLS, DOCUMENT, what], input=text,
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def errors_of(pairs):
    """Errors of (schema, instance) pairs, a list each."""
    return validate("instances", "".join(json.dumps({"schema": schema, "instance": instance}) + "\n"
                                         for schema, instance in pairs))


def resolve(node):
    while "$ref" in node:
        target = OPENAPI
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def responses():
    """(path, method, status, response) for all that is documented."""
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                yield path, method, int(status), resolve(response)


def test_a_public_validator_accepts_the_document():
    assert validate("document") == [[]]


def test_the_validator_would_refuse(tmp_path):
    """The same validator on the document with one reference broken."""
    spoiled = tmp_path / "openapi.json"
    text = DOCUMENT.read_text()
    assert '"#/components/schemas/ScoreRequest"' in text
    spoiled.write_text(text.replace('"#/components/schemas/ScoreRequest"', '"#/components/schemas/ScoreReqest"'))
    ran = subprocess.run(["node", builds.TOP / "tests" / "e2e" / "openapi.mjs", TOOLS, spoiled, "document"],
                         capture_output=True, text=True, check=False)
    assert ran.returncode != 0 or json.loads(ran.stdout) != []


def test_the_server_serves_the_document(server):
    with server.client() as client:
        reply = client.get("/openapi.json")
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/json"
    assert reply.json() == OPENAPI


def test_every_example_fits_its_schema():
    pairs, names = [], []
    for path in ("/score", "/users/{id}/history"):
        content = OPENAPI["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for name, example in content["examples"].items():
            pairs.append((content["schema"]["$ref"], example["value"]))
            names.append(f"request {path} {name}")
    for path, method, status, response in responses():
        for content in response.get("content", {}).values():
            for name, example in content.get("examples", {}).items():
                if "$ref" in content.get("schema", {}):
                    pairs.append((content["schema"]["$ref"], resolve(example)["value"]))
                    names.append(f"{method} {path} {status} {name}")
    assert len(pairs) > 10
    assert [(name, errors) for name, errors in zip(names, errors_of(pairs)) if errors] == []


def test_every_problem_example_has_its_own_status():
    seen = 0
    for path, method, status, response in responses():
        for example in response.get("content", {}).get("application/problem+json", {}).get("examples", {}).values():
            assert resolve(example)["value"]["status"] == status, (path, method)
            seen += 1
    assert seen > 5


# A token is good once it was given: tests/openapi/test_examples.py goes on from example to example.
@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if "history_token" not in example["value"]])
def test_request_examples_are_answered(server, name):
    request = EXAMPLES[name]["value"]
    reply = server.score(request)
    assert reply.status == 200
    answer = reply.json()
    assert errors_of([("#/components/schemas/ScoreReply", answer)]) == [[]]
    size = len(request["candidates"]) if isinstance(request["candidates"], list) \
        else max(len(column) for column in request["candidates"].values())
    assert len(answer["results"]) == min(size, request.get("top_k", size))
    if "newUser" not in name:
        assert set(answer["unknown"].values()) == {0}, "the examples are for the demo model"


def test_the_schema_refuses_what_the_server_refuses(server):
    """Spoiled examples that both must refuse: the document is not a schema of everything."""
    good = EXAMPLES["columns"]["value"]
    spoiled = [{**good, "histroy": {}}, {**good, "top_k": 0}, {**good, "explain": "yes"}, {**good, "user_id": 5},
               {**good, "candidates": []}, {**good, "candidates": 5}, {**good, "history": "A13"},
               {name: value for name, value in good.items() if name != "candidates"},
               {**good, "history_token": "0" * 32}, {**good, "user_id": "u", "history_token": "0" * 32},
               {**good, "user_id": "u", "history_append": []},
               {**EXAMPLES["token"]["value"], "history_token": 5}, {**EXAMPLES["token"]["value"], "history_append": 5},
               {name: value for name, value in EXAMPLES["token"]["value"].items() if name != "user_id"}]
    for body, errors in zip(spoiled, errors_of([("#/components/schemas/ScoreRequest", body) for body in spoiled])):
        assert errors, body
        assert server.score(body).status == 400, body


def test_the_schema_of_histories_refuses_what_the_server_refuses(server):
    spoiled = [{}, [], {"history_token": "0" * 32}, {"history": [], "history_token": "0" * 32}, {"history": 5},
               {"history": [], "history_append": []}, {"history": [], "user_id": "u"}, {"history": [], "candidates": [{}]}]
    schema = "#/components/schemas/HistoryRequest"
    for body, errors in zip(spoiled, errors_of([(schema, body) for body in spoiled])):
        assert errors, body
        with server.client() as client:
            assert client.post(body, "/users/u/history").status == 400, body


def said_of_users(client, history):
    """Every kind of reply under /users."""
    user, path = "/users/documented", "/users/{id}"
    posts = [client.post(body, user + "/history") for body in (
        {"history_append": history}, {"history": history}, {"history_append": history}, {"history": 5}, "{",
        {"history_append": history, "history_token": "0" * 32})]
    posts += [client.post("x", user + "/history", **{"Content-Type": "text/plain"}), client.get(user + "/history"),
              client.post({"history": history}, "/users/%zz/history"),
              client.ask("POST", user + "/history", b"\x22\x00", {"Content-Type": "application/x-protobuf"})]  # an empty history
    assert [reply.status for reply in posts] == [404, 200, 200, 400, 400, 409, 415, 405, 400, 200]
    said = [(path + "/history", "post", reply) for reply in posts]
    said += [(path, "get", client.get(user)), (path, "get", client.post({}, user)), (path, "get", client.get("/users/%zz"))]
    said += [(path, "delete", client.ask("DELETE", user)), (path, "delete", client.ask("DELETE", "/users/%zz"))]
    said += [(path, "get", client.get(user))]
    assert [reply.status for _, _, reply in said[-6:]] == [200, 405, 400, 204, 400, 404]
    return said


def test_what_the_server_says_is_documented(server, demo):
    """Every kind of reply: its status is in the document for its path, its body fits the schema, its type is listed."""
    good = demo.request(random.Random(9), history=3, candidates=2)
    wrong = copy.deepcopy(good)
    wrong["top_k"] = 0
    said = []
    with server.client() as client:
        said += [("/score", "post", client.post(body)) for body in (good, wrong, "{", {**good, "explain": True})]
        said += [("/score", "post", client.post(demo.request(random.Random(9), history=1, candidates=4097)))]
        said += [("/score", "post", client.post("x", **{"Content-Type": "text/plain"}))]
        said += [("/score", "post", client.ask("GET", "/score"))]
        read = ("/health", "/health/live", "/health/ready", "/model", "/metrics", "/openapi.json")
        said += [(path, "get", client.get(path)) for path in read]
        said += [(path, "get", client.ask("DELETE", path)) for path in ("/health", "/health/live", "/health/ready", "/model")]
        said += said_of_users(client, good["history"])
        said += [("/score", "post", client.post({**EXAMPLES["token"]["value"], "user_id": "nobody"}))]
        assert said[-1][2].status == 409
    for text in (head(None), head(5, "Content-Encoding: br") + b"{}   ", head(10**9), head(5, "Content-Length: 6"),
                 head(5, f"X-Long: {'x' * 60_000}"), head(5, f"X-Long: {'x' * 15_400}")):
        with server.raw() as raw:
            raw.send(text)
            said.append(("/score", "post", raw.reply()))
    pairs = []
    for path, method, reply in said:
        documented = OPENAPI["paths"][path][method]["responses"]
        assert str(reply.status) in documented, (path, method, reply)
        content = resolve(documented[str(reply.status)]).get("content")
        if reply.headers["Content-Type"] is None:
            continue  # libmicrohttpd's own answers have no type
        media = reply.headers["Content-Type"].split(";")[0]
        assert media in {each.split(";")[0] for each in content}, (path, reply)
        schema = next(value for key, value in content.items() if key.split(";")[0] == media).get("schema", {})
        if "$ref" in schema:
            pairs.append((schema["$ref"], reply.json()))
        if "headers" in resolve(documented[str(reply.status)]):
            for header in resolve(documented[str(reply.status)])["headers"]:
                if header == "Accept-Encoding" and "content-coding" not in reply.json()["type"]:
                    continue  # of two reasons for a 415, one
                assert header in reply.headers, (path, header, reply)
    assert len(pairs) > 12
    assert [(pair, errors) for pair, errors in zip(pairs, errors_of(pairs)) if errors] == []
