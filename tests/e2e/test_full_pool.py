"""Heads that fill a connection's memory: each gets one answer or its connection's end, and nobody else notices.

libmicrohttpd keeps a head, an entry for each header, cookie and argument, the body's buffer and the reply's head in one
pool. Heads of each size are swept through: some leave no room for the body or for the reply.
"""

import contextlib
import json
import random
import re
import time

import pytest

from support import wire
from support.service import Raw, Service, head

TOGETHER = 64  # connections open at once in a sweep
PAUSE = 0.03  # seconds between head and body, so that the server has read the head alone

# name: sizes to sweep, and a request's head with so much of it
GROWING = {
    "cookie": ([*range(21000, 23000, 23), *range(23000, 24600)], lambda size: head(2, f"Cookie: {'c' * size}")),
    "cookies in pairs": (range(1600, 1760), lambda size: head(2, "Cookie: " + "; ".join(f"k{i}=vvvvvv" for i in range(size)))),
    "header": ([*range(21000, 23000, 23), *range(23000, 24600)], lambda size: head(2, f"X-Trace: {'x' * size}")),
    "headers": (range(120, 350), lambda size: head(2, *[f"X-{i}: v" for i in range(size)])),
    "arguments and a cookie": ([*range(21000, 22800, 23), *range(22800, 24300)],
                               lambda size: head(2, f"Cookie: {'c' * size}", path="/score?" + "a&" * 100)),
    "arguments": (range(20, 13000, 37), lambda size: head(2, path="/score?" + "a&" * size)),
    "history": ([*range(21000, 23000, 23), *range(23000, 24600)],
                lambda size: head(2, f"X-Trace: {'x' * size}", path="/users/u/history")),
    "one argument": (range(21000, 24600, 23), lambda size: head(2, path="/score?" + "a" * size)),
}


def read_reply(raw):
    """The first reply's bytes, b"" where the connection ends without one."""
    got = b""
    raw.socket.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        while more := raw.socket.recv(65536):
            got += more
            head_bytes, _, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head_bytes)
            if length and len(body) >= int(length[1]):
                break
    return got


@pytest.fixture(scope="module")
def good(demo):
    return demo.request(random.Random(5), history=3, candidates=2)


@pytest.fixture
def one_thread(start):
    return start("--body-timeout", "3", "--idle-timeout", "3")


@pytest.mark.parametrize("kind", GROWING)
def test_a_head_of_any_size(one_thread, good, kind):
    """The body comes after the head: answered once, or the connection ends, and the server goes on."""
    sizes, make = GROWING[kind]
    statuses = set()
    sizes = list(sizes)
    for begin in range(0, len(sizes), TOGETHER):
        raws = [(size, Raw(one_thread.address)) for size in sizes[begin:begin + TOGETHER]]
        for size, raw in raws:
            with contextlib.suppress(OSError):
                raw.send(make(size))
        time.sleep(PAUSE)
        for _, raw in raws:
            with contextlib.suppress(OSError):
                raw.send(b"{}")
        for size, raw in raws:
            with raw:
                got = read_reply(raw)
                heads = re.findall(rb"^HTTP/1.1 (\d+)", got, re.M)
                assert len(heads) <= 1 or set(heads) == {b"431"}, (size, got)
                statuses |= set(heads)
    assert {b"400"} < statuses | {b"431"} and statuses <= {b"400", b"404", b"414", b"431"}, statuses
    with one_thread.client(timeout=5) as client:
        assert client.get("/health/live").status == 200
        assert client.post(good).status == 200
    limit = time.monotonic() + 20
    while (open_now := one_thread.metrics()["dien_connections"]) > 1:  # this one
        assert time.monotonic() < limit, f"{open_now} connections never end"
        time.sleep(0.1)


# Requests that libmicrohttpd once gave up without a word, and those that it answers by itself.
GIVEN_UP = {
    "arguments": head(None, method="GET", path="/health/live?" + "a&" * 300),
    "arguments and cookies": head(None, "Cookie: " + "; ".join(f"k{i}=v" for i in range(90)), method="GET",
                                  path="/health/live?" + "a&" * 90),
    "cookies": head(None, "Cookie: " + "; ".join(f"k{i}=v" for i in range(400)), method="GET", path="/health/live"),
    "headers": head(None, *[f"X-{i}: v" for i in range(400)], method="GET", path="/health/live"),
    "a long target": head(None, method="GET", path="/health/live?" + "a" * 20000),
    "another version": head(None, method="GET", path="/health/live", version="2.0"),
}


@pytest.mark.only_on("release")  # a sanitizer's quarantine keeps what is freed
@pytest.mark.parametrize("kind", GIVEN_UP)
def test_requests_without_a_handler_leave_nothing_behind(start, good, kind):
    """Their memory is returned and each is counted, however libmicrohttpd ends them."""
    running = start("--access-log", "off")

    def send(count):
        for _ in range(count):
            with running.raw() as raw, contextlib.suppress(OSError):
                raw.send(GIVEN_UP[kind])
                read_reply(raw)

    def counted():
        return sum(value for name, value in running.metrics().items() if name.startswith("dien_http_responses_total"))

    send(100)
    before, earlier = running.resident_bytes(), counted()
    send(1000)
    assert running.resident_bytes() - before < 768 << 10, "memory is lost"
    assert counted() - earlier >= 1000
    assert running.score(good).status == 200


