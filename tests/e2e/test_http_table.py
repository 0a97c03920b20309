"""Forms of a request's head by RFC 9110 and 9112, each on every route: accepted as the plain form is, or refused.

Each row says how the head differs from the plain one. A refused request gets one head, a problem document and the end of
its connection, changes nothing, and is counted with the status that it got.
"""

import json
import random
import re

import pytest

from support.service import Raw, Service

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work

# method, path, status of the plain request; the body is chosen by the path
ROUTES = {
    "score": ("POST", "/score", 200),
    "history": ("POST", "/users/u1/history", 200),
    "read user": ("GET", "/users/u2", 200),
    "delete user": ("DELETE", "/users/u3", 204),
    "model": ("GET", "/model", 200),
    "health": ("GET", "/health", 200),
    "live": ("HEAD", "/health/live", 200),
    "metrics": ("GET", "/metrics", 200),
    "nothing": ("GET", "/nothing", 404),
    "wrong method": ("PUT", "/score", 405),
}
SAME = None  # the status of the plain request


def request(method="{method}", target="{path}", version="HTTP/1.1", host=("Host: a",), more=(), line="{m} {t} {v}", end="\r\n"):
    """A head as text, with {method}, {path} and {length} to be filled in."""
    first = line.replace("{m}", method).replace("{t}", target).replace("{v}", version)
    return end.join([first, *host, *more, "{entity}Content-Length: {length}", "", ""])


COOKIES = "Cookie: " + "; ".join(f"session{i:04}={'v' * 27}" for i in range(200))

