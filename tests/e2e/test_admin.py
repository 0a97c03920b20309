"""The admin plane: who may call it, and its calls for models, log level and drain."""

import json
import os
import random
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from support import builds
from support.service import Client, Raw, head
from test_reload import DIGEST, TOLERANT, Link, Load, altered, expected

TOKEN = "a-token.of+ours/12345=="
JSON = {"Content-Type": "application/json"}
CALLS = [("GET", "/models"), ("GET", "/metrics"), ("GET", "/users/nobody"), ("POST", "/models/reload"),
         ("POST", "/models/rollback"), ("POST", "/models/candidate"), ("DELETE", "/models/candidate"),
         ("POST", "/models/promote"), ("PUT", "/log-level"), ("DELETE", "/users/nobody"), ("POST", "/users/u/history"),
         ("POST", "/drain")]  # which comes last
OWN = [call for call in CALLS if call[1].startswith(("/models", "/log-level", "/drain"))]
GOOD = {"/models/reload": 200, "/models/rollback": 409, "/models/candidate": 409, "/models/promote": 409, "/log-level": 200,
        "/drain": 202}


class Plane:
    """A server's admin plane, by the address in its log."""

    def __init__(self, server, token=None):
        text = server.logged_line(event="admin-listening")["address"]
        self.server = server
        self.token = {"Authorization": f"Bearer {token}"} if token else {}
        self.name = text
        host, _, port = text.rpartition(":")
        self.address = text.removeprefix("unix:") if text.startswith("unix:") else (host.strip("[]"), int(port))

    def ask(self, method, path, body=None, **headers):
        """One call on a connection of its own. A header that is None is left out."""
        if method != "GET":
            headers = {**JSON, **headers}
        headers = {name.replace("_", "-"): value for name, value in {**self.token, **headers}.items() if value is not None}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with Client(self.address) as client:
            return client.ask(method, path, body, headers)

    def models(self):
        reply = self.ask("GET", "/models")
        assert reply.status == 200, reply
        return {model["slot"]: model for model in reply.json()["models"]}


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture
def versions(demo, tmp_path):
    return [demo.copy(tmp_path / "one"), altered(demo, tmp_path / "two", "2", shift=0.5)]


@pytest.fixture
def link(versions, tmp_path):
    return Link(tmp_path / "current", versions[0].path)


@pytest.fixture
def plane(start, link):
    """On loopback, without a token, before a model that can be replaced."""
    return Plane(start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--header-timeout", "1", model=link))


def body_of(path, method="POST"):
    """Of a call that is good; a candidate is not named where there is none to be loaded."""
    if method == "DELETE":
        return None
    return {"/log-level": {"level": "info"}, "/models/candidate": {"shadow": 0},
            "/users/u/history": {"history": []}}.get(path)


def problem(reply, status, slug):
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    told = reply.json()
    assert told["type"] == f"urn:dien:problem:{slug}" and told["status"] == status, told
    return told


# Who may call.

def test_without_it_nothing_is_there(server):
    """On the public port its paths do not exist."""
    with server.client() as client:
        for method, path in OWN:
            problem(client.ask(method, path, b"{}", JSON), 404, "not-found")


def test_its_paths_are_not_on_the_public_port(plane):
    with plane.server.client() as client:
        for method, path in OWN:
            problem(client.ask(method, path, b"{}", JSON), 404, "not-found")
    for path in ("/score", "/model", "/health", "/health/live", "/health/ready"):
        problem(plane.ask("GET", path), 404, "not-found")


def test_every_route_without_with_a_wrong_and_with_the_right_token(start, token_file):
    server = start("--admin-listen", "127.0.0.1:0", "--admin-token-file", token_file, "--drain-delay", "0.2")
    plane = Plane(server)
    wrong = [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}=", f"Basic {TOKEN}", TOKEN,
             f"Bearer {TOKEN.upper()}", f"Bearer {'x' * 4000}"]
    for method, path in [*CALLS, ("GET", "/nowhere"), ("PUT", "/models")]:
        for authorization in wrong:
            reply = plane.ask(method, path, body_of(path, method), Authorization=authorization)
            problem(reply, 401, "unauthorized")
            assert reply.headers["WWW-Authenticate"] == "Bearer"
    for method, path in CALLS:
        if path == "/drain":
            counts = [value for name, value in server.metrics().items() if 'status="401"' in name]
            assert sum(counts) == (len(CALLS) + 2) * len(wrong)
            server.terminated = True
        status = plane.ask(method, path, body_of(path, method), Authorization=f"bearer {TOKEN}").status
        assert status not in (401, 403), (method, path)


