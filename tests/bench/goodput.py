"""Goodput under overload: good answers within the client's own patience, as a share of the closed-loop maximum.

    git worktree add ../before COMMIT && make -C ../before build
    make bench-goodput BEFORE=../before

openloop.c offers 1.3 to 10 times the rate that a closed loop reached in the same run. Its clients give up after 50, 100
or 300 ms and close their connections, or wait for ever ("none": an answer counts within the server's deadline of a
second). With retries each client tries again at once, twice. The server has processor 0 and the load has the last.

Refusing costs processor time as well. `left` is the share of the processor that the event loop's thread leaves to
scoring, relative to the closed loop; `of_left` is the goodput as a share of the maximum times that. The rows go to
tests/bench/results/PROCESSOR.goodput.csv.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
import server as bench_server  # noqa: E402
from support import builds  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

STEPS, CANDIDATES = 100, 100
DEADLINE = 1.0  # --deadline's default
CONNECTIONS = 9_000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--before", type=pathlib.Path, help="another built tree")
    parser.add_argument("--after", type=pathlib.Path, default=builds.TOP, help="a built tree")
    parser.add_argument("--openloop", type=pathlib.Path, default=builds.TOP / "build/release/bench/openloop")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--loads", default="1.3,2,3,10", help="times the closed loop's rate")
    parser.add_argument("--timeouts", default="0.05,0.1,0.3,none", help="seconds")
    parser.add_argument("--retries", default="0,2")
    parser.add_argument("--seconds", type=float, default=3, help="of each run, of which the first is not counted")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--server-options", dest="more", default="", help='more of dien-server\'s own, such as "--queue 16"')
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    options = parser.parse_args()
    options.connections = 16
    return options


def thread_seconds(pid):
    """Processor time of the event loop's thread and of all others."""
    loop = rest = 0
    for path in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
        spent = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if int(path.name) == pid:
            loop += spent
        else:
            rest += spent
    return loop, rest


def measured(running, what):
    """The result of a function, and the processor time of the loop's thread in it."""
    before = thread_seconds(running.process.pid)
    got = what()
    return got, thread_seconds(running.process.pid)[0] - before[0]


def offer(running, options, bodies, rate, timeout, retries):
    host, port = running.address
    command = [options.openloop, f"{host}:{port}", bodies, "--rate", rate, "--seconds", options.seconds, "--skip", 1,
               "--connections", CONNECTIONS, "--within", timeout or DEADLINE, "--timeout", timeout, "--retries", retries]
    ran = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout)


def table(side, running, options, bodies):
    """The rows of one server."""
    bench_server.closed(running, options, bodies, 1)  # warm
    most, loop = measured(running, lambda: bench_server.closed(running, options, bodies, 3))
    maximum, loop_closed = most["good_per_second"], loop / 3
    print(f"{side}: closed loop {maximum:.0f} a second, event loop {loop_closed:.0%} of its processor")
    for load in map(float, options.loads.split(",")):
        for timeout in options.timeouts.split(","):
            for retries in map(int, options.retries.split(",")):
                patience = 0 if timeout == "none" else float(timeout)
                got, loop = measured(running, lambda: offer(running, options, bodies, load * maximum, patience, retries))
                left = (1 - min(0.99, loop / got["seconds"])) / (1 - loop_closed)
                unserved = got["attempts"] - got["good"]["count"]
                row = {"side": side, "load": load, "timeout": timeout, "retries": retries, "maximum": maximum,
                       "goodput": got["goodput"], "share": round(got["goodput"] / maximum, 3), "left": round(left, 3),
                       "of_left": round(got["goodput"] / maximum / left, 3),
                       "attempts_per_second": round(got["attempts"] / got["seconds"]), "refused": got["refused"]["count"],
                       "given_up": got["given_up"], "failed": got["failed"], "other": got["other"],
                       "p50_ms": round(got["good"].get("p50", 0) / 1000, 1), "p99_ms": round(got["good"].get("p99", 0) / 1000, 1),
                       "longest_ms": round(got["good"].get("max", 0) / 1000, 1),
                       "late_p99_ms": round(got["late"].get("p99", 0) / 1000, 1),
                       "loop_us_per_unserved": round(1e6 * loop / max(1, unserved), 1)}
                print(f"  {load:>4} times, patience {timeout:>5}, {retries} retries: {row['goodput']:>7.1f} a second, "
                      f"{row['share']:>6.1%} of the maximum, {row['of_left']:>6.1%} of what is left; "
                      f"{row['attempts_per_second']:>6} attempts a second, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms, "
                      f"longest {row['longest_ms']} ms", flush=True)
                yield row


def identity(row):
    """What a row is of: measured once more, it takes the place of the former."""
    return tuple(str(row[name]) for name in ("side", "load", "timeout", "retries"))


def main():
    options = arguments()
    processors = bench_server.Processors(False)
    model = ModelDirectory(options.model)
    machine.check_quiet()
    rows = []
    trees = {"before": options.before, "after": options.after}
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        bodies = pathlib.Path(scratch) / "bodies"
        bench_server.write_bodies(bench_server.make_bodies(model, options.steps, options.candidates, True), bodies)
        for side, tree in trees.items():
            if tree is None:
                continue
            options.server = tree.resolve() / "build/release/dien-server"
            options.server_options = f"--deadline {DEADLINE} {options.more}"
            with bench_server.start("dien", options, None, True, processors) as running:
                rows += table(side, running, options, bodies)
    taken = {identity(row) for row in rows}
    path = machine.save("goodput", rows, options.output, replaces=lambda row: identity(row) in taken)
    print(f"rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