# name: head, status
TABLE = {
    # As real clients and gateways send it.
    "plain": (request(), SAME),
    "an empty line before": ("\r\n" + request(), SAME),
    "white space around a value": (request(more=["X-A: \t b \t "]), SAME),
    "an empty value": (request(more=["X-A:"]), SAME),
    "bytes beyond ASCII in a value": (request(more=["X-A: \xe4\xff"]), SAME),
    "names in capitals": (request(host=["HOST: a"]), SAME),
    "a host with a port": (request(host=["Host: example.org:8080"]), SAME),
    "a host as an address": (request(host=["Host: [::1]:8080"]), SAME),
    "an empty host": (request(host=["Host:"]), SAME),
    "a space after the host": (request(host=["Host: a "]), SAME),
    "a query": (request(target="{path}?a=b&c=%20&d"), SAME),
    "a query with another question mark": (request(target="{path}?a?b"), SAME),
    "an empty query": (request(target="{path}?"), SAME),
    "http://": (request(target="http://a{path}"), SAME),
    "http:// with a port": (request(target="http://a:80{path}"), SAME),
    "https://": (request(target="https://a{path}"), SAME),
    "HTTPS:// with a port": (request(target="HTTPS://example.org:443{path}"), SAME),
    "https:// with another Host": (request(target="https://b{path}"), SAME),
    "https:// with a query": (request(target="https://a{path}?x=https://b/"), SAME),
    "a space after the length": (request().replace("{length}", "{length} "), SAME),
    "white space around the length": (request().replace("{length}", "\t {length} \t "), SAME),
    "HTTP/1.0": (request(version="HTTP/1.0"), SAME),
    "HTTP/1.0 without Host": (request(version="HTTP/1.0", host=[]), SAME),
    "HTTP/1.2": (request(version="HTTP/1.2"), SAME),
    "64 headers": (request(more=[f"X-Header-{i}: {'v' * 40}" for i in range(64)]), SAME),
    "64 headers, 8 kB of cookies, 100 arguments": (
        request(target="{path}?" + "&".join(f"argument{i}={i}" for i in range(100)),
                more=[COOKIES, *[f"X-Header-{i}: {'v' * 40}" for i in range(63)]]), SAME),
    "150 cookies": (request(more=["Cookie: " + "; ".join(f"c{i}={'v' * 24}" for i in range(150))]), SAME),
    "172 small cookies": (request(more=["Cookie: " + "; ".join(f"c{i:03}=vvvvvv" for i in range(172))]), SAME),
    "300 arguments": (request(target="{path}?" + "a=1&" * 300), SAME),
    "150 small headers": (request(more=[f"X-{i}: v" for i in range(150)]), SAME),
    "216 small headers": (request(more=[f"X-{i}: v" for i in range(216)]), 431),
    # Where one reader sees another request than the next.
    "NUL in the path": (request(target="{path}\0x"), 400),
    "NUL in the query": (request(target="{path}?a\0b"), 400),
    "NUL behind the question mark": (request(target="{path}?\0b"), 400),
    "a space in the path": (request(target="{path} x"), 400),
    "a space in the query": (request(target="{path}?a b"), 400),
    "a tab in the path": (request(target="{path}\tx"), 400),
    "a control character in the query": (request(target="{path}?\x01"), 400),
    "DEL in the path": (request(target="{path}\x7f"), 400),
    "two spaces after the method": (request(line="{m}  {t} {v}"), 400),
    "two spaces before the version": (request(line="{m} {t}  {v}"), 400),
    "a space after the version": (request(line="{m} {t} {v} "), 400),
    "a tab after the method": (request(line="{m}\t{t} {v}"), 400),
    "a space before the method": (request(line=" {m} {t} {v}"), 400),
    "an empty method": (request(method=""), 400),
    "no target": (request(line="{m} {v}"), 400),
    "a method alone": (request(line="{m}"), 400),
    "a method that is no token": (request(method="G(T"), 400),
    "a bare CR in a value": (request(more=["X-A: b\rc"]), 400),
    "a bare CR and a header in a value": (request(more=["X-A: b\rContent-Length: 7"]), 400),
    "a bare CR at a value's end": (request(more=["X-A: b\r"]), 400),
    "a bare CR in the request line": (request(target="{path}\rx"), 400),
    "NUL in a value": (request(more=["X-A: b\0c"]), 400),
    "a control character in a value": (request(more=["X-A: b\x0bc"]), 400),
    "NUL in a name": (request(more=["X-\0A: b"]), 400),
    "a space in a name": (request(more=["X A: b"]), 400),
    "a space before the colon": (request(more=["X-A : b"]), 400),
    "a tab before the colon": (request(more=["X-A\t: b"]), 400),
    "no name": (request(more=[": b"]), 400),
    "no colon": (request(more=["X-A"]), 400),
    "a folded value": (request(more=["X-A: b", " c"]), 400),
    "bare LF": (request(end="\n"), 400),
    "a space before the first header": (request(host=[" Host: a"]), 400),
    "no host": (request(host=[]), 400),
    "no host in HTTP/1.2": (request(version="HTTP/1.2", host=[]), 400),
    "two hosts": (request(host=["Host: a", "Host: a"]), 400),
    "a list of hosts": (request(host=["Host: a, b"]), 400),
    "hosts with a comma": (request(host=["Host: a,b"]), 400),
    "a space in the host": (request(host=["Host: a b"]), 400),
    "a path in the host": (request(host=["Host: a/b"]), 400),
    "a user in the host": (request(host=["Host: u@a"]), 400),
    "an old version": (request(version="HTTP/0.9"), 505),
    "a later version": (request(version="HTTP/2.0"), 505),
    "no length": (request().replace("{length}", ""), 400),
    "a length with a sign": (request().replace("{length}", "+{length}"), 400),
    "a length with text": (request().replace("{length}", "{length}x"), 400),
    "two lengths in one": (request().replace("{length}", "{length}, {length}"), 400),
    "two lengths": (request(more=["Content-Length: 1"]), 400),
    "a length beyond 64 bits": (request().replace("{length}", "99999999999999999999"), 413),
    "24 kB of one header": (request(more=[f"X-A: {'x' * 23400}"]), 431),
    "400 headers": (request(more=[f"X-{i}: v" for i in range(400)]), 431),
}


@pytest.fixture(scope="module")
def server(build, demo):
    """Nobody else's, since its counts are compared."""
    with Service(build, demo.path) as running:
        yield running


@pytest.fixture(scope="module")
def bodies(demo):
    full = demo.request(random.Random(15), history=4, candidates=3)
    return {"POST": full, "history": {"history_append": {name: values[:1] for name, values in full["history"].items()}},
            "user": {"history": full["history"]}}


@pytest.fixture(scope="module")
def encoded(bodies):
    return {name: json.dumps(body).encode() for name, body in bodies.items()}


def fill(head, route, encoded):
    method, path, _ = ROUTES[route]
    body = encoded["history"] if route == "history" else encoded["POST"] if method == "POST" else b""
    end = "\n" if "\r\n" not in head else "\r\n"
    entity = f"Content-Type: application/json{end}" if body else ""
    text = head.replace("{method}", method).replace("{path}", path).replace("{entity}", entity)
    text = text.replace("{length}", str(len(body)))
    return text.encode("latin-1") + body


