"""Real clients: each library's plain and streaming form, on kept connections, direct and behind HAProxy and nginx.

A script of requests is run by a small program for each language; its answers must be those that our own client gets.
"""

import base64
import json
import random
import subprocess
import sys

import pytest

from support import builds, proxies
from support.service import Service

pytestmark = pytest.mark.only_on("release")  # the clients' forms matter here; other tests give the sanitizers these bytes

HERE = builds.TOP / "tests" / "clients"
TOOLS = builds.TOP / "build" / "tools"
SECONDS = 300  # ends what hangs

PYTHON = [sys.executable, HERE / "python_client.py"]
NODE = ["node", HERE / "node_client.mjs"]
JAVA = ["java", HERE / "Client.java"]

GO = ["go"]  # in place of the program, which is compiled first

# Each client: its command, its last argument, and whether it speaks HTTP/2 without TLS alone.
CLIENTS = {
    "curl": (["bash", HERE / "curl.sh"], "-", False),
    "curl, HTTP/1.0": (["bash", HERE / "curl.sh"], "--http1.0", False),
    "curl, HTTP/2": (["bash", HERE / "curl.sh"], "--http2-prior-knowledge", True),
    "curl, asks for HTTP/2": (["bash", HERE / "curl.sh"], "--http2", False),
    **{f"Python, {name}": (PYTHON, name, False) for name in ("http.client", "requests", "aiohttp", "httpx")},
    "Python, httpx, HTTP/2": (PYTHON, "httpx-http2", True),
    **{f"Node, {name}": (NODE, name, False) for name in ("fetch", "http")},
    **{f"Node, undici {name}": (NODE, f"undici {name}", False) for name in ("request", "pipelining", "stream")},
    **{f"Go, {name}": (GO, name, False) for name in ("reader", "pipe", "file")},
    "Java, HttpClient": (JAVA, "http1", False),
    "Java, HttpClient, asks for HTTP/2": (JAVA, "http2", False),
    "Java, HttpURLConnection": (JAVA, "connection", False),
}
# Connections that a script may take, where it is not one. curl gives one up when a body that it announced with
# "Expect: 100-continue" is refused; Node's fetch opens another while the first has a reply's end to read.
CONNECTIONS = {"curl, HTTP/1.0": 100, "curl": 2, "curl, asks for HTTP/2": 2, "Node, fetch": 2}
WAYS = ("direct", *proxies.NAMES)


@pytest.fixture(scope="module")
def running(build, demo):
    with Service(build, demo.path, "--max-body", "4M") as running:
        yield running


@pytest.fixture(scope="module")
def front(running):
    """front(way): the addresses for HTTP/1.1 and HTTP/2 on that way to the server."""
    started = {}

    def start(way):
        if way == "direct":
            return running.address, None
        if way not in started:
            started[way] = proxies.Proxy(way, running)
        return started[way].address, started[way].http2

    yield start
    for proxy in started.values():
        proxy.__exit__()


@pytest.fixture(scope="session")
def go_client(tmp_path_factory):
    """The Go program, compiled once."""
    directory = tmp_path_factory.mktemp("go")
    subprocess.run(["go", "build", "-o", directory / "client", HERE / "client.go"], check=True, cwd=directory,
                   env=builds.environment(GOCACHE=directory / "cache", GO111MODULE="off", GOFLAGS=""))
    return [directory / "client"]


@pytest.fixture(scope="module")
def script(demo, running, tmp_path_factory):
    """script(form): a file of requests, and for each the status and, where they are scores, the scores to expect."""
    directory = tmp_path_factory.mktemp("script")
    rng = random.Random(8)
    small = demo.request(rng, history=3, candidates=2)
    large = demo.request(rng, history=60, candidates=2000)
    bodies = {"small": json.dumps(small).encode(), "large": json.dumps(large).encode(), "wrong": b'{"candidates": 7}',
              "padded": json.dumps(small).encode() + b" " * 2_000_000,
              "history": json.dumps({"history": small["history"]}).encode()}
    scores = {name: running.score(bodies[name]).scores() for name in ("small", "large", "padded")}
    for name, body in bodies.items():
        (directory / name).write_bytes(body)
    steps = [("GET", "/health/ready", None, 200), *[("POST", "/score", "small", 200)] * 3, ("POST", "/score", "large", 200),
             ("POST", "/score", "wrong", 400), ("POST", "/score", "padded", 200),
             ("POST", "/users/client/history", "history", 200), ("GET", "/users/client", None, 200),
             ("DELETE", "/users/client", None, 204), ("GET", "/users/client", None, 404),
             ("POST", "/nowhere", "small", 404), ("POST", "/score", "small", 200)]

    def write(form):
        path = directory / f"{form}.script"
        with open(path, "w") as file:
            for method, target, body, _ in steps:
                print(method, target, *(("none", "-") if body is None else (form, directory / body)), file=file)
        return path, [(status, scores.get(body) if target == "/score" else None) for _, target, body, status in steps]

    return write


def cases():
    """HTTP/2 without TLS is spoken by the proxies only, and HTTP/1.0 has no chunks."""
    for name, (_, variant, http2) in CLIENTS.items():
        for way in WAYS:
            for form in ("plain", "stream"):
                if not (http2 and way == "direct") and not (variant == "--http1.0" and form == "stream"):
                    yield pytest.param(name, way, form, id=f"{name}; {way}; {form}")


@pytest.mark.parametrize(("name", "way", "form"), cases())
def test_client(running, front, script, go_client, name, way, form):
    command, variant, http2 = CLIENTS[name]
    address = front(way)[1 if http2 else 0]
    path, expected = script(form)
    before = running.metrics()
    program = go_client if command is GO else command
    ran = subprocess.run([str(word) for word in (*program, "http://%s:%d" % address, path, variant)], capture_output=True,
                         timeout=SECONDS, check=False, env=builds.environment(NODE_TOOLS=TOOLS))
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    answers = [line.partition(" ") for line in ran.stdout.decode().splitlines()]
    assert [int(status) for status, _, _ in answers] == [status for status, _ in expected], ran.stdout[-3000:]
    for (_, _, text), (status, scores) in zip(answers, expected):
        body = base64.b64decode(text)
        if scores and status == 200:
            assert {each["index"]: each["score"] for each in json.loads(body)["results"]} == scores
        elif status >= 400:
            assert json.loads(body)["status"] == status
    if way == "direct":
        opened = running.metrics()["dien_connections_accepted_total"] - before["dien_connections_accepted_total"] - 1
        assert opened <= CONNECTIONS.get(name, 1), f"{opened} connections"
