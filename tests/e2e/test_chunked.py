"""Chunked bodies: the bits of the same body with a length, at every split of the stream; and nothing that two readers of
one stream could end at different places."""

import json
import random
import time

import pytest

from support.service import head

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work

SECOND = b"GET /model HTTP/1.1\r\nHost: smuggled\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def good(demo):
    return json.dumps(demo.request(random.Random(8), history=3, candidates=2)).encode()


def chunks(body, size, extension=b"", trailer=b""):
    parts = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def problem_of(reply, status, slug):
    assert reply is not None and reply.status == status, reply
    assert reply.json()["type"].endswith(slug), reply
    return reply.json()


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 255, 4095, 4096, 8192, 16384, 10**6])
def test_same_bits_as_with_a_length(server, demo, size):
    for seed, candidates in ((1, 1), (2, 60), (3, 900)):
        body = json.dumps(demo.request(random.Random(seed), history=40, candidates=candidates)).encode()
        with server.raw() as raw:
            raw.send(head(len(body)) + body)
            expected = raw.reply()
            raw.send(head(None, CHUNKED) + chunks(body, size))
            assert raw.reply().body == expected.body and expected.status == 200
            raw.send(SECOND)  # the connection goes on
            assert raw.reply("GET").status == 200


def test_every_split_of_the_stream(server, good):
    stream = head(None, CHUNKED) + chunks(good, 50, b";a=b", b"X-Sum: 1\r\n") + head(None, CHUNKED) + chunks(good, 999) + SECOND
    with server.client() as client:
        expected = client.post(good).scores()
    for at in range(1, len(stream)):
        with server.raw() as raw:
            raw.send(stream[:at])
            time.sleep(0.001)
            raw.send(stream[at:])
            assert raw.reply().scores() == expected, at
            assert raw.reply().scores() == expected, at
            assert raw.reply("GET").json()["name"], at


def test_a_byte_at_a_time(server, good):
    with server.raw() as raw:
        for byte in head(None, CHUNKED) + chunks(good, 100) + SECOND:
            raw.send(bytes([byte]))
        assert raw.reply().status == 200
        assert raw.reply("GET").status == 200


def test_pipelined_with_other_requests(server, good):
    """Blank lines before a request line, and requests without a body, stand between."""
    parts = [head(None, CHUNKED) + chunks(good, 64), b"\r\n\r\n", head(len(good)) + good, SECOND,
             head(None, CHUNKED) + chunks(good, 1), SECOND, head(None, CHUNKED) + chunks(b"", 1)]
    with server.raw() as raw:
        raw.send(b"".join(parts))
        for expected in (200, 200, 200, 200, 200, 400):
            assert raw.reply().status == expected


@pytest.mark.parametrize("path, method, status", [("/nothing", "POST", 404), ("/score", "PUT", 405), ("/model", "GET", 200)])
def test_where_no_body_is_read_the_connection_goes_on(server, good, path, method, status):
    with server.raw() as raw:
        raw.send(head(None, CHUNKED, path=path, method=method) + chunks(good, 10) + SECOND)
        assert raw.reply().status == status
        assert raw.reply("GET").json()["name"]


