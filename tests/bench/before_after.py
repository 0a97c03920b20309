"""Two builds of this server beside each other, to show that a change made nothing slower.

    git worktree add ../before COMMIT && make -C ../before build bench-programs
    make bench-before-after BEFORE=../before

The builds take turns within each round, so that a slow moment of the machine hits both. Three parts: calls of the
library on the reference shape, a whole request without a network (wire.c), and closed loops over HTTP with server and
load on processors of their own. Each row has the median over the rounds of after's time divided by before's, of the
same round; below 1 the change is faster. The rows go to tests/bench/results/PROCESSOR.before-after.csv.
"""

import argparse
import contextlib
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
import server as bench_server  # noqa: E402
from support import builds  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402
from sweep import request_of  # noqa: E402
from worker import Worker  # noqa: E402

STEPS = 100
CANDIDATES = 1, 10, 100
CALLS = {1: 200, 10: 60, 100: 10}
# Closed loops: the name, C, and how the history comes; None is GET /health/live.
LOOPS = (("live", None, None), ("C=1 by token", 1, "token"), ("C=10", 10, "history"), ("C=100", 100, "history"))
SIDES = "before", "after"
WIRE_PARTS = "decode", "resolve", "state", "score", "encode", "total"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--before", type=pathlib.Path, required=True, help="a built tree")
    parser.add_argument("--after", type=pathlib.Path, default=builds.TOP, help="a built tree")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2, help="of a closed loop in one round")
    parser.add_argument("--parts", default="library,wire,http")
    parser.add_argument("--server-options", default="", help='more of dien-server\'s own, such as "--queue 16"')
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    options = parser.parse_args()
    options.trees = {"before": options.before.resolve(), "after": options.after.resolve()}
    options.connections = 16
    return options


def program(tree, name):
    return tree / "build/release" / name


def row_of(part, name, times):
    """The times of both sides, one of each round, as one row."""
    ratios = [after / before for before, after in zip(times["before"], times["after"])]
    row = {"part": part, "what": name, "before_us": round(1e6 * statistics.median(times["before"]), 2),
           "after_us": round(1e6 * statistics.median(times["after"]), 2), "ratio": round(statistics.median(ratios), 4),
           "ratio_least": round(min(ratios), 3), "ratio_most": round(max(ratios), 3), "rounds": len(ratios)}
    print(f"{part:<9}{name:<34}{row['before_us']:>10.2f} us{row['after_us']:>10.2f} us   {row['ratio']:.3f} times "
          f"({row['ratio_least']:.2f} to {row['ratio_most']:.2f})", flush=True)
    return row


def library(options, scratch):
    """The scoring call alone, with a state that is kept and with one that is built."""
    for count in CANDIDATES:
        request = request_of(STEPS, count, scratch)
        for form, precision in ("cached", []), ("uncached", []), ("cached", ["reduced"]), ("uncached", ["reduced"]):
            workers = {side: Worker(program(tree, "bench/library"), options.model, request, *precision)
                       for side, tree in options.trees.items()}
            times = {side: [] for side in SIDES}
            for _ in range(4 * options.rounds):
                for side, worker in workers.items():
                    times[side].append(statistics.median(worker.ask("time", form, CALLS[count] + 1)[1:]))
            for worker in workers.values():
                worker.close()
            yield row_of("library", " ".join([f"T={STEPS} C={count} {form}", *precision]), times)


def wire(options, scratch):
    """Decode, resolve, state, score, rank and encode, by kind of request."""
    found = {}
    for _ in range(options.rounds):
        for side, tree in options.trees.items():
            subprocess.run([program(tree, "bench/wire"), options.model, "--repeats", "101", "--csv", scratch / "rows.csv"],
                           check=True, stdout=subprocess.DEVNULL)
            with open(scratch / "rows.csv", newline="") as file:
                for line in csv.DictReader(file):
                    if line["part"] in WIRE_PARTS:
                        sides = found.setdefault((line["request"], line["part"]), {name: [] for name in SIDES})
                        sides[side].append(1e-6 * float(line["median_us"]))
    for (kind, part), times in found.items():
        yield row_of("wire", f"{kind}, {part}", times)


def loops(options, scratch):
    """Closed loops over HTTP; the time is that of one request at the rate that was reached."""
    processors = bench_server.Processors(False)
    model = ModelDirectory(options.model)
    for name, count, form in LOOPS:
        with contextlib.ExitStack() as stack:
            running, bodies = {}, {}
            for side, tree in options.trees.items():
                options.server = program(tree, "dien-server")
                running[side] = stack.enter_context(bench_server.start("dien", options, None, True, processors))
                bodies[side] = None
                if count is not None:
                    made = list(bench_server.make_bodies(model, STEPS, count, True))
                    made = bench_server.with_tokens(running[side], made) if form == "token" else made
                    bodies[side] = scratch / f"{side}-bodies"
                    bodies[side].write_text("".join(json.dumps(body) + "\n" for body in made))
            times = {side: [] for side in SIDES}
            path = "/health/live" if count is None else "/score"
            for turn in range(options.rounds + 1):
                for side in SIDES:
                    got = bench_server.closed(running[side], options, bodies[side], options.seconds, path)
                    assert got["errors"] == got["refused_per_second"] == 0, got
                    if turn > 0:  # the first warms
                        times[side].append(1 / got["good_per_second"])
            yield row_of("http", name, times)


def main():
    options = arguments()
    machine.check_quiet()
    parts = {"library": library, "wire": wire, "http": loops}
    rows = []
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        for part in options.parts.split(","):
            os.sched_setaffinity(0, range(os.cpu_count()) if part == "http" else {max(range(os.cpu_count()))})
            rows += parts[part](options, pathlib.Path(scratch))
    before = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=options.trees["before"], capture_output=True,
                            text=True, check=False).stdout.strip()
    rows = [{**row, "before": before, "options": options.server_options} for row in rows]
    print(f"rows in {os.path.relpath(machine.save('before-after', rows, options.output))}")


if __name__ == "__main__":
    main()
