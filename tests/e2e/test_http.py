"""HTTP itself: paths, methods, types, lengths, limits, headers that could smuggle a request, slow and vanishing clients."""

import json
import random
import socket
import struct
import threading
import time

import pytest

from support import builds
from support.service import head

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work

SECOND = b"GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n"
READ_PATHS = ["/health", "/health/live", "/health/ready", "/model", "/metrics", "/openapi.json"]


@pytest.fixture(scope="module")
def good(demo):
    return json.dumps(demo.request(random.Random(4), history=4, candidates=3)).encode()


def problem_of(reply, status, slug):
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status and problem["type"].rstrip("/").endswith(slug), problem
    return problem


@pytest.mark.parametrize("path", ["/", "/scores", "/score/", "/health/", "/health/nothing", "//score", "/../etc/passwd",
                                  "/SCORE", "/%73core"])
def test_not_found(server, neighbour, good, path):
    with server.client() as client:
        problem_of(client.get(path), 404, "not-found")
        problem_of(client.post(good, path=path), 404, "not-found")
        assert client.post(good).status == 200


def test_query_string_is_ignored(server, good):
    with server.client() as client:
        assert client.post(good, path="/score?trace=1").status == 200
        assert client.get("/health?x").status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"])
def test_method_not_allowed_on_score(server, neighbour, good, method):
    with server.client() as client:
        reply = client.ask(method, "/score")
        problem_of(reply, 405, "method-not-allowed")
        assert reply.headers["Allow"] == "POST"
        assert client.post(good).status == 200


@pytest.mark.parametrize("path", READ_PATHS)
def test_method_not_allowed_on_read_paths(server, neighbour, good, path):
    with server.client() as client:
        for method, body in (("POST", b"{}"), ("PUT", b"{}"), ("DELETE", None)):
            reply = client.ask(method, path, body)
            problem_of(reply, 405, "method-not-allowed")
            assert {each.strip() for each in reply.headers["Allow"].split(",")} == {"GET", "HEAD"}
        assert client.post(good).status == 200


@pytest.mark.parametrize("path", READ_PATHS)
def test_head_is_get_without_a_body(server, path):
    with server.client() as client:
        got, headed = client.get(path), client.ask("HEAD", path)
        assert (headed.status, headed.body) == (200, b"")
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert client.get(path).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonx", "application/x-www-form-urlencoded",
                                          "multipart/form-data; boundary=x", "json", ""])
def test_unsupported_media_type(server, neighbour, good, content_type):
    with server.client() as client:
        problem_of(client.post(good, **{"Content-Type": content_type}), 415, "unsupported-media-type")
        assert client.post(good).status == 200


def test_no_content_type(server, neighbour, good):
    with server.client() as client:
        problem_of(client.ask("POST", "/score", good), 415, "unsupported-media-type")
        assert client.post(good).status == 200


# Lengths.

def test_no_length(server, neighbour):
    with server.raw() as raw:
        raw.send(head(None))
        problem_of(raw.reply(), 411, "length-required")


def test_body_over_the_limit(start, good):
    limit = 4096
    server = start("--max-body", str(limit))
    with server.client() as client:
        at_limit = good + b" " * (limit - len(good))
        assert client.post(at_limit).status == 200
        problem_of(client.post(at_limit + b" "), 413, "body-too-large")
        problem_of(server.score(b" " * 3_000_000), 413, "body-too-large")
        assert server.score(good).status == 200


@pytest.mark.parametrize("length", [10**9, 2**63 - 1, 2**63, 2**64, 10**30])
def test_body_far_over_the_limit_is_refused_by_its_head(server, neighbour, good, length):
    with server.raw() as raw:
        raw.send(head(length) + b'{"candidates')
        reply = raw.reply()
        assert reply is None or reply.status in (400, 413)
        assert raw.closed()


def test_expect_continue(server, neighbour, good):
    with server.raw() as raw:
        raw.send(head(len(good), "Expect: 100-continue"))
        assert raw.reply().status == 100
        raw.send(good)
        assert raw.reply().status == 200