def test_a_history_in_chunks(server, demo, rng):
    history = {"history": demo.request(rng, history=3, candidates=1)["history"]}
    with server.raw() as raw:
        raw.send(head(None, CHUNKED, path="/users/chunked/history") + chunks(json.dumps(history).encode(), 5))
        assert raw.reply().status == 200
        raw.send(b"GET /users/chunked HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.reply("GET").status == 200


def test_expect_continue(server, good):
    with server.raw() as raw:
        raw.send(head(None, CHUNKED, "Expect: 100-continue"))
        assert raw.reply().status == 100
        raw.send(chunks(good, 30))
        assert raw.reply().status == 200
        raw.send(head(None, CHUNKED, "Expect: 100-continue", path="/nothing"))
        assert raw.reply().status == 404
        assert raw.closed()


def test_the_limit_of_a_body(start, good):
    """At the limit, one byte beyond, and far beyond: the last two are known from a chunk's size alone."""
    limit = 4096
    server = start("--max-body", str(limit))
    fill = good + b" " * (limit - len(good))
    for size in (1, 100, 4096, 5000):
        with server.raw() as raw:
            raw.send(head(None, CHUNKED) + chunks(fill, size))
            assert raw.reply().status == 200
            raw.send(head(None, CHUNKED) + chunks(fill + b" ", size))
            problem_of(raw.reply(), 413, "body-too-large")
            assert raw.closed()
    for size in (b"1001", b"ffffffff", b"fffffffffffffff", b"000000000001001"):
        with server.raw() as raw:
            raw.send(head(None, CHUNKED) + size + b"\r\n")
            problem_of(raw.reply(), 413, "body-too-large")
    assert server.metrics()["dien_buffered_bytes"] == 0


def test_a_late_end_is_answered_with_408(start, good):
    server = start("--body-timeout", "0.5")
    for sent in (chunks(good, 50)[:-1], chunks(good, 50)[:-5], chunks(good, 50)[:40], b""):
        with server.raw() as raw:
            raw.send(head(None, CHUNKED) + sent)
            problem_of(raw.reply(), 408, "request-timeout")
            assert raw.closed()


HELLO = b"5\r\nhello\r\n0\r\n\r\n"
MALFORMED = {
    "size with a bare LF": b"5\nhello\r\n0\r\n\r\n",
    "chunk that ends in a bare LF": b"5\r\nhello\n0\r\n\r\n",
    "last size with a bare LF": b"5\r\nhello\r\n0\n\r\n",
    "last line is a bare LF": b"5\r\nhello\r\n0\r\n\n",
    "extension with a bare LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "extension with a bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension with a NUL": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "endless extension": b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "size with CR CR LF": b"5\r\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "extension without a size": b";a\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "tab after the size": b"5\t\r\nhello\r\n0\r\n\r\n",
    "prefix 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "fraction": b"5.0\r\nhello\r\n0\r\n\r\n",
    "letters beyond f": b"g\r\nhello\r\n0\r\n\r\n",
    "more digits than 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "chunk shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "chunk without its line end": b"5\r\nhello0\r\n\r\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nabc\r\n\r\n",
    "trailer with a space in its name": b"5\r\nhello\r\n0\r\na b: c\r\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n",
    "trailer with a bare LF": b"5\r\nhello\r\n0\r\na: b\nc: d\r\n\r\n",
    "endless trailer": b"5\r\nhello\r\n0\r\na: " + b"b" * 600 + b"\r\n\r\n",
    "too many trailers": b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 9 + b"\r\n",
    "a request for a trailer": b"5\r\nhello\r\n0\r\n" + SECOND,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(server, neighbour, body):
    """Whole, split at every byte of what is short, and a byte at a time. What follows is never read as a request."""
    stream = head(None, CHUNKED) + body + SECOND
    first = len(stream) - len(SECOND) - len(body)
    step = 1 if len(body) < 100 else 37
    for at in (0, *range(first, len(stream), step)):
        with server.raw() as raw:
            raw.send(stream[:at])
            time.sleep(0.001 if at else 0)
            raw.send(stream[at:])
            reply = raw.reply()
            assert "chunk" in problem_of(reply, 400, "invalid-http")["detail"], at
            assert reply.closes and raw.closed(), at


@pytest.mark.parametrize("lines", [["Content-Length: 15", CHUNKED], [CHUNKED, "Content-Length: 15"], [CHUNKED, CHUNKED],
                                   ["Transfer-Encoding: chunked, chunked"], ["Transfer-Encoding: gzip, chunked"],
                                   ["Transfer-Encoding: chunked, identity"], ["Transfer-Encoding: identity"],
                                   ["Transfer-Encoding: gzip"], ["Transfer-Encoding: chunked;q=1"], ["Transfer-Encoding:"],
                                   ["Transfer-Encoding: \vchunked"], ["Transfer-Encoding: chunked\x0b"],
                                   ["Transfer-Encoding : chunked"], ["Transfer_Encoding: chunked", CHUNKED, CHUNKED]])
def test_framing_of_two_minds(server, neighbour, good, lines):
    with server.raw() as raw:
        raw.send(head(None, *lines) + HELLO + SECOND)
        problem_of(raw.reply(), 400, "invalid-http")
        assert raw.closed()


def test_http_1_0_has_no_chunks(server, neighbour):
    with server.raw() as raw:
        raw.send(head(None, CHUNKED, version="1.0") + HELLO + SECOND)
        problem_of(raw.reply(), 400, "invalid-http")
        assert raw.closed()


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED"])
def test_names_of_codings_have_no_case(server, good, value):
    with server.raw() as raw:
        raw.send(head(None, f"Transfer-Encoding: {value}") + chunks(good, 100))
        assert raw.reply().status == 200


def test_extensions_and_trailers_are_ignored(server, good):
    """Up to their limits, in every byte that a line may hold."""
    text = bytes([9, *range(32, 127), *range(128, 256)])
    trailer = b"Content-Length: 7\r\nTransfer-Encoding: x\r\nHost: y\r\n" + b"a: " + text + b"\r\n" + b"b:\r\n" * 4
    with server.raw() as raw:
        for extension in (b";", b";a=b", b';a="b;c"', b";" + text, b";" + b"x" * 240):
            raw.send(head(None, CHUNKED) + chunks(good, 200, extension, trailer))
            assert raw.reply().status == 200


def test_each_is_counted_once(start, good):
    server = start()

    def counted():
        metrics = server.metrics()
        return [metrics['dien_requests_total{outcome="%s"}' % outcome] for outcome in ("ok", "invalid-http")]

    before = counted()
    for body in (chunks(good, 9), b"5\nhello"):
        with server.raw() as raw:
            raw.send(head(None, CHUNKED) + body)
            assert raw.reply().status in (200, 400)
            raw.socket.shutdown(1)
            assert raw.closed()
    assert counted() == [before[0] + 1, before[1] + 1]