def test_the_token_is_read_again(start, token_file, tmp_path):
    server = start("--admin-listen", "127.0.0.1:0", "--admin-token-file", token_file)
    old, new = Plane(server, TOKEN), Plane(server, "another")
    assert (old.ask("GET", "/models").status, new.ask("GET", "/models").status) == (200, 401)
    next_file = tmp_path / "next"
    next_file.write_text("another")
    os.replace(next_file, token_file)
    server.terminate(signal.SIGHUP)
    server.logged_line(event="reload")
    assert (old.ask("GET", "/models").status, new.ask("GET", "/models").status) == (401, 200)
    token_file.write_text("\n")
    server.terminate(signal.SIGHUP)
    assert str(token_file) in server.logged_line(event="token-refused")["message"]
    assert new.ask("GET", "/models").status == 200, "the token before stays"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_other_machines_need_a_token(build, demo, listen, tmp_path):
    for options, said in (((), "--admin-token-file: a token is needed"),
                          (("--admin-token-file", tmp_path / "missing"), "No such file"),
                          (("--admin-token-file", "/dev/null"), "a token has 1 to 255 visible characters")):
        status, output = run(build, "--model", demo.path, "--listen", "127.0.0.1:0", "--admin-listen", listen, *options)
        assert status == 1 and said in output, output


