"""Compressed bodies: gzip gives the bits of the same body uncompressed, other codings are refused, and bombs end early."""

import gzip
import json
import os
import random
import struct
import threading
import time
import zlib

import pytest

from support.service import head
from test_chunked import CHUNKED, chunks


@pytest.fixture(scope="module")
def good(demo):
    return json.dumps(demo.request(random.Random(9), history=20, candidates=30)).encode()


def problem_of(reply, status, slug):
    assert reply.status == status, reply
    assert reply.json()["type"].endswith(slug), reply
    return reply.json()


def streamed(body):
    """As a client writes it that flushes every few bytes, with an unusual header."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(body[at:at + 7]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(body), 7)]
    return b"".join(parts) + packer.flush()


FORMS = {"level 9": gzip.compress, "level 1": lambda body: gzip.compress(body, 1), "stored": lambda body: gzip.compress(body, 0),
         "streamed": streamed}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_same_bits_as_uncompressed(server, good, form, coding):
    packed = form(good)
    with server.client() as client:
        expected = client.post(good)
        assert client.post(packed, **{"Content-Encoding": coding}).body == expected.body and expected.status == 200
    with server.raw() as raw:
        raw.send(head(None, CHUNKED, f"Content-Encoding: {coding}") + chunks(packed, 100))
        assert raw.reply().body == expected.body


def test_on_each_route_with_a_body(server, demo, good, rng):
    history = json.dumps({"history": demo.request(rng, history=3, candidates=1)["history"]}).encode()
    with server.client() as client:
        for path, body in (("/score", good), ("/users/compressed/history", history)):
            assert client.post(gzip.compress(body), path=path, **{"Content-Encoding": "gzip"}).status == 200
            assert client.post(body, path=path, **{"Content-Encoding": "identity"}).status == 200
            problem_of(client.post(body, path=path, **{"Content-Encoding": "br"}), 415, "unsupported-content-coding")
        assert client.get("/model", **{"Content-Encoding": "br"}).status == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "compress", "gzip, gzip", "identity, gzip", "gzip;q=1", "*"])
def test_other_codings(server, neighbour, good, coding):
    """Plain JSON under a false name is no request either."""
    with server.client() as client:
        for body in (good, gzip.compress(good)):
            reply = client.post(body, **{"Content-Encoding": coding})
            problem_of(reply, 415, "unsupported-content-coding")
            assert reply.headers["Accept-Encoding"] == "gzip"
        assert client.post(good).status == 200


def test_two_headers_are_two_codings(server, neighbour, good):
    packed = gzip.compress(gzip.compress(good))
    with server.raw() as raw:
        raw.send(head(len(packed), "Content-Encoding: gzip", "Content-Encoding: gzip") + packed)
        problem_of(raw.reply(), 415, "unsupported-content-coding")


def test_not_gzip(server, neighbour, good):
    packed = gzip.compress(good)
    wrong = [good, b"", b"\x1f\x8b", packed[:-1], packed[1:], packed[:40], packed + b"x", packed + packed, zlib.compress(good),
             packed[:-8] + bytes(4) + packed[-4:], os.urandom(200), b"\x1f\x8b\x08" + bytes(30)]
    with server.client() as client:
        for body in wrong:
            reply = client.post(body, **{"Content-Encoding": "gzip"})
            assert reply.status in (400, 413), reply
            assert reply.json()["type"].rsplit(":", 1)[1] in ("invalid-content-coding", "body-too-large")
        problem_of(client.post(gzip.compress(b"{"), **{"Content-Encoding": "gzip"}), 400, "invalid-json")
        assert client.post(packed, **{"Content-Encoding": "gzip"}).status == 200


def test_cut_at_every_byte(server, neighbour, good):
    packed = gzip.compress(good)
    with server.client() as client:
        for end in range(len(packed)):
            reply = client.post(packed[:end], **{"Content-Encoding": "gzip"})
            assert reply.status in (400, 413), (end, reply)


def test_the_limit_is_of_decoded_bytes(start, good):
    limit = 8192
    server = start("--max-body", str(limit))
    fill = good + b" " * (limit - len(good))
    with server.client() as client:
        assert client.post(gzip.compress(fill), **{"Content-Encoding": "gzip"}).status == 200
        problem_of(client.post(gzip.compress(fill + b" "), **{"Content-Encoding": "gzip"}), 413, "body-too-large")


def test_decoded_bytes_are_the_requests_memory(start, good):
    server = start("--request-memory", "1M")
    with server.client() as client:
        assert client.post(gzip.compress(good), **{"Content-Encoding": "gzip"}).status == 200
        large = gzip.compress(good + b" " * 2_000_000)
        problem_of(client.post(large, **{"Content-Encoding": "gzip"}), 503, "out-of-memory")


def test_bombs(start, good):
    """A hundred megabytes in a hundred kB, with its true size, a false one, and as members: all end soon, in little memory."""
    server = start("--threads", "1")
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    false = bomb[:-4] + struct.pack("<I", 4_000_000)
    with server.client() as client:
        assert client.post(gzip.compress(good), **{"Content-Encoding": "gzip"}).status == 200
        before = server.resident_bytes()
        for body, status in ((bomb, 413), (false, 400), (bomb + gzip.compress(good), 400)):
            for _ in range(5):
                began = time.monotonic()
                assert client.post(body, **{"Content-Encoding": "gzip"}).status == status
                assert time.monotonic() - began < 20
        assert server.resident_bytes() - before < 64 << 20
        assert client.post(gzip.compress(good), **{"Content-Encoding": "gzip"}).status == 200


@pytest.mark.only_on("release")
def test_a_heavy_request_does_not_pass_as_a_light_one(start, demo, rng):
    """Beside one scoring thread that scores heavy compressed requests, light ones do not wait for several of them: the
    queue knows the heavy ones though their bytes are few."""
    server = start("--threads", "1")
    heavy = gzip.compress(json.dumps(demo.request(rng, history=50, candidates=4000, explain=False)).encode())
    light = json.dumps(demo.request(rng, history=3, candidates=1)).encode()
    ending = threading.Event()

    def aggressor():
        with server.client() as client:
            while not ending.is_set():
                assert client.post(heavy, **{"Content-Encoding": "gzip"}).status in (200, 503)

    def waits():
        found = []
        with server.client() as client:
            for _ in range(40):
                began = time.monotonic()
                assert client.post(light).status == 200
                found.append(time.monotonic() - began)
        return sorted(found)[len(found) // 2]

    alone = min(server_time(server, heavy) for _ in range(5))
    threads = [threading.Thread(target=aggressor) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        assert waits() < 3 * alone + 0.02
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def server_time(server, body):
    with server.client() as client:
        began = time.monotonic()
        assert client.post(body, **{"Content-Encoding": "gzip"}).status == 200
        return time.monotonic() - began
