"""Redis killed, hung or slow under load, and a cluster that loses a master: requests with their own histories go on, no
known user is scored as an unknown one, and the servers find Redis again by themselves.
"""

import collections
import contextlib
import time

import pytest

from support import builds, histories, redis_server
from support.load import Callers
from support.service import START_SECONDS, Service

pytestmark = pytest.mark.only_on("release")  # the unit tests of the engine run on the sanitizers' builds

TIMEOUT = 0.2  # --histories-timeout: on a busy machine the default, 5 ms, would be a fault of its own
AWAY_SECONDS = 1.5
RECOVERY_SECONDS = 2.0


@pytest.fixture(scope="module")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


class Load:
    """What callers ask while Redis comes and goes. `answers` counts what they got."""

    def __init__(self, demo, rng, plain):
        self.request, self.history = histories.split(demo, rng)
        self.judge = histories.Judge(plain, self.request)
        self.right = self.judge.bits(self.history)
        self.answers = collections.Counter()
        self.appended = 0

    def know(self, server, user):
        with server.client() as client:
            reply = client.post({"history": self.history, "event_id": "first"}, histories.path_of(user, "/history"))
        assert reply.status == 200, reply

    def own(self, client):
        """A request that brings its history has nothing to do with Redis."""
        reply = client.post({**self.request, "history": self.history})
        assert histories.bits(reply) == self.right
        self.answers["own"] += 1

    def by_id(self, user, client):
        """A known user: from Redis, or from memory and saying so, or 503; never as an unknown one."""
        reply = client.post({**self.request, "user_id": user})
        if reply.status == 503:
            assert reply.json()["type"] == "urn:dien:problem:histories-unavailable" and int(reply.headers["Retry-After"]) >= 1
            self.answers[f"{user} unavailable"] += 1
            return False
        assert histories.bits(reply) == self.right, reply
        body = reply.json()
        assert body["history"]["origin"] == ("state" if body.get("stale") else "store"), body
        self.answers[f"{user} stale" if body.get("stale") else user] += 1
        return not body.get("stale")

    def warm(self, client):
        self.by_id("warm", client)

    def cold(self, client):
        self.by_id("cold", client)

    def append(self, client):
        """One event after another, each until it was answered 200."""
        place = self.appended % 12
        body = {"history_append": histories.part(self.history, place, place + 1), "event_id": f"e{self.appended}"}
        reply = client.post(body, histories.path_of("grows", "/history"))
        if reply.status == 503:
            self.answers["append unavailable"] += 1
            return
        assert reply.status == 200 and reply.json()["history"]["count"] == self.appended + 1, reply
        self.appended += 1


@contextlib.contextmanager
def killed():
    with redis_server.Redis(durable=True) as redis:
        yield redis.where, redis.kill, redis.start


@contextlib.contextmanager
def hung():
    with redis_server.Redis() as redis:
        yield redis.where, redis.hang, redis.go_on


@contextlib.contextmanager
def slow():
    with redis_server.Redis() as redis, redis_server.Delay(redis) as delay:
        yield delay.where, lambda: setattr(delay, "seconds", 2.5 * TIMEOUT), lambda: setattr(delay, "seconds", 0)


@pytest.mark.parametrize("fault", [killed, hung, slow])
def test_redis_goes_and_comes_back(build, demo, rng, plain, fault):
    """Nothing is asked of the state in memory of `cold`, whom another server made known."""
    load = Load(demo, rng, plain)
    with fault() as (where, go, come_back):
        options = ("--histories", where, "--histories-timeout", str(TIMEOUT), "--deadline", "30")
        with Service(build, demo.path, *options) as other:
            load.know(other, "warm")
            load.know(other, "cold")
        with Service(build, demo.path, *options) as server, \
                Callers(server, load.own, load.own, load.warm, load.append) as callers:
            wait_for(lambda: load.appended > 3 and load.answers["warm"] > 3, callers)
            go()
            with Callers(server, load.cold):
                time.sleep(AWAY_SECONDS)
                before = load.answers["own"]
                wait_for(lambda: load.answers["own"] >= before + 10, callers)  # they go on in the midst of it
                assert load.answers["cold unavailable"] and load.answers["warm stale"] and load.answers["append unavailable"]
                come_back()
                returned, patience = time.monotonic(), builds.slowness()
                with server.client() as client:
                    while not load.by_id("warm", client):
                        assert time.monotonic() < returned + RECOVERY_SECONDS * patience, "Redis is back, and not found"
                        time.sleep(0.01)
                taken = load.answers["cold"], load.appended
                wait_for(lambda: load.answers["cold"] > taken[0] and load.appended > taken[1], callers)
            metrics = server.metrics()
            assert metrics["dien_histories_breaker_opened_total"] >= 1 and metrics["dien_histories_breaker_open"] == 0
        with Service(build, demo.path, "--histories", where, "--histories-timeout", "60") as server:
            whole = {name: [values[i % 12] for i in range(load.appended)] for name, values in load.history.items()}
            reply = server.score({**load.request, "user_id": "grows"})
            count = reply.json()["history"]["count"]
            assert count in (load.appended, load.appended + 1)  # the last one may have been without an answer
            if count == load.appended:
                assert histories.bits(reply) == load.judge.bits(whole)