def run(build, *arguments):
    ran = subprocess.run([build.server, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False,
                         env=builds.environment())
    return ran.returncode, ran.stdout + ran.stderr


def test_a_file_is_its_owner_s_alone(start, tmp_path):
    path = tmp_path / "admin.sock"
    server = start("--admin-listen", f"unix:{path}", "--listen-mode", "666")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plane = Plane(server)
    assert plane.ask("GET", "/models").status == 200
    assert plane.ask("PUT", "/log-level", {"level": "info"}, Host="anything.example").status == 200
    problem(plane.ask("GET", "/models", Origin="http://localhost"), 403, "foreign-call")
    server.terminate()
    assert server.wait() == 0 and not path.exists()


def test_hosts_and_origins(start):
    """The address of the admin plane, in its forms, and nothing else: on loopback, for calls that only read, too."""
    server = start("--admin-listen", "127.0.0.1:0", "--admin-host", "dien-admin.example:9000")
    plane = Plane(server)
    port = plane.address[1]
    public = server.address[1]
    good = [f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", "dien-admin.example:9000"]
    bad = ["127.0.0.1", "localhost", f"127.0.0.1:{public}", f"127.0.0.2:{port}", f"[::1]:{port}", f"evil.example:{port}",
           f"127.0.0.1.evil.example:{port}", "dien-admin.example", f"localhost.:{port}", f"0.0.0.0:{port}",
           f"127.1:{port}", f"2130706433:{port}", "", f":{port}", f"127.0.0.1:{port}0", f"127.0.0.1:0{port}x"]
    for host in good:
        assert plane.ask("PUT", "/log-level", {"level": "info"}, Host=host).status == 200, host
        for scheme in ("http", "https"):
            assert plane.ask("PUT", "/log-level", {"level": "info"}, Host=host, Origin=f"{scheme}://{good[0]}").status == 200
    for host in bad:
        problem(plane.ask("PUT", "/log-level", {"level": "info"}, Host=host), 403, "foreign-call")
        problem(plane.ask("GET", "/models", Host=host), 403, "foreign-call")
    for origin in ("null", "", "http://evil.example", f"http://127.0.0.1:{public}", "http://127.0.0.1",
                   f"ftp://127.0.0.1:{port}", f"http://127.0.0.1:{port}/", f"http://evil.example:{port}", "file://"):
        for method, path in (("PUT", "/log-level"), ("GET", "/models"), ("GET", "/users/u")):
            problem(plane.ask(method, path, body_of(path, method), Origin=origin), 403, "foreign-call")
    with Raw(plane.address) as raw:  # a target with a host of its own
        raw.send(head(2, f"Host: 127.0.0.1:{port}", method="PUT", path="http://evil.example/log-level")
                 .replace(b"Host: test\r\n", b"") + b"{}")
        problem(raw.reply(), 403, "foreign-call")


def test_with_a_token_reads_may_come_by_any_name(start, token_file):
    """Prometheus scrapes by the name of a service; a browser does not have the token."""
    plane = Plane(start("--admin-listen", "0.0.0.0:0", "--admin-token-file", token_file), TOKEN)
    address = ("127.0.0.1", plane.address[1])
    plane.address = address
    assert plane.ask("GET", "/metrics", Host="dien.monitoring.svc:9000").status == 200
    problem(plane.ask("POST", "/models/reload", Host="dien.monitoring.svc:9000"), 403, "foreign-call")
    assert plane.ask("PUT", "/log-level", {"level": "info"}, Host=f"127.0.0.1:{address[1]}").status == 200


def test_a_wildcard_of_both_families(start, token_file):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    plane = Plane(start("--admin-listen", "[::]:0", "--admin-token-file", token_file), TOKEN)
    port = plane.address[1]
    for address, host in (("127.0.0.1", f"127.0.0.1:{port}"), ("127.0.0.1", f"localhost:{port}"), ("::1", f"[::1]:{port}"),
                          ("::1", f"[0:0::1]:{port}"), ("::1", f"localhost:{port}")):
        plane.address = (address, port)
        assert plane.ask("PUT", "/log-level", {"level": "info"}, Host=host).status == 200, host


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[0] != "GET"])
def test_calls_that_change_something_say_that_they_are_json(plane, method, path):
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"):
        reply = plane.ask(method, path, body_of(path, method), **{"Content-Type": kind})
        problem(reply, 415, "unsupported-media-type")
    if path in GOOD:
        assert reply.headers["Accept"] == "application/json"
        problem(plane.ask(method, path, b"{}", **{"Content-Encoding": "gzip"}), 415, "unsupported-content-coding")
        plane.server.terminated = path == "/drain"
        told = plane.ask(method, path, body_of(path, method), **{"Content-Type": "application/json; charset=utf-8"})
        assert told.status == GOOD[path]


def test_wrong_methods_bodies_and_sizes(plane):
    for method, path in OWN:
        for other in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {allowed for allowed, place in OWN if place == path}:
            reply = plane.ask(other, path)
            problem(reply, 405, "method-not-allowed")
            assert method in reply.headers["Allow"]
    for path in ("/models/reload", "/models/rollback", "/drain"):
        for body, slug in ((b"[]", "invalid-request"), (b"{", "invalid-json"), (b'{"a": 1}', "invalid-request")):
            problem(plane.ask("POST", path, body), 400, slug)
    for body, pointer in (({}, "/level"), ({"level": 1}, "/level"), ({"level": ""}, "/level"), ({"level": "loud"}, "/level"),
                          ({"level": "info\0"}, "/level"), ({"level": "info", "x": 1}, "/x"), ([], "")):
        assert problem(plane.ask("PUT", "/log-level", body), 400, "invalid-request")["pointer"] == pointer
    problem(plane.ask("PUT", "/log-level", b""), 400, "invalid-json")
    problem(plane.ask("PUT", "/log-level", b'{"level": "' + b"x" * 5000 + b'"}'), 413, "body-too-large")
    with Raw(plane.address) as raw:  # the size of a chunked body shows late
        raw.send(head(None, "Transfer-Encoding: chunked", method="PUT", path="/log-level").replace(
            b"Host: test", f"Host: {plane.name}".encode()) + b"1388\r\n" + b" " * 5000 + b"\r\n0\r\n\r\n")
        problem(raw.reply(), 413, "body-too-large")
    assert plane.ask("PUT", "/log-level", {"level": "info"}).status == 200


