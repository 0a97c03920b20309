"""Every size of a request on every route: one complete answer, the same in log and metrics, applied if and only if 2xx.

A size is swept in coarse steps first. Wherever two neighbours are answered differently the place is found by halving, and
each size around it is tried, so that a changed limit moves the sweep with it. `make check` runs this folder.
"""

import itertools
import json
import random

import pytest

from support import wire
from support.service import Service

pytestmark = pytest.mark.only_on("release", "asan")  # requests one after another: ThreadSanitizer sees as much in tests/e2e

AROUND = 24  # sizes tried singly on each side of a change
MAX_BODY = 20_000

# Method, path and whether a body belongs to it; {user} is another for each request.
ROUTES = {
    "score": ("POST", "/score", True),
    "history": ("POST", "/users/{user}/history", True),
    "forget": ("DELETE", "/users/{user}", False),
    "user": ("GET", "/users/{user}", False),
    "model": ("GET", "/model", False),
    "metrics": ("GET", "/metrics", False),
    "live": ("GET", "/health/live", False),
    "ready": ("HEAD", "/health/ready", False),
    "nowhere": ("GET", "/nowhere", False),
    "no such method": ("PUT", "/score", True),
}

TRACE = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # the reply's head has one, too

# What grows: the sizes, and for a size the text behind the path and the header lines.
GROWING = {
    "header bytes": (range(0, 20_500, 97), lambda size: ("", (f"X-Trace: {'x' * size}",))),
    "header bytes in a trace": (range(0, 20_500, 97), lambda size: ("", (f"X-Trace: {'x' * size}", TRACE))),
    "header count": (range(0, 330), lambda size: ("", [f"X-{i}: v" for i in range(size)])),
    "cookie bytes": (range(0, 10_500, 53), lambda size: ("", (f"Cookie: a={'c' * size}",))),
    "cookie pairs": (range(0, 420), lambda size: ("", ("Cookie: " + "; ".join(f"k{i}=vvvvvv" for i in range(size)),))),
    "cookie headers": (range(0, 330, 3), lambda size: ("", [f"Cookie: k{i}=v" for i in range(size)])),
    "target bytes": (range(0, 20_500, 97), lambda size: ("?" + "a" * size, ())),
    "arguments": (range(0, 2_000, 7), lambda size: ("?" + "a=b&" * size, ())),
    "name bytes": (range(1, 20_500, 97), lambda size: ("", (f"{'n' * size}: v",))),
}


class Sweep:
    """Requests to one server, each with an id and a user of its own."""

    def __init__(self, running, good):
        self.running = running
        self.good = good
        self.serial = itertools.count()

    def talk(self, route, size, suffix="", lines=(), body=None, apart=False, coding=None):
        """A talk of one request. `apart`: the body comes after the head was read."""
        method, path, has_body = ROUTES[route]
        number = next(self.serial)
        user = f"sweep-{number}"
        if body is None and has_body:
            body = json.dumps(self.good["history" if route == "history" else "score"] |
                              ({} if route == "history" else {"user_id": user})).encode()
        text = [f"{method} {path.format(user=user)}{suffix} HTTP/1.1", "Host: test", f"X-Request-Id: {user}"]
        if has_body:
            text += ["Content-Type: application/json"]
            text += ["Transfer-Encoding: chunked"] if coding else [f"Content-Length: {len(body)}"]
        head = ("\r\n".join([*text, *lines]) + "\r\n\r\n").encode("latin-1")
        sent = (coding(body) if coding else body) if has_body else b""
        pieces = (head, sent) if apart else (head + sent,)
        talk = wire.Talk(*pieces, method=method, note=(route, size, user))
        return talk

    def hold(self, talks):
        """Sends them, and holds every promise to account. Returns {size: status}."""
        for talk in talks:
            if talk.note[0] == "forget":
                self._make_user(talk.note[2])
        account = wire.Account(self.running)
        wire.talk_all(self.running.address, talks)
        statuses = {}
        for talk in talks:
            reply = talk.one()
            assert reply is not None, f"{talk}: not a byte of an answer"
            if "Content-Type" in reply.headers and talk.method != "HEAD" and reply.status >= 400:
                assert reply.json()["status"] == reply.status
            else:  # libmicrohttpd's own page, where its parser refuses a head alone
                assert reply.status < 300 or talk.method == "HEAD" or reply.status in (400, 414, 431), reply
            statuses[talk.note[1]] = reply.status
        account.check(talks)
        with self.running.client() as client:
            for talk in talks:
                self._check_applied(client, talk)
        return statuses

    def _make_user(self, user):
        with self.running.client() as client:
            assert client.post(self.good["history"], path=f"/users/{user}/history").status == 200

    def _check_applied(self, client, talk):
        """A user's state is there if and only if the answer said so."""
        route, _, user = talk.note
        if route not in ("score", "history", "forget"):
            return
        there = client.get(f"/users/{user}").status == 200
        answer = talk.one().status
        assert there == ((200 <= answer < 300) != (route == "forget")), f"{talk}: {answer}, and the state is there: {there}"

    def around_changes(self, sizes, make):
        """Coarse sizes, then each size near a place where the status changes. {size: status} of all."""
        statuses = self.hold([make(size) for size in sizes])
        ordered = sorted(statuses)
        for low, high in zip(ordered, ordered[1:]):
            if statuses[low] == statuses[high]:
                continue
            left = statuses[low]
            while high - low > 1:
                middle = (low + high) // 2
                statuses.update(self.hold([make(middle)]))
                low, high = (middle, high) if statuses[middle] == left else (low, middle)
            near = [size for size in range(max(ordered[0], low - AROUND), high + AROUND) if size not in statuses]
            statuses.update(self.hold([make(size) for size in near]) if near else {})
        return statuses