def wait_for(holds, callers):
    limit = time.monotonic() + START_SECONDS
    while not holds():
        callers.check()
        assert time.monotonic() < limit, "no progress"
        time.sleep(0.01)


# ---- a cluster


class Owner:
    """One user's only writer: it appends an event, asks both servers for a score, and knows which history is right.

    A master that dies may take its last appends with it, since Redis answers before a replica has them. So once the count
    may go back, and the history is then the first behaviours without the last ones.
    """

    def __init__(self, user, load, servers):
        self.user, self.load = user, load
        self.clients = [server.client() for server in servers]
        self.held = []  # behaviours, by their places in the history
        self.event, self.losses = 0, 0
        self.refused_at = time.monotonic()

    def _ask(self, number, body, path="/score"):
        reply = self.clients[number].post(body, path)
        if reply.status == 503:
            assert reply.json()["type"] == "urn:dien:problem:histories-unavailable", reply
            self.refused_at = time.monotonic()
            return None
        assert reply.status == 200, reply
        return reply

    def _keep(self, count):
        assert 0 <= count <= len(self.held), (self.user, count, len(self.held))
        self.losses += count < len(self.held)
        del self.held[count:]

    def turn(self, _):
        place = self.event % 12
        body = {"history_append": histories.part(self.load.history, place, place + 1), "event_id": f"e{self.event}"}
        reply = self._ask(self.event % 2, body, histories.path_of(self.user, "/history"))
        if reply is None:
            return  # whether it was applied will be known when it is delivered again
        self._keep(reply.json()["history"]["count"] - 1)
        self.held.append(place)
        self.event += 1
        for number in (0, 1):
            reply = self._ask(number, {**self.load.request, "user_id": self.user})
            if reply is None or reply.json().get("stale"):
                continue
            self._keep(reply.json()["history"].get("count", 0))
            whole = {name: [values[place] for place in self.held] for name, values in self.load.history.items()}
            assert histories.bits(reply) == self.load.judge.bits(whole if self.held else None), (self.user, self.held, reply)


@pytest.mark.check_only
def test_a_cluster_loses_a_master(build, demo, rng, plain):
    """The master that the servers were told of dies, and its replica takes over. Errors end when Redis has a master."""
    load = Load(demo, rng, plain)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(redis_server.Cluster())
        options = ("--histories", cluster.where, "--histories-timeout", str(TIMEOUT))
        servers = [stack.enter_context(Service(build, demo.path, *options)) for _ in range(2)]
        owners = [Owner(f"user {number}", load, servers) for number in range(6)]
        share = redis_server.SLOTS / len(cluster.masters)
        shards = [int(cluster.masters[0].ask("CLUSTER", "KEYSLOT", owner.user) // share) for owner in owners]
        assert set(shards) == set(range(len(cluster.masters)))
        with Callers(servers[0], *(owner.turn for owner in owners)) as callers:
            wait_for(lambda: all(owner.event > 10 for owner in owners), callers)
            assert not any(owner.losses for owner in owners)
            cluster.masters[0].kill()
            wait_for(lambda: b"role:master" in cluster.replicas[0].ask("INFO", "replication")
                     and all("cluster_state:ok" in redis_server.cluster_info(node) for node in cluster.nodes[1:]), callers)
            settled = time.monotonic() + RECOVERY_SECONDS * builds.slowness()
            events = [owner.event for owner in owners]
            wait_for(lambda: time.monotonic() > settled
                     and all(owner.event > event + 5 for owner, event in zip(owners, events)), callers)
            cluster.masters[0].start()  # as a replica of what was its own
            wait_for(lambda: redis_server.has_its_master(cluster.masters[0]), callers)
            events = [owner.event for owner in owners]
            wait_for(lambda: all(owner.event > event + 5 for owner, event in zip(owners, events)), callers)
        assert all(owner.refused_at < settled for owner in owners), "an error while Redis had a master"
        assert all(owner.losses <= (shard == 0) for owner, shard in zip(owners, shards))