HOSTILE = {"zeros": b"\0" * 100, "TLS": b"\x16\x03\x01\x02\x00\x01\x00", "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
           "two hosts": b"POST /drain HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "no line end": b"x" * 100_000,
           "bare LF": b"POST /models/reload HTTP/1.1\nHost: x\n\n", "folded": b"POST /drain HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
           "two lengths": b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
           "long head": b"POST /drain HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bytes_harm_nobody(plane, kind):
    """The checks of the public port hold here: no such head is a call."""
    with Raw(plane.address) as raw:
        raw.send(HOSTILE[kind])
        reply = raw.reply()
        assert reply is None or 400 <= reply.status < 600, reply
    assert plane.ask("GET", "/models").status == 200
    assert plane.server.metrics()["dien_ready"] == 1


# Models.

def test_models_by_slot(plane, versions, link):
    first = plane.models()
    assert list(first) == ["live"]
    assert first["live"]["version"] == "1" and first["live"]["loaded_by"] == "start" and first["live"]["bytes"] > 1000
    link.set(versions[1].path)
    told = plane.ask("POST", "/models/reload")
    assert told.status == 200, told
    slots = plane.models()
    assert told.json()["models"] == list(slots.values())
    assert (slots["live"]["version"], slots["live"]["loaded_by"]) == ("2", "admin")
    assert slots["previous"] == {**first["live"], "slot": "previous"}
    page = plane.ask("GET", "/models").json()
    assert page["loads"] == {"live": 2, "candidate": 0, "refused": 0, "busy": 0}
    assert page["loading"] is False and page["rollbacks"] == 0
    with plane.server.client() as client:
        assert client.get("/model").json()["sha256"] == slots["live"]["sha256"]


def test_a_refused_model_says_why(plane, versions, link, demo):
    before = plane.models()
    body = demo.request(random.Random(1), history=3, candidates=3)
    scores = plane.server.score(body).scores()
    (versions[1].path / "samples.json").unlink()
    link.set(versions[1].path)
    told = problem(plane.ask("POST", "/models/reload"), 422, "model-refused")
    assert "samples.json" in told["detail"]
    assert plane.models() == before and plane.server.score(body).scores() == scores
    assert plane.ask("GET", "/models").json()["last_failure"]["reason"] == told["detail"]


def test_a_second_reload_is_answered_at_once(plane, link):
    """The model's samples are a pipe: the load lasts until somebody writes into it."""
    stopped = link.path.with_name("three")
    os.mkdir(stopped)
    for name in ("config.json", "model.safetensors"):
        os.link(link.path.resolve() / name, stopped / name)
    os.mkfifo(stopped / "samples.json")
    link.set(stopped)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(plane.ask("POST", "/models/reload")))
    caller.start()
    plane.server.logged_line(event="reload")
    held = os.open(stopped / "samples.json", os.O_RDWR)
    try:
        loading = plane.ask("GET", "/models").json()["loading"]
        told = plane.ask("POST", "/models/reload")
    finally:
        os.write(held, b"{}")
        os.close(held)
        caller.join()
    if loading:
        problem(told, 409, "load-under-way")
    assert answers[0].status in (200, 422), answers


