"""Connections: clients that half-close, replies that nobody reads, and more connections than there may be."""

import contextlib
import json
import pathlib
import random
import selectors
import socket
import struct
import time

import pytest

from support.service import Raw, Service, head

LIMIT = 60  # seconds until something that never comes is given up


@pytest.fixture(scope="module")
def bodies(demo):
    rng = random.Random(15)
    return {"small": json.dumps(demo.request(rng, history=4, candidates=3)).encode(),
            "large": json.dumps(demo.request(rng, history=50, candidates=4096) | {"explain": True}).encode()}


def eventually(condition):
    """The first true value of a condition, waited for."""
    limit = time.monotonic() + LIMIT
    while not (value := condition()):
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.02)
    return value


def outcome(running, name):
    return running.metrics()[f'dien_requests_total{{outcome="{name}"}}']


def closed(running, reason):
    return running.metrics()[f'dien_connections_closed_total{{reason="{reason}"}}']


# ---- A client that closes its sending side right behind its request still reads.

def half_closed_requests(bodies):
    """{name: (request, statuses of its answers)} over every route, and each kind of refusal."""
    small, large = bodies["small"], bodies["large"]
    history = json.dumps({"history": json.loads(small)["history"]}).encode()
    get = {path: (head(None, method="GET", path=path), [200])
           for path in ("/model", "/health", "/health/live", "/health/ready", "/metrics")}
    return {
        "score": (head(len(small)) + small, [200]),
        "large": (head(len(large)) + large, [200]),
        "history": (head(len(history), path="/users/half/history") + history, [200]),
        "user": (head(None, method="GET", path="/users/nobody"), [404]),
        "forgotten user": (head(None, method="DELETE", path="/users/nobody"), [204]),
        "no path": (head(None, method="GET", path="/nowhere"), [404]),
        "no method": (head(0, method="PUT"), [405]),
        "no JSON": (head(2) + b"{!", [400]),
        "three at once": (3 * (head(len(small)) + small), [200, 200, 200]),
        "closed after": (head(len(small), "Connection: close") + small, [200]),
        "old": (head(len(small), version="1.0") + small, [200]),
        **get,
    }


def answers_of(requests, address):
    """Sends each request on a connection of its own, half-closes it, and returns all that comes, by index."""
    got, sockets = [b""] * len(requests), []
    with selectors.DefaultSelector() as selector:
        for i, request in enumerate(requests):
            one = socket.create_connection(address, LIMIT)
            one.sendall(request)
            one.shutdown(socket.SHUT_WR)
            selector.register(one, selectors.EVENT_READ, i)
            sockets.append(one)
        while selector.get_map():
            ready = selector.select(LIMIT)
            assert ready, f"{len(selector.get_map())} connections never end"
            for key, _ in ready:
                try:
                    more = key.fileobj.recv(1 << 20)
                except ConnectionResetError:
                    more = b""
                got[key.data] += more
                if not more:
                    selector.unregister(key.fileobj)
    for one in sockets:
        one.close()
    return got


