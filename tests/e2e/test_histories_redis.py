"""Histories in a real Redis, shared by two servers: each score has the bits of one request with the whole history."""

import threading

import pytest

from support import histories, redis_server
from support.service import Service

TURNS = 60  # of one pair of servers
PATIENT = ("--histories-timeout", "60")  # the default of 5 ms is for a quiet machine


@pytest.fixture(scope="module")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


@pytest.fixture
def redis():
    with redis_server.Redis(durable=True) as running:
        yield running


def test_random_users_of_two_servers(build, demo, rng, plain, redis):
    """Appends, events that come again, whole histories, deletions; both servers and Redis are started anew in between."""
    users = histories.Users(demo, rng, plain)
    for life in range(3):
        options = ("--histories", redis.where, *PATIENT)
        with Service(build, demo.path, *options, "--cache-bytes", rng.choice(["0", "16M"])) as one, \
                Service(build, demo.path, *options) as two, one.client() as first, two.client() as second:
            for _ in range(TURNS):
                users.turn((first, second))
        if life == 1:
            redis.kill()
            redis.start()


def test_appends_of_two_servers_at_once(build, demo, rng, plain, redis):
    """Events of a few users, each delivered by two callers to two servers: each counts once, and none is lost."""
    request, history = histories.split(demo, rng)
    users, events = ("u", "v"), 30
    faults = []

    def deliver(server, order):
        with server.client() as client:
            for user, number in order:
                body = {"history_append": histories.part(history, number % 12, number % 12 + 1), "event_id": f"e{number}"}
                reply = client.post(body, histories.path_of(user, "/history"))
                while reply.status == 503:  # many servers changed this user meanwhile
                    reply = client.post(body, histories.path_of(user, "/history"))
                if reply.status != 200:
                    faults.append(reply)

    with Service(build, demo.path, "--histories", redis.where, *PATIENT) as one, \
            Service(build, demo.path, "--histories", redis.where, *PATIENT) as two:
        every = [(user, number) for user in users for number in range(events)]
        callers = [threading.Thread(target=deliver, args=(server, rng.sample(every, len(every)))) for server in (one, two) * 2]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not faults, faults[:3]
        for user in users:
            left, right = (server.score({**request, "user_id": user}) for server in (one, two))
            assert histories.bits(left) == histories.bits(right)
            assert left.json()["history"]["count"] == right.json()["history"]["count"] == events
