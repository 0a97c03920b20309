"""Requests under overload and requests with a time of their own: who is refused, served first, or answered in part."""

import json
import math
import re
import time

import pytest

from support.service import head

WAIT = re.compile(r"would wait for about ([0-9.]+) s")
# An unmeasured server expects 100 ns for each pair of a behaviour and a candidate: 2.6 s for this request, though the
# model uses but the last 50 behaviours. The next such request would wait for half of it, 1.3 s; a deadline of 1.6 s
# leaves 1.2 s. The real work takes some tenths of a second, in which the others arrive.
HISTORY, CANDIDATES, DEADLINE = 1000, 26_000, 1.6
ATTEMPTS = 5


def post_together(server, text, count):
    """Post on `count` connections: the whole but the last byte first, then the last bytes at one go. The replies."""
    many = [server.raw(timeout=120) for _ in range(count)]
    for raw in many:
        raw.send(head(len(text)) + text[:-1])
    for raw in many:
        raw.send(text[-1:])
    replies = [raw.reply() for raw in many]
    for raw in many:
        raw.socket.close()
    return replies


@pytest.mark.only_on("release")
def test_retry_after_is_rounded_up(start, demo, rng):
    """The second of two such requests is refused while the first is at work: its detail tells the expected wait in
    milliseconds, and Retry-After the same in seconds, rounded up. A wait of more than a second tells rounding up from
    rounding down."""
    body = demo.request(rng, history=HISTORY, candidates=1, top_k=1)
    item = body["candidates"]["item"][0]
    body["candidates"] = {"item": [item] * CANDIDATES}
    text = json.dumps(body, separators=(",", ":")).encode()
    for _ in range(ATTEMPTS):
        server = start("--threads", "1", "--deadline", str(DEADLINE), "--max-candidates", str(CANDIDATES),
                       "--max-history", str(HISTORY))
        refused = [reply for reply in post_together(server, text, 3) if reply.status == 503]
        if refused:
            break
    assert refused
    for reply in refused:
        wait = float(WAIT.search(reply.json()["detail"])[1])
        assert wait > 1 and abs(wait - round(wait)) > 0.002  # else its three decimals do not say which way it goes
        assert int(reply.headers["Retry-After"]) == math.ceil(wait)


def slow_body(demo, rng, candidates):
    body = demo.request(rng, history=50, candidates=1, top_k=1)
    item = body["candidates"]["item"][0]
    return json.dumps({**body, "candidates": {"item": [item] * candidates}}, separators=(",", ":")).encode()


def wait_until_busy(server):
    limit = time.monotonic() + 60
    while server.metrics()["dien_threads_busy"] == 0 and time.monotonic() < limit:
        time.sleep(0.001)


@pytest.mark.only_on("release")
def test_clients_that_gave_up_are_not_scored(start, demo, rng):
    """They close after they have waited for some time, as clients with a time limit do."""
    server = start("--threads", "1", "--max-candidates", str(CANDIDATES))
    text = slow_body(demo, rng, CANDIDATES)
    many = [server.raw(timeout=120) for _ in range(12)]
    for raw in many:
        raw.send(head(len(text)) + text)
    wait_until_busy(server)
    time.sleep(0.1)
    for raw in many:
        raw.socket.close()
    with server.raw(timeout=120) as last:
        last.send(head(len(text)) + text)
        assert last.reply().status == 200
    limit = time.monotonic() + 60
    while server.metrics()["dien_requests_in_flight"] > 1 and time.monotonic() < limit:
        time.sleep(0.05)
    metrics = server.metrics()
    assert metrics["dien_requests_departed_total"] >= 6  # the first ones may have been scored meanwhile
    assert metrics["dien_queue_depth"] == metrics["dien_queue_oldest_seconds"] == 0


@pytest.mark.only_on("release")
def test_half_closed_clients_are_answered_after_a_wait(start, demo, rng):
    """A FIN right behind the request is no departure, however long the answer takes."""
    server = start("--threads", "1", "--max-candidates", str(CANDIDATES))
    text = slow_body(demo, rng, CANDIDATES)
    many = [server.raw(timeout=120) for _ in range(4)]
    for raw in many:
        raw.send(head(len(text)) + text)
        raw.socket.shutdown(1)
    assert server.metrics()["dien_requests_departed_total"] == 0
    time.sleep(0.2)
    assert server.metrics()["dien_requests_departed_total"] == 0
    for raw in many:
        raw.socket.close()


def posted(server, body, *lines):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    with server.raw(timeout=120) as raw:
        raw.send(head(len(text), *lines) + text)
        return raw.reply()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "86400001", ""])
