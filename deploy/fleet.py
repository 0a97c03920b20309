#!/usr/bin/env python3
"""A fleet at work on this machine: three servers behind HAProxy, Redis as the history store, Prometheus watching. Users'
events and scores go on while a server is killed, all are restarted, a model goes live and back, and Redis is away.

    make fleet
    python3 deploy/fleet.py --build build/release --seconds 10

Careful callers send a request again as deploy/README.md says; hasty ones never do. One row for each phase is printed.
Exit status 0 only if no request of a careful caller failed that may not fail, every score was that of the user's whole
history, and Prometheus saw each fault.
"""

import argparse
import collections
import contextlib
import http.client
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))
from support import builds, histories, redis_server, service  # noqa: E402
from support.fleet import Fleet  # noqa: E402
from support.load import Callers  # noqa: E402
from support.modelfile import Link, ModelDirectory  # noqa: E402
from support.prometheus import Prometheus  # noqa: E402

CAREFUL, HASTY = 6, 2  # callers
USERS = 20  # of each caller
EVENTS = 0.3  # share of the requests
TRIES = 4
SEEN_SECONDS = 60  # for Prometheus to see what has happened; on a busy machine a scrape may take long
SCRAPE = "500ms"
OPTIONS = ("--threads", "1", "--drain-delay", "3", "--access-log", "off", "--histories-timeout", "0.25", "--deadline", "1")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build" / "release")
    parser.add_argument("--seconds", type=float, default=10, help="of each phase, and more where a phase has to wait")
    return parser.parse_args()


# ---- what callers count


class Phase:
    """Requests of one phase, by how they ended. `allows`: histories may be unavailable, because Redis is away."""

    def __init__(self, name, allows=False):
        self.name, self.allows = name, allows
        self.requests, self.failed, self.hasty_requests, self.hasty_failed = 0, 0, 0, 0
        self.again, self.unavailable, self.stale = 0, 0, 0
        self.seconds = []
        self.states = collections.Counter()
        self.faults = []
        self.seen = ""
        self.lock = threading.Lock()

    def row(self):
        ordered = sorted(self.seconds) or [0.0]
        kept, made = (sum(self.states[state] for state in states) for states in (("cached", "extended"), ("computed",)))
        return [self.name, self.requests, self.failed, self.again, self.unavailable, self.stale,
                f"{self.hasty_failed} of {self.hasty_requests}", f"{1000 * ordered[len(ordered) // 2]:.1f}",
                f"{1000 * ordered[len(ordered) * 99 // 100]:.1f}", f"{kept / max(1, kept + made):.0%}", self.seen]


HEAD = ("phase", "requests", "failed", "sent again", "unavailable", "stale", "hasty: failed", "p50 ms", "p99 ms", "hit ratio",
        "Prometheus saw")
WIDTHS = (24, 9, 7, 11, 12, 6, 14, 7, 8, 10, 0)


def line(cells):
    return "".join(f"{cell:<{width}}" if place in (0, len(WIDTHS) - 1) else f"{cell:>{width}} "
                   for place, (cell, width) in enumerate(zip(cells, WIDTHS)))


def verdict(phases):
    """What may not be, as sentences."""
    for phase in phases:
        if phase.requests == 0:
            yield f"{phase.name}: no request"
        if phase.failed:
            yield f"{phase.name}: {phase.failed} requests of careful callers failed, such as {phase.faults[0]}"
        if phase.unavailable and not phase.allows:
            yield f"{phase.name}: histories were unavailable {phase.unavailable} times"
        if phase.seen.startswith("nothing"):
            yield f"{phase.name}: Prometheus saw {phase.seen}"


# ---- callers