@pytest.fixture(scope="module")
def sweep(build, demo):
    rng = random.Random(15)
    request = demo.request(rng, history=3, candidates=2)
    good = {"score": request, "history": {"history": request["history"]}}
    with Service(build, demo.path, "--log-level", "debug", "--max-body", str(MAX_BODY)) as running:
        yield Sweep(running, good)
        assert running.score(request).status == 200


@pytest.mark.parametrize("kind", GROWING)
@pytest.mark.parametrize("route", ROUTES)
def test_head(sweep, route, kind):
    """A head of any size, with its body behind it."""
    sizes, make = GROWING[kind]
    if route not in ("score", "history"):  # they share what reads a head: coarser, the changes are found all the same
        sizes = sizes[::4]

    def talk(size):
        suffix, lines = make(size)
        return sweep.talk(route, size, suffix, lines)

    statuses = sweep.around_changes(sizes, talk)
    assert statuses[min(statuses)] < 500
    assert set(statuses.values()) <= {statuses[min(statuses)], 200, 400, 404, 414, 431}, set(statuses.values())


@pytest.mark.parametrize("kind", GROWING)
@pytest.mark.parametrize("route", ["score", "history"])
def test_head_alone(sweep, route, kind):
    """The body comes when the head was read: there must be room to read it."""
    sizes, make = GROWING[kind]

    def talk(size):
        suffix, lines = make(size)
        return sweep.talk(route, size, suffix, lines, apart=True)

    sweep.around_changes(sizes[::2], talk)


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "after the head"])
@pytest.mark.parametrize("route", ["score", "history"])
def test_body_length(sweep, route, apart):
    """Padded with spaces from the shortest to beyond --max-body: 200 up to the limit, 413 beyond it."""
    body = json.dumps(sweep.good[route]).encode()

    def talk(size):
        user = {"user_id": f"sweep-{next(sweep.serial) + 1}"} if route == "score" else {}
        body = json.dumps(sweep.good[route] | user).encode()
        return sweep.talk(route, size, body=body + b" " * (size - len(body)), apart=apart)

    statuses = sweep.around_changes([*range(len(body) + 40, MAX_BODY + 2_000, 41)], talk)
    assert {size for size, status in statuses.items() if status == 413} == {size for size in statuses if size > MAX_BODY}
    assert set(statuses.values()) == {200, 413}


@pytest.mark.parametrize("route", ["score", "history", "forget", "live"])
def test_split_points(sweep, route):
    """The request in two pieces, cut before each of its bytes."""
    method, _, _ = ROUTES[route]
    talks = []
    whole = sweep.talk(route, 0)
    for cut in range(1, len(whole.pieces[0])):
        talk = sweep.talk(route, cut)
        data = talk.pieces[0]
        talk.pieces = [data[:cut], data[cut:]]
        talks.append(talk)
    statuses = sweep.hold(talks)
    assert set(statuses.values()) == {204 if method == "DELETE" else 200}


@pytest.mark.parametrize("route", ["score", "history"])
def test_three_pieces(sweep, rng, route):
    """Cut at two places at random, the second request of the connection behind it."""
    talks = []
    for _ in range(200):
        talk = sweep.talk(route, len(talks))
        data = talk.pieces[0]
        first, second = sorted(rng.sample(range(1, len(data)), 2))
        talk.pieces = [data[:first], data[first:second], data[second:]]
        talks.append(talk)
    assert set(sweep.hold(talks).values()) == {200}


@pytest.mark.parametrize("route", ["score", "history"])
def test_chunk_sizes(sweep, route):
    """The body in chunks of each size, one byte to the whole, at once and after the head."""
    length = len(sweep.talk(route, 0).pieces[0])
    for apart in (False, True):
        talks = [sweep.talk(route, size, apart=apart, coding=lambda body, size=size: wire.chunked(body, size))
                 for size in range(1, length)]
        assert set(sweep.hold(talks).values()) == {200}


@pytest.mark.parametrize("route", ["score", "history"])
def test_chunked_split_points(sweep, route):
    """A chunked request in two pieces, cut before each of its bytes."""
    talks = []
    for cut in itertools.count(1):
        talk = sweep.talk(route, cut, coding=lambda body: wire.chunked(body, 50))
        data = talk.pieces[0]
        if cut >= len(data):
            break
        talk.pieces = [data[:cut], data[cut:]]
        talks.append(talk)
    assert set(sweep.hold(talks).values()) == {200}


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
def test_chunked_body_length(sweep, size):
    """The limit is that of the decoded bytes."""
    def talk(length):
        user = {"user_id": f"sweep-{next(sweep.serial) + 1}"}
        body = json.dumps(sweep.good["score"] | user).encode()
        return sweep.talk("score", length, body=body + b" " * (length - len(body)),
                          coding=lambda body: wire.chunked(body, size))

    statuses = sweep.around_changes([*range(400, MAX_BODY + 2_000, 499)], talk)
    assert {length for length, status in statuses.items() if status == 413} == {each for each in statuses if each > MAX_BODY}