# Bytes behind a request, of a next one that is never whole, share the pool with the head of its reply.

BEHIND = (0, 100, 700, 1500, 4000, 12_000)
TIGHT = {
    "header bytes": ([*range(14_000, 21_000, 331), *range(21_000, 22_700, 3)], lambda size: [f"X-Trace: {'x' * size}"]),
    "header count": ([*range(20, 330, 2)], lambda size: [f"X-{i}: v" for i in range(size)]),
    "cookie bytes": ([*range(14_000, 21_000, 331), *range(21_000, 22_700, 7)], lambda size: [f"Cookie: a={'c' * size}"]),
}
ACTIONS = {"score": ("POST", "/score"), "history": ("POST", "/users/{}/history"), "forget": ("DELETE", "/users/{}"),
           "user": ("GET", "/users/{}"), "metrics": ("GET", "/metrics"), "live": ("HEAD", "/health/live")}


@pytest.fixture(scope="module")
def accounted(build, demo):
    with Service(build, demo.path, "--log-level", "debug") as running:
        yield running


@pytest.mark.only_on("release")
@pytest.mark.parametrize("kind", TIGHT)
@pytest.mark.parametrize("route", ACTIONS)
def test_bytes_behind_a_large_head(accounted, good, route, kind):
    """One answer each, the log and the metrics with it, and applied if and only if it is 2xx."""
    sizes, lines = TIGHT[kind]
    method, path = ACTIONS[route]
    sizes = sizes if route == "history" else sizes[::3]
    history = {"history": good["history"]}
    talks = []
    for size in sizes:
        for behind in BEHIND:
            user = f"{kind[:8].replace(' ', '-')}-{size}-{behind}"
            if route == "forget":
                with accounted.client() as client:
                    assert client.post(history, path=f"/users/{user}/history").status == 200
            body = json.dumps(history if route == "history" else good | {"user_id": user}).encode() if method == "POST" else b""
            talks.append(wire.Talk(head(len(body), *lines(size), method=method, path=path.format(user)) + body +
                                   b"GET /next?"[:behind] + b"n" * (behind - 10), method=method, note=(user, size, behind)))
    account = wire.Account(accounted)
    wire.talk_all(accounted.address, talks)
    answers = {}
    for talk in talks:
        reply = talk.one()
        assert reply is not None, f"{talk}: no answer"
        answers[talk.note] = reply.status
        assert method == "HEAD" or "Content-Type" not in reply.headers or "html" not in reply.headers["Content-Type"]
    account.check(talks)
    plain = {"user": 404, "forget": 204}.get(route, 200)
    assert set(answers.values()) == {plain, 431}, set(answers.values())
    if route in ("score", "history", "forget"):
        with accounted.client() as client:
            for (user, size, behind), status in answers.items():
                there = client.get(f"/users/{user}").status == 200
                assert there == ((status == 200) if route != "forget" else (status == 431)), (user, size, behind, status)
                client.ask("DELETE", f"/users/{user}")


# The verdict on a head, wherever TCP has cut the stream.

COUNTS = [*range(100, 150, 7), *range(150, 175), *range(180, 340, 13)]
LENGTHS = [*range(9_000, 16_000, 271), *range(16_000, 22_600, 67)]


@pytest.mark.only_on("release")
@pytest.mark.parametrize("sizes, lines", [(COUNTS, lambda size: [f"X-{i}: v" for i in range(size)]),
                                          (LENGTHS, lambda size: [f"X: {'x' * size}"]),
                                          (LENGTHS[::3], lambda size: [*(f"X-{i}: v" for i in range(60)),
                                                                       f"X: {'x' * (size - 4000)}"])],
                         ids=["count", "length", "both"])
def test_the_verdict_does_not_depend_on_the_cut(accounted, good, sizes, lines):
    """Head and a body of 12 kB in one send, and the body behind the head: one status for both, 431 from one size on."""
    body = json.dumps(good).encode()
    body += b" " * (12_000 - len(body))
    heads = {size: head(len(body), *lines(size)) for size in sizes}
    together = [wire.Talk(heads[size] + body, method="POST", note=size) for size in sizes]
    wire.talk_all(accounted.address, together)
    statuses = {}
    for talk in together:
        statuses[talk.note] = talk.one().status
    for size in sizes:
        with accounted.raw() as raw:
            raw.send(heads[size])
            time.sleep(0.005)
            with contextlib.suppress(OSError):
                raw.send(body)
            assert raw.reply().status == statuses[size], size
    assert list(statuses.values()) == sorted(statuses.values()) and set(statuses.values()) == {200, 431}, statuses
