"""All attacks at once beside steady load, for a long time: neighbours without an error, memory flat.

    make soak SECONDS=600
    python3 tests/faults/soak.py --build build/release --seconds 600

A thread of Python compares the bits of one client's scores all the time; tests/bench/attack.c measures another. The attack
changes every few seconds, and between its parts come the kinds of requests of http_kinds.py and json_kinds.py. A line
is printed for each turn. The end is 1 where a promise was broken.
"""

import argparse
import itertools
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import http_kinds  # noqa: E402
import json_kinds  # noqa: E402
from support import attacks, builds, wire  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402
from support.service import Service  # noqa: E402

TURN_SECONDS = 10
GROWTH_BYTES = {"release": 16 << 20, "asan": 64 << 20}  # ASan's quarantine has its own bound, set below
HOLDERS = ["hold:300:half", "hold:2000:-", "deaf:8:large", "hold:10:half_body"]  # beside each turn's attack
STEADY = ["beat:2:steady:20", "knock:1:live:100"]
TURNS = [["flood:1:live"], ["flood:8:nowhere"], ["flood:2:upload"], ["churn:8:live"], ["flood:64:live", "churn:2:live"], []]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=builds.TOP / "build/release")
    parser.add_argument("--attack", type=pathlib.Path, default=builds.TOP / "build/release/bench/attack")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "model/demo")
    parser.add_argument("--seconds", type=float, default=600)
    return parser.parse_args()


class Neighbour(threading.Thread):
    """One client whose scores keep their bits; each fault is kept."""

    def __init__(self, running, body):
        super().__init__()
        self.running, self.body = running, body
        self.expected = running.score(body).scores()
        self.answers, self.longest, self.faults = 0, 0.0, []
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set():
            try:
                with self.running.client(timeout=60) as client:
                    while not self.ending.wait(0.02):
                        began = time.monotonic()
                        reply = client.post(self.body)
                        self.longest = max(self.longest, time.monotonic() - began)
                        self.answers += 1
                        if reply.status != 200 or reply.scores() != self.expected:
                            self.faults.append(repr(reply))
            except Exception as error:  # noqa: BLE001: each fault is reported at the end
                self.faults.append(repr(error))
                self.ending.wait(0.1)


def odd_requests(rng):
    """Talks of every kind in the tables, cut at random."""
    for name, data, _ in itertools.chain(*http_kinds.KINDS.values()):
        cut = rng.randrange(1, len(data))
        yield wire.Talk(data[:cut], data[cut:], pause=rng.choice((0, 0.002)), note=name)
    for name, text, _ in rng.sample(json_kinds.VALUES, 100):
        yield wire.Talk(http_kinds.post(body=text), note=name)


def soak(options, running, files):
    """Runs the turns; returns the broken promises."""
    rng = random.Random(15)
    name = options.build.name
    broken = []
    neighbour = Neighbour(running, ModelDirectory(options.model).request(rng, history=12, candidates=6))
    neighbour.start()
    resident = []
    end = time.monotonic() + options.seconds
    try:
        for groups in itertools.cycle(TURNS):
            seconds = min(TURN_SECONDS, end - time.monotonic())
            if seconds < 1:
                break
            attackers = attacks.begin(options.attack, running.address, seconds, HOLDERS + groups, files, nice=5)
            steady = attacks.begin(options.attack, running.address, seconds, STEADY, files, nice=-10)
            talks = wire.talk_all(running.address, odd_requests(rng), together=16, seconds=60)
            stuck = [talk for talk in talks if talk.timed_out]
            scores, health = attacks.finish(steady)
            delivered = attacks.finish(attackers)
            resident.append(running.resident_bytes())
            print(f"{' '.join(groups) or 'holders alone':<28} p50 {scores.get('p50_us', 0) / 1000:8.2f} ms, p99 "
                  f"{scores.get('p99_us', 0) / 1000:8.2f}, health's max {health.get('max_us', 0) / 1000:8.2f}, errors "
                  f"{scores['errors'] + health['errors']}, memory {resident[-1] / 1e6:.1f} MB, requests of attackers "
                  f"{sum(group['requests'] for group in delivered):.0f}, the neighbour's answers {neighbour.answers}",
                  flush=True)
            if scores["errors"] + health["errors"]:
                broken.append(f"errors beside {groups}: {scores['errors']} scores, {health['errors']} health")
            broken += [f"no answer and no end: {talk}" for talk in stuck]
    finally:
        neighbour.ending.set()
        neighbour.join()
    broken += neighbour.faults[:5]
    cycle = len(TURNS)
    if len(resident) > 2 * cycle:  # the first turns fill caches and pools
        growth = max(resident[-cycle:]) - max(resident[cycle:2 * cycle])
        print(f"memory grew by {growth / 1e6:.1f} MB after the first {cycle} turns; the neighbour's longest wait was "
              f"{neighbour.longest:.3f} s")
        if growth > GROWTH_BYTES[name]:
            broken.append(f"memory grew by {growth} bytes")
    return broken


def main():
    options = arguments()
    build = builds.Build(options.build.resolve().parent, options.build.name)
    asan = builds.SANITIZER_OPTIONS["ASAN_OPTIONS"] + ":quarantine_size_mb=16"
    with tempfile.TemporaryDirectory(prefix="dien-soak-") as scratch:
        files = attacks.request_files(ModelDirectory(options.model), pathlib.Path(scratch))
        with Service(build, options.model, "--deadline", "30", "--access-log", "off", ASAN_OPTIONS=asan) as running:
            broken = soak(options, running, files)
    for line in broken:
        print(f"broken: {line}")
    print(f"{build}: {'every promise was kept' if not broken else f'{len(broken)} promises were broken'}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
