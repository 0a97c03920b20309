"""What the access log costs: closed loops with and without it, in pairs, and lines at twice the rate.

    make bench-log

One server logs each request (at level debug, so that health is logged, too) into a file, another one logs none. They
take turns within each round, and the row has the median of the rounds' ratios. Server and load have processors of their
own. Afterwards each request's line is looked for in the file. Then access_lines.c makes lines at twice the rate that
the server reached, on the server's processor, and the share of lines that the ring dropped is stated.
The rows go to tests/bench/results/PROCESSOR.access-log.csv.
"""

import argparse
import contextlib
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
from support import builds, service  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

STEPS = 100
# The name, the path, C, and the route of the lines.
LOOPS = (("live", "/health/live", None), ("C=1 by token", "/score", 1))
SIDES = "off", "on"
TIMES = 2  # the rate of the lines without a server, in the rate that was reached with one


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=builds.TOP / "build/release")
    parser.add_argument("--lines", type=pathlib.Path, help="access_lines, where it is not in the build")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2, help="of a closed loop in one round")
    parser.add_argument("--loops", default=",".join(name for name, _, _ in LOOPS))
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    parser.add_argument("--server-options", default="", help='more of dien-server\'s own, such as "--old-names off"')
    options = parser.parse_args()
    options.connections = 16
    options.lines = options.lines or options.build / "bench/access_lines"
    return options


def start(options, side, log, processors):
    os.sched_setaffinity(0, processors.server)
    try:
        build = builds.Build(options.build.resolve().parent, options.build.resolve().name)
        return service.Service(build, options.model, "--access-log", side, "--log-level", "debug", "--threads",
                               str(len(processors.server)), *options.server_options.split(), log=log)
    finally:
        os.sched_setaffinity(0, processors.load)


def answers(metrics, path):
    return round(sum(value for name, value in metrics.items()
                     if name.startswith(f'dien_http_responses_total{{route="{path}"')))


def lines_of(log, path):
    """How many of the log's lines tell of a request of this path."""
    wanted = f'"{path}"'
    with open(log) as file:
        return sum('"event":"request"' in line and wanted in line for line in file)


def loop(options, name, path, count, scratch, processors):
    """One row: both servers' rates, and the log's lines beside the requests that were answered."""
    with contextlib.ExitStack() as stack:
        running, bodies = {}, {}
        for side in SIDES:
            log = stack.enter_context(open(scratch / f"{name}-{side}.log", "wb"))
            running[side] = stack.enter_context(start(options, side, log, processors))
            bodies[side] = None
            if count is not None:
                made = bench_server.make_bodies(ModelDirectory(options.model), STEPS, count, True)
                bodies[side] = scratch / f"{side}-bodies"
                bench_server.write_bodies(bench_server.with_tokens(running[side], made), bodies[side])
        rates = {side: [] for side in SIDES}
        for turn in range(options.rounds + 1):
            for side in SIDES if turn % 2 else SIDES[::-1]:
                got = bench_server.closed(running[side], options, bodies[side], options.seconds, path)
                assert got["errors"] == got["refused_per_second"] == 0, got
                if turn > 0:  # the first warms
                    rates[side].append(got["good_per_second"])
        metrics = running["on"].metrics()
    ratios = [on / off for off, on in zip(rates["off"], rates["on"])]
    answered, written = answers(metrics, path), lines_of(scratch / f"{name}-on.log", path)
    dropped = round(metrics["dien_log_dropped_total"])
    print(f"{name:<16}{statistics.median(rates['off']):>10.0f} /s without{statistics.median(rates['on']):>10.0f} /s with   "
          f"{statistics.median(ratios):.3f} times ({min(ratios):.2f} to {max(ratios):.2f})   "
          f"{answered} answers, {written} lines, {dropped} dropped", flush=True)
    return {"what": name, "without_per_second": statistics.median(rates["off"]),
            "with_per_second": statistics.median(rates["on"]), "ratio": round(statistics.median(ratios), 4),
            "ratio_least": round(min(ratios), 3), "ratio_most": round(max(ratios), 3), "rounds": len(ratios),
            "answers": answered, "lines": written, "dropped": dropped, "nanoseconds_each": "",
            "options": options.server_options}


def lines_alone(options, name, rate, scratch, processors):
    """Lines at a rate, made on the server's processor, where the log's thread runs, too."""
    old = "off" if "--old-names off" in options.server_options else "on"
    os.sched_setaffinity(0, processors.server)
    try:
        with open(scratch / "lines.log", "wb") as log:
            ran = subprocess.run([options.lines, str(rate), str(options.seconds), old], check=True, stdout=subprocess.PIPE,
                                 stderr=log, text=True)
    finally:
        os.sched_setaffinity(0, processors.load)
    got = json.loads(ran.stdout)
    written = lines_of(scratch / "lines.log", "/score")
    assert written + got["dropped"] == got["lines"], (written, got)
    share = got["dropped"] / max(1, got["lines"])
    print(f"{name:<16}{got['per_second']:>10} lines /s, {share:.2%} dropped, {got['nanoseconds_each']} ns each", flush=True)
    return {"what": name, "without_per_second": "", "with_per_second": got["per_second"], "ratio": "", "ratio_least": "",
            "ratio_most": "", "rounds": 1, "answers": "", "lines": written, "dropped": got["dropped"],
            "nanoseconds_each": got["nanoseconds_each"], "options": options.server_options}


def main():
    options = arguments()
    machine.check_quiet()
    processors = bench_server.Processors(False)
    rows = []
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        for name, path, count in LOOPS:
            if name in options.loops.split(","):
                rows.append(loop(options, name, path, count, pathlib.Path(scratch), processors))
                rows.append(lines_alone(options, f"{name}, {TIMES} times", TIMES * rows[-1]["with_per_second"],
                                        pathlib.Path(scratch), processors))
    print(f"rows in {os.path.relpath(machine.save('access-log', rows, options.output))}")


if __name__ == "__main__":
    main()
