"""deploy/haproxy and deploy/nginx before three servers: each trap that the shipped file avoids is sprung as well, by the
obvious configuration, so that the line which avoids it is shown to matter."""

import http.client
import json
import random
import re
import signal
import threading
import time
import urllib.parse

import pytest

from support import proxies
from support.fleet import Load

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release"), pytest.mark.xdist_group("balancers")]
NAMES = proxies.NAMES
UNUSUAL = ["ü b/%d" % number for number in range(20)] + ["a+b=c&%d" % number for number in range(20)]


def user_path(user):
    return "/users/" + urllib.parse.quote(user, safe="") + "/history"


def scoring(demo, user, history=3, candidates=2, **members):
    return {**demo.request(random.Random(user), history=history, candidates=candidates), "user_id": user, **members}


def servers_of(client, demo, users, header=True):
    """Which server answers each user's POST /score."""
    found = {}
    for user in users:
        headers = {"X-User-Id": urllib.parse.quote(user)} if header else {}
        reply = client.post(json.dumps(scoring(demo, user), ensure_ascii=False), **headers)
        assert reply.status == 200, reply
        found[user] = reply.headers["X-Served-By"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_user_keeps_a_server(fleet, demo, name):
    """By header; all servers get some."""
    with fleet().balancer(name).client() as client:
        users = [f"user-{number}" for number in range(60)]
        first = servers_of(client, demo, users)
        assert servers_of(client, demo, users) == first
        assert len(set(first.values())) == 3


def same_server(client, demo, users, header):
    """How many of the users' events and scores are answered by one server."""
    same = 0
    for user in users:
        headers = {"X-User-Id": user.encode().decode("latin-1")} if header else {}
        event = client.post({"history": scoring(demo, user)["history"]}, path=user_path(user))
        score = client.post(json.dumps(scoring(demo, user), ensure_ascii=False), **headers)
        assert (event.status, score.status) == (200, 200), (event, score)
        same += event.headers["X-Served-By"] == score.headers["X-Served-By"]
    return same


def test_path_and_body_of_haproxy(fleet, demo):
    """The id in the path is percent-encoded, in the body it is not."""
    running = fleet()
    with running.balancer("haproxy").client() as client:
        assert same_server(client, demo, UNUSUAL, header=False) == len(UNUSUAL)
    with running.balancer("haproxy", lambda text: text.replace(",url_dec", "")).client() as client:
        assert same_server(client, demo, UNUSUAL, header=False) < len(UNUSUAL)


@pytest.mark.parametrize("name", NAMES)
def test_path_and_header(fleet, demo, name):
    with fleet().balancer(name).client() as client:
        assert same_server(client, demo, UNUSUAL, header=True) == len(UNUSUAL)


def test_large_bodies_of_haproxy(fleet, demo):
    """An id behind 40 kB is found within tune.bufsize; with HAProxy's default of 16 kB it is not."""
    running = fleet()

    def lost(client):
        count = 0
        for number in range(20):
            user = f"user-{number}"
            large = scoring(demo, user, candidates=150)
            large["candidates"]["item"] = [f"unknown-{'x' * 200}-{place}" for place in range(len(large["candidates"]["item"]))]
            assert len(json.dumps(large)) > 32000
            large["user_id"] = large.pop("user_id")
            answers = [client.post(body).headers["X-Served-By"] for body in (scoring(demo, user), large)]
            count += answers[0] != answers[1]
        return count

    with running.balancer("haproxy").client() as client:
        assert lost(client) == 0
    with running.balancer("haproxy", lambda text: text.replace("tune.bufsize 65536", "")).client() as client:
        assert lost(client) > 0


def test_callers_with_tokens(fleet, demo):
    """Hot users stay where their state is; hash-balance-factor sends them away, and their tokens are unknown there."""
    running = fleet()

    def unknown_tokens(change):
        refused = 0
        balancer = running.balancer("haproxy", change)
        with Load(balancer, demo, callers=6), balancer.client() as client:
            for _ in range(3):
                for number in range(60):
                    user = f"hot-{number % 3}"
                    reply = client.post(scoring(demo, user), **{"X-User-Id": user})
                    token = reply.json()["history"]["token"]
                    again = {key: value for key, value in scoring(demo, user).items() if key != "history"}
                    refused += client.post({**again, "history_token": token}, **{"X-User-Id": user}).status == 409
        return refused

    assert unknown_tokens(lambda text: text) == 0
    factor = "hash-type consistent\n    hash-balance-factor 101"
    assert unknown_tokens(lambda text: text.replace("hash-type consistent", factor)) > 0


def test_lines_in_another_order(fleet, demo):
    """With ids nobody moves; without them almost everybody does. A server that is taken out moves its own users alone."""
    running = fleet()
    users = [f"user-{number}" for number in range(120)]

    def reordered(text):
        lines = re.findall(r"^    server dien-.*\n", text, re.M)
        return text.replace("".join(lines), "".join(reversed(lines)))

    def without_ids(text):
        return re.sub(r" id \d+$", "", text, flags=re.M)

    def moved(one, other):
        maps = []
        for change in (one, other):
            with running.balancer("haproxy", change).client() as client:
                maps.append(servers_of(client, demo, users))
        return sum(maps[0][user] != maps[1][user] for user in users)

    assert moved(lambda text: text, reordered) == 0
    assert moved(without_ids, lambda text: without_ids(reordered(text))) > len(users) // 3
    one_less = moved(lambda text: text, lambda text: re.sub(r"^    server dien-2.*\n", "", text, flags=re.M))
    assert len(users) // 6 < one_less < len(users) // 2


def test_a_server_that_sheds_load_stays(fleet, demo):
    """A 503 is retried elsewhere and is no reason to take the server out."""
    running = fleet("--request-memory", "64K")  # these requests get 503 at every server
    heavy = scoring(demo, "heavy", candidates=4000)

    def down(change):
        balancer = running.balancer("haproxy", change)
        with balancer.client() as client:
            for number in range(150):
                assert client.post(heavy, **{"X-User-Id": f"heavy-{number}"}).status == 503
        return [server for server, up in running.up().items() if not up]

    assert down(lambda text: text) == []
    observing = "default-server check inter 1s observe layer7 error-limit 10 on-error mark-down"
    assert down(lambda text: text.replace("default-server check inter 1s", observing))


def test_the_health_check(fleet):
    """OPTIONS, and HTTP/1.1 without a Host, are refused by the servers: they would all be down."""
    running = fleet()

    def states(change):
        with running.balancer("haproxy", change).client():
            limit = time.monotonic() + 30  # seldom more than two checks, a second apart
            while time.monotonic() < limit and set(running.up().values()) != {change is not obvious}:
                time.sleep(0.2)
            return set(running.up().values())

    def obvious(text):
        checks = re.compile(r"    option httpchk\n.*?http-check expect status 200\n", re.S)
        return checks.sub("    option httpchk /health\n", text).replace("inter 1s fall 2", "inter 200ms fall 1")

    assert states(lambda text: text) == {True}
    assert states(obvious) == {False}


def test_slashes_in_ids_through_nginx(fleet, demo):
    """proxy_pass with a path, were it "/" alone, decodes %2F."""
    running = fleet()

    def status(change):
        with running.balancer("nginx", change).client() as client:
            replies = [client.post({"history": scoring(demo, "u")["history"]}, path=user_path("a/b"), **headers)
                       for headers in ({}, {"Idempotency-Key": "e1"})]
        return {reply.status for reply in replies}

    assert status(lambda text: text) == {200}
    assert status(lambda text: text.replace("proxy_pass http://dien;", "proxy_pass http://dien/;")
                  .replace("location @repeatable {\n            proxy_pass http://dien/;",
                           "location @repeatable {\n            proxy_pass http://dien;")) != {200}


HISTORY: dict[str, object] = {"history": {"item": ["A13", "A16"]}}
APPEND: dict[str, object] = {"history_append": {"item": ["B4"]}}


def answer_of_a_killed_server(running, balancer, method, path, body, **headers):
    """The status for a request whose server has it, stands still and is then killed; None: closed without an answer, as
    HAProxy does on a connection that it used before."""
    text = None if method in ("GET", "DELETE") else json.dumps(body)
    with balancer.client() as client:
        reply = client.ask(method, path, text, {"Content-Type": "application/json", **headers})
        address = reply.headers["X-Served-By"].replace("dien/", "")
        numbers = {name: number for number, server in enumerate(running.servers)
                   for name in ("%s:%d" % server.address, f"dien-{number + 1}")}
        process = running.servers[numbers[address]].process
        process.send_signal(signal.SIGSTOP)
        ending = threading.Timer(0.4, lambda: running.kill(numbers[address]))
        ending.start()
        try:
            return client.ask(method, path, text, {"Content-Type": "application/json", **headers}).status
        except http.client.RemoteDisconnected:
            return None
        finally:
            ending.join()


Kind = tuple[str, str, dict[str, object], dict[str, str]]  # method, path, members of the body, headers
REPEATED: dict[str, Kind] = {
    "a score": ("POST", "/score", {}, {}),
    "a score with an append by token": ("POST", "/score", {"history_token": "0" * 32, **APPEND}, {}),
    "a whole history with a key": ("POST", "/users/u/history", HISTORY, {"Idempotency-Key": "event-1"}),
    "a reading": ("GET", "/users/u", {}, {}),
    "a deletion": ("DELETE", "/users/u", {}, {}),
}
UNANSWERED = (502, None)
# Of these nginx sends those again that it cannot tell from others.
NOT_REPEATED: dict[str, Kind] = {
    "an append": ("POST", "/users/u/history", APPEND, {}),
    "a score with an append": ("POST", "/score", APPEND, {}),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", REPEATED)
def test_requests_that_are_sent_again(fleet, demo, name, kind):
    """Their server dies with them; another answers. Its answer may be that it does not know the user, or the token."""
    method, path, members, headers = REPEATED[kind]
    body = {**scoring(demo, "u"), **members} if path == "/score" else members
    if "history_token" in members:
        body.pop("history")
    running = fleet()
    balancer = running.balancer(name)
    status = answer_of_a_killed_server(running, balancer, method, path, body, **{"X-User-Id": "u"}, **headers)
    assert status == {"a score with an append by token": 409, "a reading": 404, "a deletion": 204}.get(kind, 200)


@pytest.mark.parametrize("name, kind", [(name, kind) for name in NAMES for kind in NOT_REPEATED
                                        if (name, kind) != ("nginx", "a score with an append")])
def test_requests_that_are_not_sent_again(fleet, demo, name, kind):
    """The killed server may have acted upon them: the caller must decide."""
    method, path, members, headers = NOT_REPEATED[kind]
    body = {**scoring(demo, "u"), **members} if path == "/score" else members
    body.pop("history", None)
    running = fleet()
    balancer = running.balancer(name)
    assert answer_of_a_killed_server(running, balancer, method, path, body, **{"X-User-Id": "u"}, **headers) in UNANSWERED


def test_the_obvious_configuration_loses_requests(fleet, demo):
    running = fleet()
    balancer = running.balancer("haproxy", lambda text: re.sub(r"^    retry-on .*\n", "", text, flags=re.M))
    assert answer_of_a_killed_server(running, balancer, "POST", "/score", scoring(demo, "u"), **{"X-User-Id": "u"}) in UNANSWERED


@pytest.mark.parametrize("name", NAMES)
def test_kill_9(fleet, demo, name):
    """Callers notice nothing."""
    running = fleet()
    balancer = running.balancer(name)
    with Load(balancer, demo) as load:
        time.sleep(0.5)
        running.kill(1)
        time.sleep(1.5)
    assert load.answered > 100


@pytest.mark.parametrize("name", NAMES)
def test_a_rolling_restart(fleet, demo, name):
    """SIGTERM to one after another, each back before the next: the balancer looks away while a server drains."""
    running = fleet("--drain-delay", "2")
    balancer = running.balancer(name)
    with Load(balancer, demo) as load:
        for server in running.servers[:2]:
            server.terminate()
            assert server.wait() == 0
            time.sleep(0.2)
    assert load.answered > 100


def test_health_and_metrics_are_not_passed_on(fleet):
    running = fleet()
    for name in NAMES:
        with running.balancer(name).client() as client:
            paths = ("/metrics", "/health", "/health/ready", "/model")
            assert [client.get(path).status for path in paths] == [404, 404, 404, 200]