def test_a_rollback_needs_no_load(plane, versions, link):
    problem(plane.ask("POST", "/models/rollback"), 409, "no-previous-model")
    link.set(versions[1].path)
    assert plane.ask("POST", "/models/reload").status == 200
    one, two = plane.models()["previous"], plane.models()["live"]
    for directory in versions:  # nothing is read
        for file in directory.path.iterdir():
            if file.name != "model.safetensors":
                file.unlink()
    for turn in range(4):
        told = plane.ask("POST", "/models/rollback")
        assert told.status == 200
        live, previous = told.json()["models"]
        assert (live["version"], previous["version"]) == (("1", "2") if turn % 2 == 0 else ("2", "1"))
        with plane.server.client() as client:
            assert client.get("/model").json()["sha256"] == (one if turn % 2 == 0 else two)["sha256"]
    assert plane.ask("GET", "/models").json()["rollbacks"] == 4
    plane.server.logged_line(event="model-rolled-back")


def test_rollbacks_under_load(build, start, demo, versions, link):
    """Each reply is of one model, whole; a request that begins after the answer of a rollback has the model of before."""
    body = demo.request(random.Random(3), history=20, candidates=32 if build.sanitized else 200)
    known = expected(build, versions, body)
    digests = {version: digest for digest, version, _ in known}
    server = start(*TOLERANT, "--threads", "2", "--admin-listen", "127.0.0.1:0", model=link)
    plane = Plane(server)
    link.set(versions[1].path)
    assert plane.ask("POST", "/models/reload").status == 200
    with Load(server, body) as load:
        for turn in range(20):
            assert plane.ask("POST", "/models/rollback").status == 200
            assert server.score(body).headers[DIGEST] == digests["1" if turn % 2 == 0 else "2"]
    assert load.replies <= known


# The rest.

def test_log_levels(plane):
    assert plane.ask("PUT", "/log-level", {"level": "debug"}).json() == {"level": "debug"}
    with plane.server.client() as client:
        client.get("/health", **{"X-Request-Id": "at-debug"})
    plane.server.logged("at-debug")
    assert plane.ask("PUT", "/log-level", {"level": "error"}).json() == {"level": "error"}
    plane.server.logged_line(event="log-level", to="error")
    with plane.server.client() as client:
        client.post("{", **{"X-Request-Id": "at-error"})
    assert plane.ask("PUT", "/log-level", {"level": "info"}).status == 200
    with plane.server.client() as client:
        client.post("{", **{"X-Request-Id": "at-info"})
    plane.server.logged("at-info")
    assert "at-error" not in plane.server.output


def test_users_and_metrics(start, demo, tmp_path):
    """The routes about users, with JSON and with protobuf, and with no token but that of the admin plane."""
    token = tmp_path / "write"
    token.write_text("write")
    server = start("--admin-listen", "127.0.0.1:0", "--histories", f"lmdb:{tmp_path / 'store'}", "--user-write", "token",
                   "--user-write-token-file", token)
    plane = Plane(server)
    history = {"event_id": "one", "history_append": demo.request(random.Random(1), history=4, candidates=1)["history"]}
    with server.client() as client:
        problem(client.post(history, "/users/u/history"), 403, "write-refused")
    assert plane.ask("POST", "/users/u/history", history).status == 200
    assert plane.ask("GET", "/users/u").json()["history"]["length"] == 4
    assert plane.ask("DELETE", "/users/u").status == 204
    with server.client() as client:
        assert client.get("/users/u").status == 404
    page = plane.ask("GET", "/metrics").body.decode()
    assert "\ndien_admin_connections 1\n" in page
    assert '\ndien_limit_items{name="admin_connections"} 64\n' in page
    assert '\ndien_http_responses_total{route="/log-level",status="200"} 0\n' in page


