"""Chunked bodies through HAProxy and nginx, which share their connections to the server among clients: good ones get
their scores, bad ones leave nothing behind that another client's request could be taken for."""

import json
import random
import subprocess
import time

import pytest

from support import proxies
from support.service import head
from test_chunked import CHUNKED, MALFORMED, chunks

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release")]  # other tests give the sanitizers these bytes
SMUGGLED = b"DELETE /users/smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n"


@pytest.fixture(scope="module", params=proxies.NAMES)
def proxy(request, server):
    with proxies.Proxy(request.param, server) as running:
        yield running


@pytest.fixture(scope="module")
def good(demo):
    return json.dumps(demo.request(random.Random(8), history=3, candidates=2)).encode()


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_chunks(proxy, server, good, size):
    expected = server.score(good).scores()
    with proxy.raw() as raw:
        for _ in range(3):
            raw.send(head(None, CHUNKED) + chunks(good, size))
            assert raw.reply().scores() == expected


def test_split_streams(proxy, server, good):
    """A proxy passes on the parts that it has, so the server sees the splits."""
    expected = server.score(good).scores()
    stream = head(None, CHUNKED) + chunks(good, 50)
    with proxy.raw() as raw:
        for at in range(len(stream) - len(good) - 40, len(stream), 3):
            raw.send(stream[:at])
            time.sleep(0.001)
            raw.send(stream[at:])
            assert raw.reply().scores() == expected, at


def test_http_2_without_a_length(proxy, server, demo):
    """curl reads the body from a pipe and knows no length; the proxy makes chunks of it."""
    for candidates in (2, 900):
        body = json.dumps(demo.request(random.Random(5), history=30, candidates=candidates)).encode()
        url = "http://%s:%d/score" % proxy.http2
        curl = ["curl", "-s", "--http2-prior-knowledge", "-X", "POST", "-H", "Content-Type: application/json", "-T", "-", url]
        reply = subprocess.run(curl, input=body, stdout=subprocess.PIPE, check=True, timeout=180).stdout
        assert reply == server.score(body).body


LENGTH_AND_CHUNKS = {
    "length first": ["Content-Length: 5", CHUNKED],
    "chunks first": [CHUNKED, "Content-Length: 5"],
    "chunked twice": [CHUNKED, CHUNKED],
    "another coding": ["Transfer-Encoding: gzip, chunked"],
    "other letters": ["Transfer-Encoding: xchunked"],
    "a tab before": ["Transfer-Encoding:\tchunked"],
    "a space after": ["Transfer-Encoding: chunked "],
    "a vertical tab": ["Transfer-Encoding: \x0bchunked"],
    "an underscore": ["Transfer_Encoding: chunked", "Content-Length: 5"],
    "a space before the colon": ["Transfer-Encoding : chunked", "Content-Length: 5"],
}
STREAMS = {**{name: head(None, CHUNKED) + body for name, body in MALFORMED.items()},
           **{name: head(None, *lines) + b"0\r\n\r\n" for name, lines in LENGTH_AND_CHUNKS.items()}}


def deletions(server):
    counts = server.metrics()
    return sum(count for name, count in counts.items()
               if name.startswith("dien_http_responses_total{") and "/users/{id}\"" in name and '"204"' in name)


def received(raw):
    """All that comes until the proxy closes, or falls silent."""
    raw.socket.settimeout(0.3)
    data = b""
    try:
        while more := raw.socket.recv(65536):
            data += more
    except (TimeoutError, ConnectionResetError):
        pass
    return data


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_no_way_to_smuggle(proxy, server, good, stream):
    """The bytes after a doubtful request delete a user. If the server does so, the answer is that client's: the proxy
    has read two requests, too. Otherwise the next client would get it."""
    expected = server.score(good).scores()
    for hidden in (SMUGGLED, SMUGGLED[:-2]):
        before = deletions(server)
        with proxy.raw() as raw:
            raw.send(stream + hidden)
            answers = received(raw)
            for _ in range(2):
                with proxy.client() as other:
                    assert other.post(good).scores() == expected
                    assert other.get("/model").status == 200
            answers += received(raw)
        assert deletions(server) - before == answers.count(b"HTTP/1.1 204")
