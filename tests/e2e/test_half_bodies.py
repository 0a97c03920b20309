"""Clients that send half of a large body and wait: the memory for bodies that they hold is not kept from others."""

import json
import random
import time

import pytest

from support.service import head
from test_chunked import CHUNKED, problem_of

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def good(demo):
    return json.dumps(demo.request(random.Random(3), history=5, candidates=5)).encode()


@pytest.fixture(scope="module")
def large(good):
    return good + b" " * (MEGABYTE - len(good))


def hold(server, count, size, chunked=False):
    """`count` connections, each with the first `size` bytes of a larger body."""
    raws = []
    for _ in range(count):
        raw = server.raw()
        if chunked:
            raw.send(head(None, CHUNKED) + b"%x\r\n" % (size + 9000) + b" " * size)
        else:
            raw.send(head(size + 9000) + b" " * size)
        raws.append(raw)
    return raws


def wait_for(server, bytes_held):
    limit = time.monotonic() + 60
    while server.metrics()["dien_buffered_bytes"] < bytes_held:
        assert time.monotonic() < limit
        time.sleep(0.01)


def close(raws):
    for raw in raws:
        raw.socket.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_small_bodies_have_room(start, good, chunked):
    """All the room that large bodies get is held, and these come fast enough: a small request finds its reserve."""
    server = start("--max-buffered", "8M", "--buffer-reserve", "1M", "--body-rate", "0")
    raws = hold(server, 7, MEGABYTE - 100, chunked)
    wait_for(server, 7 * (MEGABYTE - 100))
    with server.client() as client:
        for _ in range(50):
            assert client.post(good).status == 200
    assert server.metrics()['dien_bodies_dropped_total{reason="full"}'] == 0
    close(raws)


def test_the_largest_and_slowest_gives_way(start, large):
    """A large request that comes at once is scored in the room of one that has stopped; that one is told why."""
    server = start("--max-buffered", "8M", "--buffer-reserve", "1M", "--body-rate", "0")
    raws = hold(server, 6, MEGABYTE - 100) + hold(server, 1, MEGABYTE // 2)
    wait_for(server, 6.5 * MEGABYTE - 700)
    time.sleep(1)
    for i in range(3):
        with server.client() as client:
            assert client.post(large).status == 200
    dropped = server.metrics()['dien_bodies_dropped_total{reason="full"}']
    assert 1 <= dropped <= 3
    problem = problem_of(raws[0].reply(), 503, "saturated")
    assert "slowest" in problem["detail"] and raws[0].closed()
    assert server.metrics()["dien_buffered_bytes"] < 7 * MEGABYTE
    close(raws)


@pytest.mark.parametrize("chunked", [False, True])
def test_small_bodies_give_way_too(start, good, chunked):
    """Bodies below --small-body, and below the size from which a rate is asked of them, fill all of --max-buffered."""
    size = 60_000
    server = start("--max-buffered", "2M", "--buffer-reserve", "1M")
    raws = []
    for _ in range(2 * MEGABYTE // size):
        raw = server.raw()
        raw.send((head(None, CHUNKED) + b"%x\r\n" % (size + 1000) if chunked else head(size + 1000)) + b" " * size)
        raws.append(raw)
    wait_for(server, len(raws) * size)
    time.sleep(0.6)  # in their first half second they may be fast clients
    padded = good + b" " * (size - len(good))
    for _ in range(3):
        reply = server.score(padded)
        assert reply.status == 200, reply
    assert 1 <= server.metrics()['dien_bodies_dropped_total{reason="full"}'] <= 3
    problem_of(raws[0].reply(), 503, "saturated")  # the longest
    close(raws)


def test_a_trickle_gives_way_too(start, large):
    """Clients that send a few bytes now and then are as slow as those that send nothing."""
    server = start("--max-buffered", "8M", "--buffer-reserve", "1M", "--body-rate", "10K")
    raws = hold(server, 7, MEGABYTE - 20_000)
    wait_for(server, 7 * (MEGABYTE - 20_000))
    time.sleep(0.6)
    for _ in range(3):
        for raw in raws:
            try:
                raw.send(b" " * 1000)
            except ConnectionError:
                pass
        assert server.score(large).status == 200
    close(raws)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_that_stops_is_given_up(start, good, chunked):
    server = start("--body-rate", "10K")
    raws = hold(server, 10, MEGABYTE, chunked)
    small = hold(server, 1, 1000)
    wait_for(server, 10 * MEGABYTE)
    began = time.monotonic()
    for raw in raws:
        assert "slowly" in problem_of(raw.reply(), 408, "request-timeout")["detail"]
        assert raw.closed()
    assert time.monotonic() - began < 12, "sooner than --body-timeout"
    assert server.metrics()["dien_buffered_bytes"] == 1000
    assert server.metrics()['dien_bodies_dropped_total{reason="slow"}'] == 10
    small[0].send(b" " * 9000)
    assert small[0].reply().status == 400
    assert server.score(good).status == 200


def test_a_large_body_that_keeps_the_rate_is_taken(start, large):
    server = start("--body-rate", "10K", "--body-timeout", "100")
    with server.raw() as raw:
        raw.send(head(len(large)) + large[:900_000])
        for at in range(900_000, len(large), 10_000):
            time.sleep(0.3)
            raw.send(large[at:at + 10_000])
        assert raw.reply().status == 200
    assert server.metrics()['dien_bodies_dropped_total{reason="slow"}'] == 0


def test_seventy_clients_do_not_shut_others_out(start, good, large):
    """The attack in its own size: 70 clients hold all 256 MiB, again and again, for as long as they are let."""
    server = start("--max-body", "4M")
    raws = hold(server, 70, 3_900_000)
    time.sleep(1)  # in their first half second they may be fast clients
    faults = []
    until = time.monotonic() + 8
    with server.client() as client:
        while time.monotonic() < until:
            for body in (good, large):
                reply = client.post(body)
                if reply.status != 200:
                    faults.append((body is large, reply))
            time.sleep(0.05)
    assert not faults, (len(faults), faults[0])
    counts = server.metrics()
    assert counts['dien_bodies_dropped_total{reason="slow"}'] + counts['dien_bodies_dropped_total{reason="full"}'] >= 60
    close(raws)
