"""proto/admin.json: public validators accept it, its examples fit, and the admin plane says what it says."""

import json
import re
import subprocess

import pytest

from support import builds
from support.service import Raw, head
from test_admin import OWN, TOKEN, Plane, body_of
from test_reload import TOLERANT, Link

pytestmark = pytest.mark.check_only  # npm's validators

DOCUMENT = builds.TOP / "proto" / "admin.json"
ADMIN = json.loads(DOCUMENT.read_text())
PUBLIC = json.loads((builds.TOP / "proto" / "openapi.json").read_text())


def validate(what, text=""):
    ran = subprocess.run(["node", builds.TOP / "tests" / "e2e" / "openapi.mjs", builds.TOP / "build" / "tools", DOCUMENT, what],
                         input=text, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def errors_of(pairs):
    lines = (json.dumps({"schema": schema, "instance": instance}) + "\n" for schema, instance in pairs)
    return validate("instances", "".join(lines))


def resolve(node):
    while "$ref" in node:
        target = ADMIN
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def contents():
    """(place, content) of all bodies that are documented."""
    for path, methods in ADMIN["paths"].items():
        for method, operation in methods.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media, content in resolve(body).get("content", {}).items():
                    yield f"{method} {path} {name} {media}", content


def test_a_public_validator_accepts_the_document():
    assert validate("document") == [[]]


def test_every_example_fits_its_schema():
    pairs = [(place, content["schema"]["$ref"], example["value"])
             for place, content in contents() for example in content.get("examples", {}).values()]
    assert len(pairs) > 20
    found = errors_of([(schema, value) for _, schema, value in pairs])
    assert [(place, errors) for (place, _, _), errors in zip(pairs, found) if errors] == []


def test_it_has_the_routes_of_the_table():
    calls = {(method.upper(), path) for path, methods in ADMIN["paths"].items() for method in methods}
    assert calls == {*OWN, ("GET", "/metrics")}
    assert not set(PUBLIC["paths"]) & {path for _, path in OWN}


def test_each_problem_is_in_one_of_the_documents():
    source = (builds.TOP / "proto" / "problem.c").read_text()
    slugs = set(re.findall(r'^    \[PROBLEM_\w+\] = \{"([a-z-]+)"', source, re.M)) - {"ok"}
    told = {name.removeprefix("urn:dien:problem:") for document in (ADMIN, PUBLIC)
            for name in document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]}
    assert told == slugs


def test_what_the_server_says_is_documented(start, demo, tmp_path):
    link = Link(tmp_path / "current", demo.path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    plane = Plane(start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--admin-token-file", token, "--drain-delay", "1",
                        model=link), TOKEN)
    said = []
    for method, path in OWN:
        good = body_of(path, method)
        if path == "/models/reload":
            link.set(tmp_path)  # no model is there
            said.append((path, method, plane.ask(method, path)))
            assert said[-1][2].status == 422
            link.set(demo.path)
        if path == "/drain":
            plane.server.terminated = True
        for headers in ({"Authorization": None}, {"Origin": "http://evil.example"}, {}):
            said.append((path, method, plane.ask(method, path, good, **headers)))
        if path != "/drain":
            said += [(path, method, plane.ask("PATCH", path)), (path, method, plane.ask(method, path, good, Accept="text/plain"))]
        if method != "GET" and path != "/drain":
            said += [(path, method, plane.ask(method, path, body)) for body in (b"{", {"nothing": 1}, b"x" * 5000)]
            said.append((path, method, plane.ask(method, path, good, **{"Content-Type": "text/plain"})))
            with Raw(plane.address) as raw:
                raw.send(head(0, f"X-Long: {'x' * 60_000}", method=method, path=path))
                said.append((path, method, raw.reply()))
    assert {reply.status for _, _, reply in said} >= {200, 202, 400, 401, 403, 405, 409, 413, 415, 422, 431}
    pairs = []
    for path, method, reply in said:
        documented = resolve(ADMIN["paths"][path][method.lower()]["responses"][str(reply.status)])
        media = reply.headers["Content-Type"].split(";")[0]
        schema = documented["content"][media]["schema"]
        assert all(header in reply.headers for header in documented["headers"] if header != "Accept"), (path, reply)
        if "$ref" in schema:
            pairs.append((schema["$ref"], reply.json()))
    assert [(pair, errors) for pair, errors in zip(pairs, errors_of(pairs)) if errors] == []