class Caller:
    """Has users of its own, and knows what each did: an event is sent until it was answered, as from a stream's consumer."""

    def __init__(self, number, world, careful):
        self.rng = random.Random(number)
        self.world, self.careful = world, careful
        self.users = [f"user-{number}-{place}" for place in range(USERS)]
        self.held = {user: [] for user in self.users}  # behaviours, by their places in the world's history
        self.waiting = None  # an event without an answer, and its user
        self.event = 0

    def call(self, client):
        phase = self.world.phase
        if self.waiting is None and self.rng.random() < EVENTS:
            self.waiting = (self.rng.choice(self.users), f"e{self.event}", self.rng.randrange(self.world.length))
            self.event += 1
        user, outcome, began = self.rng.choice(self.users), None, time.perf_counter()
        if self.waiting is not None:
            outcome = self._send_event(client, phase)
        elif self.held[user]:
            outcome = self._score(client, phase, user)
        if outcome is None:
            return
        with phase.lock:
            if self.careful:
                phase.requests += 1
                phase.seconds += [time.perf_counter() - began] * (outcome == "good")
                phase.failed += outcome == "failed"
                phase.unavailable += outcome == "unavailable"
            else:
                phase.hasty_requests += 1
                phase.hasty_failed += outcome != "good"
        if outcome == "unavailable":
            time.sleep(0.1)  # a caller of its own would wait for Retry-After; here the others' turn comes

    def _ask(self, client, phase, body, path, user, headers):
        """The reply, sent again where that is allowed; None: there was none."""
        reply = None
        for attempt in range(TRIES if self.careful else 1):
            phase.again += attempt > 0
            try:
                reply = client.post(body, path, **{"X-User-Id": user, **headers})
            except (OSError, http.client.HTTPException) as error:
                client.connection.close()  # the next request connects anew
                phase.faults.append(repr(error))
                continue
            if reply.status < 500 or "histories-unavailable" in reply.body.decode():
                break
        return reply

    def _outcome(self, phase, reply):
        if reply is not None and reply.status == 200:
            return "good"
        if reply is not None and reply.status == 503 and "histories-unavailable" in reply.body.decode():
            return "unavailable"
        if reply is not None:
            phase.faults.append(repr(reply))
        return "failed"

    def _send_event(self, client, phase):
        user, name, place = self.waiting
        body = {"history_append": histories.part(self.world.history, place, place + 1), "event_id": name}
        reply = self._ask(client, phase, body, histories.path_of(user, "/history"), user, {"Idempotency-Key": name})
        outcome = self._outcome(phase, reply)
        if outcome == "good":
            self.held[user].append(place)
            self.waiting = None
            self._compare(phase, user, reply)
        return outcome

    def _score(self, client, phase, user):
        reply = self._ask(client, phase, {**self.world.request, "user_id": user}, "/score", user, {})
        outcome = self._outcome(phase, reply)
        if outcome == "good":
            body = reply.json()
            phase.states[body["user_state"]] += 1
            phase.stale += bool(body.get("stale"))
            if not body.get("stale"):
                self._compare(phase, user, reply)
        return outcome

    def _compare(self, phase, user, reply):
        """The answer is of every event that was answered, and of no other."""
        count = reply.json()["history"].get("count", 0)
        if count != len(self.held[user]):
            with phase.lock:
                phase.failed += 1
                phase.faults.append(f"{user} has {len(self.held[user])} behaviours, and {reply}")


# ---- the fleet