def test_expect_continue_with_too_large_a_body(server, neighbour):
    """The body is not asked for."""
    with server.raw() as raw:
        raw.send(head(10**9, "Expect: 100-continue"))
        problem_of(raw.reply(), 413, "body-too-large")
        assert raw.closed()


def test_expect_continue_on_a_wrong_path(server, neighbour):
    with server.raw() as raw:
        raw.send(head(10, "Expect: 100-continue", path="/nothing"))
        problem_of(raw.reply(), 404, "not-found")


# Request smuggling: where two readers of one text may see different requests, there is one answer and the end.

AMBIGUOUS = {
    "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "one length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "space before the colon": ["Content-Length : 5"],
    "tab before the colon": ["Content-Length\t: 5"],
    "length with a sign": ["Content-Length: +5"],
    "negative length": ["Content-Length: -5"],
    "hexadecimal length": ["Content-Length: 0x5"],
    "length with text": ["Content-Length: 5x"],
    "fraction": ["Content-Length: 5.0"],
    "empty length": ["Content-Length:"],
    "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "identity": ["Transfer-Encoding: identity"],
    "chunked in disguise": ["Transfer-Encoding: xchunked"],
    "chunked after a list": ["Transfer-Encoding: gzip, chunked"],
    "folded transfer encoding": ["Transfer-Encoding:\r\n chunked"],
    "quoted": ['Transfer-Encoding: "chunked"'],
    "name with a bracket": ["Content-Length: 5", "X(Y): 1"],
    "name with a space": ["Content-Length: 5", "X Y: 1"],
    "space before the first name": [" Content-Length: 5"],
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("body", [b"0\r\n\r\n" + SECOND, b"00000" + SECOND, SECOND], ids=["chunk", "five", "none"])
def test_smuggling(server, neighbour, lines, body):
    text = "\r\n".join(["POST /score HTTP/1.1", "Host: test", "Content-Type: application/json", *lines]) + "\r\n\r\n"
    with server.raw() as raw:
        raw.send(text.encode() + body)
        reply = raw.reply()
        assert reply is None or reply.status in (400, 411, 413), reply
        assert reply is None or reply.closes
        assert raw.closed(), "a second answer: the smuggled request was read"


def test_smuggling_on_other_paths(server, neighbour):
    """The guard stands before the routes."""
    for path in (*READ_PATHS, "/nothing"):
        for method in ("GET", "POST"):
            with server.raw() as raw:
                raw.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n"
                         .encode() + b"00000" + SECOND)
                reply = raw.reply(method)
                assert reply is None or reply.status == 400
                assert raw.closed()