def held(server, user):
    """The length of the history that the server holds of a user, or None."""
    with server.client() as client:
        reply = client.get(f"/users/{user}")
    return reply.json()["history"]["received"] if reply.status == 200 else None


def counted(server):
    """{status: responses}, without those of the scrapes themselves."""
    found = {}
    for name, value in server.metrics().items():
        if match := re.match(r'dien_http_responses_total{.*status="(\w+)".*}', name):
            found[match[1]] = found.get(match[1], 0) + value
    return found


def answer(raw, method):
    """The reply's head and all that came, up to the end of a connection that closes."""
    reply = raw.reply(method)
    rest = b""
    if reply is not None and reply.closes:
        while more := raw._receive():
            rest += more
    return reply, raw.pending + rest


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "pipelined"])
@pytest.mark.parametrize("row", TABLE)
def test_every_route(server, encoded, row, behind):
    """The request alone, and behind another that is sent with it."""
    head, expected = TABLE[row]
    another = fill(request(), "live", encoded) if behind else b""
    for route, (method, path, plain) in ROUTES.items():
        for user in ("u1", "u2", "u3"):
            with server.client() as client:
                assert client.post(encoded["user"], path=f"/users/{user}/history").status == 200
        status = plain if expected is SAME else expected
        before, users = counted(server), {user: held(server, user) for user in ("u1", "u2", "u3")}
        lookups = len(users)
        with Raw(server.address) as raw:
            raw.send(another + fill(head, route, encoded))
            assert not behind or raw.reply("HEAD").status == 200
            reply, rest = answer(raw, method)
        assert reply is not None, f"{route}: no answer"
        assert reply.status == status, (route, reply)
        assert b"HTTP/1." not in rest, (route, "two heads", rest)
        after = {user: held(server, user) for user in users}
        if expected is not SAME:
            assert reply.closes, (route, reply)
            assert method == "HEAD" or reply.headers["Content-Type"] == "application/problem+json", (route, reply)
            assert method == "HEAD" or reply.json()["status"] == status, (route, reply)
            assert after == users, f"{route}: refused with {status}, and applied"
        elif route == "history":
            assert after["u1"] == users["u1"] + 1
        elif route == "delete user":
            assert after["u3"] is None
        delta = {key: value - before.get(key, 0) for key, value in counted(server).items()}
        delta["200"] -= 1 + lookups + sum(value is not None for value in after.values()) + behind  # a scrape, and held()
        delta["404"] -= sum(value is None for value in after.values())
        assert {key: value for key, value in delta.items() if value} == {str(status): 1}, (route, delta)


USERS = {
    "UTF-8": ("Zo%C3%AB", True),
    "UTF-8 as it is": ("Zo\xc3\xab", True),
    "a slash": ("a%2Fb", True),
    "the last code point": ("%F4%8F%BF%BF", True),
    "256 characters": ("a" * 256, True),
    "200 characters of two bytes": ("%C3%A9" * 200, True),
    "257 characters": ("a" * 257, False),
    "201 characters of two bytes": ("%C3%A9" * 201, False),
    "Latin-1": ("Zo%EB", False),
    "Latin-1 as it is": ("Zo\xeb", False),
    "NUL": ("alice%00bob", False),
    "NUL alone": ("%00", False),
    "FF and NUL": ("%FF%00", False),
    "half a character": ("%C3", False),
    "too long a form": ("%C0%AF", False),
    "half of a surrogate pair": ("%ED%A0%80", False),
    "beyond the last code point": ("%F4%90%80%80", False),
    "a bad escape": ("a%G0", False),
    "half an escape": ("a%4", False),
}


@pytest.mark.parametrize("form", USERS)
@pytest.mark.parametrize("authority", ["", "http://a", "https://a"])
def test_user_ids_in_paths(server, encoded, form, authority):
    """On each route with an id: 400 invalid-user-id, and nothing is held."""
    user, good = USERS[form]
    path = f"{authority}/users/{user}"
    for method, target, status in (("POST", f"{path}/history", 200), ("GET", path, 200), ("HEAD", path, 200),
                                   ("DELETE", path, 204)):
        body = encoded["user"] if method == "POST" else b""
        with Raw(server.address) as raw:
            raw.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
            reply = raw.reply(method)
        assert reply.status == (status if good else 400), (method, reply)
        if not good and method != "HEAD":
            assert reply.json()["type"].endswith(":invalid-user-id")