class World:
    """All processes, the phase that is on, and the phases that were."""

    def __init__(self, build, seconds, stack):
        self.seconds = seconds
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dien-fleet-")))
        demo = ModelDirectory(TOP / "model" / "demo")
        self.versions = [demo.copy(directory / "1"), demo.copy(directory / "2")]
        self.versions[1].config["version"] = "2"
        self.versions[1].write_config()
        self.link = Link(directory / "current", self.versions[0].path)
        self.request, self.history = histories.split(demo, random.Random(1), behaviours=40)
        self.length = 40
        self.redis = stack.enter_context(redis_server.Redis(durable=True))
        self.fleet = Fleet(build, self.link.path, "--histories", self.redis.where, *OPTIONS)
        stack.callback(self.fleet.close)
        self.balancer = self.fleet.balancer("haproxy")
        self.prometheus = stack.enter_context(Prometheus(self._monitoring()))
        self.judge = histories.Judge(stack.enter_context(service.Service(build, demo.path, "--cache-bytes", "0")), self.request)
        self.phases = []
        self.phase = Phase("start")
        callers = [Caller(number, self, number < CAREFUL) for number in range(CAREFUL + HASTY)]
        self.careful = callers[:CAREFUL]
        self.callers = Callers(self.balancer, *(caller.call for caller in callers))

    def _monitoring(self):
        """deploy/prometheus with the addresses of this fleet, and scrapes that see short faults."""
        directory = TOP / "deploy" / "prometheus"
        text = (directory / "prometheus.yml").read_text()
        targets = ", ".join('"%s:%d"' % server.address for server in self.fleet.servers)
        for old, new in (('"dien-1:8080", "dien-2:8080", "dien-3:8080"', targets),
                         ('"haproxy:8404"', '"%s:%d"' % self.fleet.stats)):
            assert old in text, old
            text = text.replace(old, new)
        return {"prometheus.yml": re.sub(r"_interval: 15s", f"_interval: {SCRAPE}", text),
                "dien.rules.yml": (directory / "dien.rules.yml").read_text()}

    def run(self, name, act, expression="", sees="", allows=False):
        """One phase: `act` while the callers go on, for --seconds at least. Then Prometheus must know of it."""
        print(f"{name} ...", end=" ", flush=True)
        began = time.monotonic()
        self.phase = Phase(name, allows)
        self.phases.append(self.phase)
        self.wait_for(self.callers_have_turned(), "the callers do not go on")
        act()
        time.sleep(max(0.0, began + self.seconds - time.monotonic()))
        if expression:
            self.phase.seen = sees if self.seen(expression, time.monotonic() - began) else f"nothing of: {sees}"
        print(f"{time.monotonic() - began:.0f} s, {self.phase.requests} requests, {self.phase.failed} failed", flush=True)

    def seen(self, expression, seconds):
        """Whether Prometheus had it at any time of the phase."""
        limit = time.monotonic() + SEEN_SECONDS
        while time.monotonic() < limit:
            window = f"{int(seconds + SEEN_SECONDS - (limit - time.monotonic())) + 1}s"
            if self.prometheus.query(expression.replace("WINDOW", window)):
                return True
            time.sleep(0.2)
        return False

    @staticmethod
    def wait_for(holds, fault):
        limit = time.monotonic() + service.START_SECONDS
        while not holds():
            assert time.monotonic() < limit, fault
            time.sleep(0.05)

    def callers_have_turned(self):
        """Each has ended the request that it had, which belongs to the phase before."""
        before = list(self.callers.counts)
        return lambda: all(now > then for now, then in zip(self.callers.counts, before))

    # What happens in the phases.

    def until_up(self):
        self.wait_for(lambda: all(self.fleet.up().values()), "HAProxy does not see the servers")

    def kill_one(self):
        self.fleet.kill(1)
        time.sleep(2)  # as long as a supervisor may take
        self.fleet.start_again(1)
        self.until_up()

    def restart_all(self):
        for number in range(len(self.fleet.servers)):
            self.fleet.servers[number].terminate()
            self.fleet.start_again(number)
            self.until_up()

    def go_live(self, version):
        """One server after another, each when the one before serves the new model."""
        self.link.set(self.versions[version].path)
        for server in self.fleet.servers:
            server.terminate(signal.SIGHUP)
            with server.client() as client:
                self.wait_for(lambda: client.get("/model").json()["version"] == self.versions[version].config["version"],
                              "the model does not go live")

    def redis_away(self):
        self.redis.kill()
        time.sleep(2)
        self.redis.start()
        self.wait_for(lambda: not any(server.metrics()["dien_histories_breaker_open"] for server in self.fleet.servers),
                      "the servers do not find Redis again")
        self.wait_for(self.callers_have_turned(), "the callers do not go on")

    def settle(self):
        """Until each caller's last event was answered, so that the store can be compared."""
        self.wait_for(lambda: not any(caller.waiting for caller in self.careful), "an event is never answered")

    def compare_all(self):
        """Each user's score by id alone, at the end, has the bits of one request with the whole history."""
        differ = 0
        with self.balancer.client() as client:
            for caller in self.careful:
                for user, places in caller.held.items():
                    whole = {name: [values[place] for place in places] for name, values in self.history.items()}
                    reply = client.post({**self.request, "user_id": user}, **{"X-User-Id": user})
                    differ += histories.bits(reply) != self.judge.bits(whole if places else None)
        return differ


def scene(world):
    """The phases, in their order."""
    draining, broken = "max_over_time(dien_draining[WINDOW]) == 1", "max_over_time(dien_histories_breaker_open[WINDOW]) == 1"
    live = 'count(dien_model_info{slot="live", version="%s"}) == 3'
    world.run("all is well", lambda: None, "sum(up == 1) == 4", "4 of 4 up")
    world.run("kill -9 of one", world.kill_one, 'min_over_time(up{job="dien"}[WINDOW]) == 0', "it was down")
    world.run("rolling restart", world.restart_all, draining, "servers drained")
    world.run("a new model", lambda: world.go_live(1), live % 2, "version 2")
    world.run("and back", lambda: world.go_live(0), live % 1, "version 1")
    world.run("Redis away, and back", world.redis_away, broken, "the breaker was open", allows=True)
    world.run("all is well again", lambda: None, "sum(up == 1) == 4 and sum(dien_histories_breaker_open) == 0", "4 of 4 up")


def main():
    options = arguments()
    build = builds.Build(options.build.resolve().parent, options.build.resolve().name)
    with contextlib.ExitStack() as stack:
        print("starting Redis, three servers, HAProxy and Prometheus", flush=True)
        world = World(build, options.seconds, stack)
        world.until_up()
        with world.callers:
            scene(world)
            world.settle()
        differ = world.compare_all()
    print()
    for row in (HEAD, *(phase.row() for phase in world.phases)):
        print(line(row))
    faults = list(verdict(world.phases))
    if differ:
        faults.append(f"{differ} users have other scores than their whole histories give")
    for fault in faults:
        print("FAILED:", fault)
    events, users = (sum(map(len, caller.held.values())) for caller in world.careful), CAREFUL * USERS
    print(f"\n{sum(events)} events of {users} users" + (", each of which counts once" if not faults else ""))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