def test_smuggling_after_a_good_request(server, neighbour, good):
    """On a connection that was fine so far."""
    with server.raw() as raw:
        raw.send(head(len(good)) + good)
        assert raw.reply().status == 200
        raw.send(head(5, "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SECOND)
        assert raw.reply().status in (400, 411)
        assert raw.closed()


def test_pipelined_requests(server, neighbour, good):
    """Sent at once, answered in order."""
    with server.raw() as raw:
        raw.send(b"".join(head(len(good), f"X-Request-Id: p{i}") + good for i in range(5)) + SECOND)
        for i in range(5):
            reply = raw.reply()
            assert reply.status == 200 and reply.headers["X-Request-Id"] == f"p{i}"
        assert raw.reply("GET").status == 200


def test_http_1_0(server, neighbour, good):
    with server.raw() as raw:
        raw.send(head(len(good), version="1.0") + good)
        assert raw.reply().status == 200
        assert raw.closed()


def test_connection_close(server, neighbour, good):
    with server.raw() as raw:
        raw.send(head(len(good), "Connection: close") + good)
        reply = raw.reply()
        assert reply.status == 200 and reply.closes
        assert raw.closed()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\r\n\r\n", b"\x00" * 2000,
                                     b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /score\r\n\r\n",
                                     b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"])
def test_not_http(server, neighbour, garbage):
    """An answer of 4xx or 505, or the end of the connection; never silence for ever."""
    with server.raw() as raw:
        try:
            raw.send(garbage)
            raw.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has ended the connection already
        reply = raw.reply("GET")
        assert reply is None or 400 <= reply.status < 500 or reply.status == 505, reply


def test_too_many_headers(server, neighbour, good):
    with server.raw() as raw:
        try:
            raw.send(head(len(good), *[f"X-Header-{i}: {'x' * 100}" for i in range(2000)]) + good)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end: as good an answer as 431
        reply = raw.reply()
        assert reply is None or reply.status in (400, 413, 431)


@pytest.mark.parametrize("options, name, kilobytes, status", [
    ((), "X-Trace", 21, 200), ((), "X-Trace", 22, 431), (("--connection-memory", "32K"), "X-Trace", 29, 200),
    ((), "Cookie", 21, 200), ((), "Cookie", 22, 431), (("--connection-memory", "32K"), "Cookie", 29, 200)])
def test_size_of_headers(start, good, options, name, kilobytes, status):
    """--connection-memory, 24K by default, holds a request's head, whichever header has the bytes."""
    with start(*options).raw() as raw:
        raw.send(head(len(good), f"{name}: {'x' * (kilobytes << 10)}") + good)
        assert raw.reply().status == status


# Slow clients: a total deadline for head and body, whatever trickles in.

DEADLINE = 2.0


def longest():
    """Seconds after which a connection is held to be kept for good; a server that keeps the deadline may be late."""
    return DEADLINE + 6 * builds.slowness()


@pytest.fixture(scope="module")
def impatient(build, demo):
    from support.service import Service
    limit = str(DEADLINE)
    with Service(build, demo.path, "--header-timeout", limit, "--body-timeout", limit, "--idle-timeout", limit) as running:
        yield running


def trickle(raw, data, seconds):
    """Send a byte every tenth of a second until the server ends it; the time that it took, and the reply."""
    started = time.monotonic()
    raw.socket.settimeout(0.1)
    got = b""
    for byte in data:
        try:
            raw.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            break
        try:
            more = raw.socket.recv(65536)
        except TimeoutError:
            more = None
        except ConnectionResetError:
            break
        if more == b"":
            break
        got += more or b""
        if time.monotonic() - started > seconds:
            raise AssertionError(f"still connected after {seconds:.1f} s")
    return time.monotonic() - started, got


@pytest.mark.parametrize("after", [0, 1], ids=["first request", "second request"])
def test_a_byte_at_a_time_in_the_head(impatient, good, after):
    with impatient.raw() as raw:
        for _ in range(after):
            raw.send(head(len(good)) + good)
            assert raw.reply().status == 200
        took, got = trickle(raw, head(10, "X-Slow: " + "x" * 1000), longest())
        assert DEADLINE * 0.5 < took < longest()
        assert not got or b" 408 " in got.split(b"\r\n")[0]
        assert impatient.score(good).status == 200


@pytest.mark.parametrize("after", [0, 1], ids=["first request", "second request"])
def test_a_byte_at_a_time_in_the_body(impatient, good, after):
    with impatient.raw() as raw:
        for _ in range(after):
            raw.send(head(len(good)) + good)
            assert raw.reply().status == 200
        raw.send(head(10_000))
        took, got = trickle(raw, b" " * 10_000, longest())
        assert DEADLINE * 0.5 < took < longest()
        assert b" 408 " in got.split(b"\r\n")[0], got[:100]
        assert impatient.score(good).status == 200


@pytest.mark.parametrize("said", [b"", b"POST /score HTTP/1.1\r\n", head(10)], ids=["nothing", "half a head", "no body"])
def test_a_silent_client(impatient, good, said):
    """Connected, and then silence: closed in the end."""
    with impatient.raw(timeout=longest()) as raw:
        started = time.monotonic()
        raw.send(said)
        reply = raw.reply()
        assert reply is None or reply.status == 408
        assert raw.closed()
        assert time.monotonic() - started < longest()
        assert impatient.score(good).status == 200


def test_an_idle_connection_is_closed(impatient, good):
    with impatient.raw(timeout=longest()) as raw:
        raw.send(head(len(good)) + good)
        assert raw.reply().status == 200
        started = time.monotonic()
        assert raw.closed()
        assert DEADLINE * 0.5 < time.monotonic() - started < longest()


def test_many_slow_clients_keep_nobody_waiting(impatient, good):
    slow = [impatient.raw() for _ in range(50)]
    for raw in slow:
        raw.send(head(1000) + b"{")
    started = time.monotonic()
    for _ in range(20):
        assert impatient.score(good).status == 200
    assert time.monotonic() - started < DEADLINE * impatient.build.patience  # one would wait for --body-timeout
    for raw in slow:
        raw.socket.close()


# Clients that go away.

def vanish(raw):
    """Close with a reset, as a crashed client's kernel does."""
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()


def test_client_gone_in_the_head(server, neighbour, good):
    text = head(len(good))
    for length in range(1, len(text), 5):
        raw = server.raw()
        raw.send(text[:length])
        (vanish if length % 2 else lambda each: each.socket.close())(raw)


def test_client_gone_in_the_body(server, neighbour, good):
    for length in range(0, len(good), 7):
        raw = server.raw()
        raw.send(head(len(good)) + good[:length])
        (vanish if length % 2 else lambda each: each.socket.close())(raw)


def test_half_closed_client_gets_its_answer(server, neighbour, good):
    with server.raw() as raw:
        raw.send(head(len(good)) + good)
        raw.socket.shutdown(socket.SHUT_WR)
        reply = raw.reply()
        assert reply is None or reply.status == 200


def test_client_gone_while_queued(start, demo, rng):
    """One thread and long requests: most of these clients are gone before their turn."""
    server = start("--threads", "1", "--deadline", "4")
    body = json.dumps(demo.request(rng, history=50, candidates=1000)).encode()
    small = json.dumps(demo.request(rng, history=3, candidates=2)).encode()
    before = server.score(small).scores()
    for _ in range(3):
        gone = [server.raw() for _ in range(20)]
        for raw in gone:
            raw.send(head(len(body)) + body)
        for raw in gone:
            vanish(raw)
    after = server.score(small)
    while after.status in (503, 504):  # the queue is long, where processors are busy
        after = server.score(small)
    assert after.scores() == before


def test_a_client_that_reads_nothing(server, neighbour, demo, rng):
    """Replies pile up in the socket; nobody else waits for them."""
    body = json.dumps(demo.request(rng, history=3, candidates=1000)).encode()
    with server.raw() as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(3):
            raw.send(head(len(body)) + body)
        assert server.score(body).status == 200
        for _ in range(3):
            assert raw.reply().status == 200


def test_connections_come_and_go(server, good):
    """Connections are given back: the count returns to where it was."""
    def open_now():
        return server.metrics()["dien_connections"]
    before = open_now()  # those of the tests before, some of which are yet to be closed
    many = [server.raw() for _ in range(100)]
    for raw in many:
        raw.send(head(len(good)) + good)
    for raw in many:
        assert raw.reply().status == 200
    assert open_now() >= 100
    for raw in many:
        raw.socket.close()
    limit = time.monotonic() + 60
    while open_now() > before and time.monotonic() < limit:
        time.sleep(0.05)
    assert open_now() <= before


def test_good_requests_among_every_kind_of_bad_one(server, neighbour, good):
    """All at once from many threads."""
    faults = []

    def bad(kind):
        for _ in range(15):
            raw = server.raw()
            raw.send([b"\x00\xff", head(5, "Content-Length: 6") + b"00000", head(10**12), head(len(good)) + good[:9],
                      head(3) + b"{{{", head(None, "Transfer-Encoding: chunked")][kind])
            vanish(raw)

    def fine():
        with server.client() as client:
            for _ in range(30):
                if client.post(good).status != 200:
                    faults.append("not 200")

    threads = [threading.Thread(target=bad, args=(kind,)) for kind in range(6)]
    threads += [threading.Thread(target=fine) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