def test_drain(start, demo):
    server = start("--admin-listen", "127.0.0.1:0", "--drain-delay", "0.5")
    plane = Plane(server)
    told = plane.ask("POST", "/drain")
    assert told.status == 202 and told.json() == {"status": "draining"}
    line = server.logged_line(event="draining")
    assert "signal" not in line
    with server.client() as client:
        assert client.get("/health/ready").status == 503
        assert client.post(demo.request(random.Random(1), history=1, candidates=1)).status == 200
    assert plane.ask("POST", "/drain").status == 202, "it drains, and is not killed"
    server.terminated = True
    assert server.wait() == 0


def test_sigterm_after_a_drain_is_not_a_second_signal(start):
    """Kubernetes sends it when a preStop hook has asked for a drain."""
    server = start("--admin-listen", "127.0.0.1:0", "--drain-delay", "0.5")
    assert Plane(server).ask("POST", "/drain").status == 202
    server.logged_line(event="draining")
    server.terminate()
    assert server.wait() == 0


def test_a_drain_does_not_wait_for_a_load(start, link, demo):
    """The call that waits for the load is answered."""
    server = start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--drain-delay", "0.5", model=link)
    plane = Plane(server)
    stopped = link.path.with_name("three")
    os.mkdir(stopped)
    os.mkfifo(stopped / "config.json")
    link.set(stopped)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(plane.ask("POST", "/models/reload")))
    caller.start()
    server.logged_line(event="reload")
    plane.ask("POST", "/drain")
    caller.join()
    assert answers[0].status in (422, 503), answers
    server.terminated = True
    assert server.wait() in (0, 1)


def test_operators_are_served_while_the_public_port_is_full(start, link):
    """All connections of the public port are in use: the admin plane has its own."""
    server = start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--max-connections", "4", "--reserved-connections", "32",
                   model=link)
    plane = Plane(server)
    holding = [server.raw() for _ in range(40)]
    for raw in holding:
        raw.send(head(1000) + b"{")
    time.sleep(0.1)
    assert plane.ask("POST", "/models/reload").status == 200
    assert len(plane.models()) == 1
    for raw in holding:
        raw.socket.close()


def test_its_own_connections_are_bounded(start):
    server = start("--admin-listen", "127.0.0.1:0", "--admin-connections", "4")
    plane = Plane(server)
    idle = [Raw(plane.address) for _ in range(60)]
    for raw in idle:
        raw.send(b"GET /models HTTP/1.1\r\nHost: ")
    limit = time.monotonic() + 60
    while server.metrics()["dien_admin_connections"] > 4 + 32:
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert plane.ask("GET", "/models").status == 200
    for raw in idle:
        raw.socket.close()


# What leaves the public port.

def test_public_users_off(start, demo):
    """/users is on the admin plane alone, and no request for scores appends."""
    server = start("--admin-listen", "127.0.0.1:0", "--public-users", "off")
    plane = Plane(server)
    body = demo.request(random.Random(1), history=4, candidates=2, user_id="u")
    with server.client() as client:
        for method, path in (("GET", "/users/u"), ("DELETE", "/users/u"), ("POST", "/users/u/history"), ("POST", "/events")):
            problem(client.ask(method, path, b'{"history": []}', JSON), 404, "not-found")
        scored = client.post(body)
        assert scored.status == 200, "a history that the request brings is no change of what is stored"
        append = {"user_id": "u", "history_token": scored.json()["history"]["token"], "history_append": body["history"],
                  **{name: body[name] for name in body if name not in ("history", "user_id")}}
        told = problem(client.post(append), 403, "write-refused")
        assert told["pointer"] == "/history_append"
        del append["history_append"]
        assert client.post(append).status == 200
    assert plane.ask("GET", "/users/u").json()["history"]["length"] == 4
    assert plane.ask("POST", "/users/u/history", {"history_append": body["history"]}).json()["history"]["length"] == 8
    assert plane.ask("DELETE", "/users/u").status == 204