def statuses_in(got):
    """The statuses of whole replies, in order."""
    statuses = []
    while got:
        first, _, rest = got.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 ") and rest is not None, got[:200]
        statuses.append(int(first.split()[1]))
        lengths = [line for line in first.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        assert len(rest) >= length, "half a body"
        got = rest[length:]
    return statuses


@pytest.mark.parametrize("clients", [2, 8, 64])
def test_half_closed_clients_get_their_answers(start, bodies, clients):
    """All routes at once, so many clients of each."""
    running = start("--queue", "100000")
    kinds = half_closed_requests(bodies)
    names = [name for _ in range(clients) for name in kinds if name != "large"] + ["large"] * min(clients, 8)
    random.Random(clients).shuffle(names)
    got = answers_of([kinds[name][0] for name in names], running.address)
    wrong = [(name, each[:100]) for name, each in zip(names, got) if statuses_in(each) != kinds[name][1]]
    assert not wrong, (len(wrong), len(names), wrong[:3])
    assert outcome(running, "cancelled") == 0


def test_half_closed_clients_behind_each_byte(server, bodies):
    """The request in two parts, at every place of its head and some of its body, and then the close."""
    request, expected = half_closed_requests(bodies)["score"]
    for cut in [*range(1, 130, 3), len(request) - 1]:
        with server.raw() as raw:
            raw.send(request[:cut])
            raw.send(request[cut:])
            raw.socket.shutdown(socket.SHUT_WR)
            assert [raw.reply().status] == expected, cut
            assert raw.closed()


# ---- Replies that are not read.

def ask_and_read_nothing(running, body, request_id="unread"):
    raw = Raw(running.address, receive_buffer=4096)
    raw.send(head(len(body), f"X-Request-Id: {request_id}") + body)
    return raw


def test_a_reply_that_is_never_read(start, bodies):
    running = start("--reply-timeout", "1")
    before = outcome(running, "ok")
    with ask_and_read_nothing(running, bodies["large"]):
        line = running.logged("unread")
    assert line["error.type"] == "reply_timeout" and "http.response.status_code" not in line and line["unsent_status"] == 200
    assert outcome(running, "reply_timeout") == 1 and outcome(running, "ok") == before
    assert closed(running, "reply-timeout") == 1
    assert running.metrics()['dien_http_responses_total{route="/score",status="200"}'] == 0
    assert running.metrics()["dien_reply_buffered_bytes"] < 1000  # of other replies, of none of this one


@pytest.mark.parametrize("way", ["reset", "closed"])
def test_a_client_that_goes_amid_its_reply(start, bodies, way):
    running = start()
    with ask_and_read_nothing(running, bodies["large"]) as raw:
        raw.socket.recv(1)  # the reply has begun
        if way == "reset":
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line = running.logged("unread")
    assert line["error.type"] == "client_gone" and "http.response.status_code" not in line and line["unsent_status"] == 200
    assert outcome(running, "client_gone") == 1 and outcome(running, "ok") == 0


def test_a_slow_reader_gets_all_of_it(start, bodies):
    running = start()
    with ask_and_read_nothing(running, bodies["large"]) as raw:
        time.sleep(0.2)
        assert raw.reply().status == 200
        assert raw.socket.recv(0) == b""
    assert running.logged("unread")["http.response.status_code"] == 200
    assert outcome(running, "ok") == 1 and outcome(running, "client_gone") == 0


def test_unread_replies_are_bounded(start, bodies):
    """The one that waits for longest is dropped first; others are served meanwhile, and the memory returns."""
    limit = 8 << 20
    running = start("--max-reply-buffered", str(limit))
    size = len(running.score(bodies["large"]).body)
    assert 1 << 20 < size < limit / 2
    count = 4 * limit // size
    with contextlib.ExitStack() as stack:
        raws = []

        def replies():
            """Those that were dropped, and those that are held, once they are within the limit."""
            held = running.metrics()["dien_reply_buffered_bytes"]
            return outcome(running, "reply_dropped") + round(held / size) if held <= limit else None

        for i in range(count):
            raws.append(stack.enter_context(ask_and_read_nothing(running, bodies["large"], f"u{i}")))
            assert running.score(bodies["small"]).status == 200
            eventually(lambda i=i: replies() == i + 1)
        dropped = count - limit // size
        eventually(lambda: outcome(running, "reply_dropped") == dropped)
        assert running.logged("u0")["error.type"] == "reply_dropped"
        assert closed(running, "reply-dropped") == dropped
        running.logged_line(event="replies-dropped")
        assert raws[-1].reply().status == 200, "the last one is not the one that waits for longest"
    eventually(lambda: running.metrics()["dien_reply_buffered_bytes"] < 1000)


def test_one_reply_may_be_larger_than_the_limit(start, bodies):
    running = start("--max-reply-buffered", "1000")
    for _ in range(3):
        assert running.score(bodies["large"]).status == 200


@pytest.mark.only_on("release")  # a sanitizer's quarantine keeps memory
def test_memory_of_replies_returns(start, bodies):
    """Replies of megabytes to clients that read nothing: after they have gone, so has their memory."""
    running = start("--max-reply-buffered", "1G")
    body = bodies["large"]
    size = len(running.score(body).body)
    before = running.resident_bytes()
    with contextlib.ExitStack() as stack:
        for i in range(60):
            stack.enter_context(ask_and_read_nothing(running, body, f"m{i}"))
        eventually(lambda: running.metrics()["dien_reply_buffered_bytes"] > 50 * size)
        during = running.resident_bytes()
    eventually(lambda: running.metrics()["dien_reply_buffered_bytes"] < 1000)
    after = eventually(lambda: (now := running.resident_bytes()) < before + (during - before) / 8 and now)
    print(f"resident: {before >> 20} MiB before, {during >> 20} with 60 replies of {size} bytes, {after >> 20} after")


# ---- More connections than there may be.

def test_idle_connections_shut_no_door(start, bodies):
    """The longest idle goes; health, metrics and scores go on."""
    running = start("--max-connections", "100", "--idle-timeout", "600")
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(300):
            idle.append(stack.enter_context(running.raw()))
            if len(idle) % 20 == 0:
                for path in ("/health/live", "/health/ready", "/metrics"):
                    with running.client(timeout=20) as client:
                        assert client.get(path).status == 200
                assert running.score(bodies["small"]).status == 200
        assert eventually(lambda: closed(running, "full") >= 200)
        assert running.metrics()["dien_connections"] <= 101
        assert idle[0].closed() and idle[150].closed()
        running.logged_line(event="connections-full")
        idle[-1].send(head(len(bodies["small"])) + bodies["small"])
        assert idle[-1].reply().status == 200


def test_descriptors_are_counted_beside_many_connections(start):
    """As /proc lists them, which the server does not do while there are many."""
    running = start()
    with contextlib.ExitStack() as stack:
        for count in (20, 400):
            for _ in range(count):
                stack.enter_context(running.raw())
            eventually(lambda count=count: running.metrics()["dien_connections"] > count)
            listed = len(list(pathlib.Path(f"/proc/{running.process.pid}/fd").iterdir()))
            assert abs(running.metrics()["process_open_fds"] - listed) <= 2  # connections of this test's own metrics


def test_the_longest_idle_goes_first(start, bodies):
    """Not the oldest connection: one that was used a moment ago stays."""
    running = start("--max-connections", "40", "--idle-timeout", "600")
    small = head(len(bodies["small"])) + bodies["small"]
    with running.raw() as old, contextlib.ExitStack() as stack:
        for _ in range(3):
            for _ in range(30):
                stack.enter_context(running.raw())
            old.send(small)
            assert old.reply().status == 200
        assert eventually(lambda: closed(running, "full") > 0)


def test_connections_in_reserve_are_for_health(start, bodies):
    """Every connection is in the middle of a request: health and metrics are answered, and nothing else is taken."""
    running = start("--max-connections", "10", "--body-timeout", "600")
    with contextlib.ExitStack() as stack:
        def fill():
            for _ in range(10):
                busy = stack.enter_context(running.raw())
                busy.send(head(100) + b"{")
        fill()
        limit = time.monotonic() + LIMIT
        while (reply := running.score(bodies["small"])).status != 503:  # none of them may be a second old
            assert time.monotonic() < limit
            fill()
        assert "reserve" in reply.json()["detail"] and reply.closes and "Retry-After" in reply.headers
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            with running.client() as client:
                assert client.get(path).status == 200
        running.logged_line(event="connections-full")
        eventually(lambda: running.score(bodies["small"]).status == 200)  # the slowest bodies go after a second
    assert closed(running, "full") > 0


@pytest.mark.parametrize("sent", [b"", b"POST /score HTTP/1.1\r\nHo", head(100) + b"{"], ids=["idle", "head", "body"])
def test_a_flood_of_connections_lets_health_through(start, sent):
    """More at once than the reserve, again and again, whatever they have sent."""
    running = start("--max-connections", "100", "--idle-timeout", "600")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            for _ in range(200):
                raw = stack.enter_context(running.raw())
                with contextlib.suppress(OSError):
                    raw.send(sent)
            for path in ("/health/live", "/metrics"):
                with running.client(timeout=20) as client:
                    assert client.get(path).status == 200
        assert running.metrics()["dien_connections"] <= 100 + 64


@pytest.mark.only_on("release")  # a sanitizer's runtime opens descriptors of its own
def test_refused_clients_do_not_take_the_last_descriptor(build, demo):
    """Clients that are read on from after a refusal have descriptors, too: health is answered beside all of them."""
    with Service(build, demo.path, "--linger-timeout", "60", descriptors=400) as running:
        held = running.logged_line(event="descriptors")
        refused = []
        with contextlib.ExitStack() as stack:
            for _ in range(500):  # each is refused by its head, and neither reads nor closes
                raw = stack.enter_context(running.raw())
                raw.send(head(10 ** 9))
                refused.append(raw)
            for _ in range(150):
                stack.enter_context(running.raw())
            eventually(lambda: running.metrics()["dien_connections_lingering"] > 50)
            for _ in range(20):
                with running.client(timeout=20) as client:
                    assert client.get("/health/live").status == 200
            assert len(list(pathlib.Path(f"/proc/{running.process.pid}/fd").iterdir())) < 390
        assert "connections are held" in held["message"]