def test_a_bad_timeout_header(server, demo, rng, value):
    reply = posted(server, demo.request(rng, history=3, candidates=2), f"X-Request-Timeout-Ms: {value}")
    assert reply.status == 400
    assert reply.json()["type"] == "urn:dien:problem:invalid-http" and "X-Request-Timeout-Ms" in reply.json()["detail"]


def test_priorities(server, demo, rng):
    body = demo.request(rng, history=3, candidates=2)
    for value, status in (("high", 200), ("Low", 200), ("urgent", 400), ("1", 400)):
        assert posted(server, body, f"X-Priority: {value}").status == status


@pytest.mark.parametrize("value", [0, -5, 1.5, "50", True, 86_400_001])
def test_a_bad_timeout_member(server, demo, rng, value):
    reply = posted(server, {**demo.request(rng, history=3, candidates=2), "timeout_ms": value})
    assert reply.status == 400
    assert reply.json()["pointer"] == "/timeout_ms"


def test_a_request_in_time_is_answered(server, demo, rng):
    body = demo.request(rng, history=3, candidates=2)
    expected = posted(server, body).scores()
    assert posted(server, body, "X-Request-Timeout-Ms: 86400000").scores() == expected
    reply = posted(server, {**body, "timeout_ms": 3_600_000, "partial": True})
    assert reply.scores() == expected and reply.json()["coverage"] == 1
    assert "coverage" not in posted(server, {**body, "partial": False}).json()


@pytest.mark.only_on("release")
def test_time_runs_out_between_chunks(start, demo, rng):
    """An error, or the candidates that were scored, in their order in the request, with the scores that they always have."""
    server = start("--threads", "1", "--max-candidates", str(CANDIDATES))
    text = slow_body(demo, rng, CANDIDATES)
    whole = json.loads(text)
    del whole["top_k"]
    began = time.monotonic()
    expected = posted(server, whole).scores()
    milliseconds = max(20, round(500 * (time.monotonic() - began)))  # half of the time that it takes
    late = posted(server, {**whole, "timeout_ms": milliseconds})
    assert late.status == 504 and "candidates" in late.json()["detail"]
    assert posted(server, whole, f"X-Request-Timeout-Ms: {milliseconds}").status == 504
    for _ in range(ATTEMPTS):  # on a busy machine the time may run out before the first chunk
        partial = posted(server, {**whole, "timeout_ms": milliseconds, "partial": True})
        if partial.status == 200:
            break
        milliseconds *= 2
    scores = partial.scores()
    assert partial.json()["coverage"] == len(scores) / CANDIDATES
    assert 0 < len(scores) <= CANDIDATES
    assert all(scores[i] == expected[i] for i in range(len(scores)))


@pytest.mark.only_on("release")
@pytest.mark.parametrize("hidden", [False, True])
def test_heavy_requests_do_not_hide(start, demo, rng, hidden):
    """Small requests come in between chunks of heavy ones, which say `candidates` with an escape or without."""
    server = start("--threads", "1", "--max-candidates", str(CANDIDATES))
    small = json.dumps(demo.request(rng, history=3, candidates=2)).encode()
    text = slow_body(demo, rng, CANDIDATES)
    if hidden:
        text = text.replace(b'"candidates"', b'"c\\u0061ndidates"')
    assert posted(server, text).status == 200  # the cost of a unit is known
    heavy = [server.raw(timeout=120) for _ in range(4)]
    for raw in heavy:
        raw.send(head(len(text)) + text)
    wait_until_busy(server)
    for _ in range(20):
        assert posted(server, small).status == 200
    still_waiting = server.metrics()["dien_requests_in_flight"]
    for raw in heavy:
        assert raw.reply().status == 200
        raw.socket.close()
    metrics = server.metrics()
    assert metrics["dien_requests_interleaved_total"] > 0
    assert still_waiting > 1, "20 small requests took longer than 3 heavy ones"


@pytest.mark.only_on("release")
def test_a_polite_client_is_served_beside_a_flood(start, demo, rng):
    """Clients are told apart by a header; requests of the polite one do not wait for the flood's, though they are heavy,
    too, and come later."""
    server = start("--threads", "1", "--max-candidates", str(CANDIDATES), "--client-key", "X-Client")
    text = slow_body(demo, rng, CANDIDATES // 2)
    assert posted(server, text, "X-Client: flood").status == 200
    flood = [server.raw(timeout=120) for _ in range(20)]
    for raw in flood:
        raw.send(head(len(text), "X-Client: flood") + text)
    wait_until_busy(server)
    for _ in range(3):
        assert posted(server, slow_body(demo, rng, CANDIDATES // 8), "X-Client: polite").status == 200
    assert server.metrics()["dien_requests_in_flight"] > 8, "the polite client waited for the flood"
    for raw in flood:
        assert raw.reply().status == 200
        raw.socket.close()