def test_public_metrics_off(start):
    server = start("--admin-listen", "127.0.0.1:0", "--public-metrics", "off")
    plane = Plane(server)
    with server.client() as client:
        problem(client.get("/metrics"), 404, "not-found")
        assert client.get("/health/ready").status == 200
    assert b"\ndien_ready 1\n" in plane.ask("GET", "/metrics").body


# dien-server --admin.

def call(build, plane, *words):
    status, output = run(build, "--admin", plane.name, *words)
    return status, output.splitlines()


def test_the_command(build, start, versions, link, token_file):
    """Readable text, and an exit status."""
    server = start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--admin-token-file", token_file, "--drain-delay", "0.2",
                   model=link)
    plane = Plane(server)
    token = ("--admin-token-file", token_file)
    status, lines = call(build, plane, "models", *token)
    assert status == 0 and lines[0].split() == ["SLOT", "MODEL", "VERSION", "CONFIG", "WEIGHTS", "LOADED", "BY", "BYTES"]
    assert lines[1].split()[:3] == ["live", "eshop", "1"] and lines[-1].startswith("loads: 1 live, 0 candidate, 0 refused")
    link.set(versions[1].path)
    status, lines = call(build, plane, *token, "reload")
    assert status == 0 and [line.split()[:3] for line in lines[1:3]] == [["live", "eshop", "2"], ["previous", "eshop", "1"]]
    status, lines = call(build, plane, "rollback", *token)
    assert status == 0 and lines[1].split()[:3] == ["live", "eshop", "1"]
    assert call(build, plane, "log-level", "debug", *token) == (0, ["level: debug"])
    assert call(build, plane, "log-level", "loud", *token) == (1, ["400: The level must be debug, info, warning or error."])
    link.set(link.path.parent)
    status, lines = call(build, plane, "reload", *token)
    assert status == 1 and len(lines) == 1 and lines[0].startswith("422: ") and "config.json" in lines[0]
    assert call(build, plane, "models") == (1, ["401: The admin plane takes requests with the token of its file."])
    status, lines = call(build, plane, "models", *token)
    assert status == 0 and lines[-1].startswith("last refusal, 20")
    server.terminated = True
    assert call(build, plane, "drain", *token) == (0, ["status: draining"])
    assert server.wait() == 0
    status, lines = call(build, plane, "models", *token)
    assert status == 1 and "Connection refused" in lines[0]


def test_the_command_at_a_file_and_at_itself(build, start, tmp_path):
    """In a container all flags are in the environment: "self" is the server of that environment."""
    path = tmp_path / "admin.sock"
    start("--admin-listen", f"unix:{path}")
    variables = {**builds.environment(), "DIEN_ADMIN_LISTEN": f"unix:{path}", "DIEN_MODEL": "/models/current"}
    ran = subprocess.run([build.server, "--admin", "self", "models"], capture_output=True, text=True, check=False, env=variables)
    assert ran.returncode == 0 and "live" in ran.stdout, ran


@pytest.mark.parametrize("words", [["--admin", "127.0.0.1:1"], ["--admin", "127.0.0.1:1", "model"],
                                   ["--admin", "127.0.0.1:1", "models", "all"], ["--admin", "127.0.0.1:1", "log-level"],
                                   ["--admin", "self", "models"], ["models"], ["--model", "x", "models"],
                                   ["--admin", "127.0.0.1:1", "log-level", "info", "more"],
                                   ["--admin", "127.0.0.1:1", "models", "--admin-token-file", "/nowhere"]])
def test_words_that_are_no_call(build, words):
    status, output = run(build, *words)
    assert status == 2 and len(output.splitlines()) == 1, output


def test_an_answer_that_does_not_come(build):
    """The command gives up; --admin-timeout says when."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        status, output = run(build, "--admin", address, "--admin-timeout", "0.2", "models")
    assert status == 1 and output.startswith(f"{address}: no answer"), output
