"""A model with 1 GB of tables is reloaded twenty times under open-loop load: the tail around each swap, and memory.

    make bench-reload

Each turn has three windows of the load at 70 % of the closed loop's maximum, one after another: two without a reload,
and one in which SIGHUP asks for the next of three versions. `with_swap` is the p99 of the third by that of the second,
`without` that of the second by that of the first; the promise is about the medians over all turns. Versions have files
of their own, so that each reload reads, digests and proves a whole model. Clients wait for as long as --deadline, a
second. The rows go to tests/bench/results/PROCESSOR.reload.csv.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
import server as bench_server  # noqa: E402
from support import builds, service  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ITEMS = 14_000_000  # of 18 floats: 1 GB
STEPS, CANDIDATES, BODIES, USERS = 100, 100, 400, 200
LOAD = 0.7
VERSIONS = 3  # the live one, the one before, and the next


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, default=builds.TOP / "build/release/dien-server")
    parser.add_argument("--openloop", type=pathlib.Path, default=builds.TOP / "build/release/bench/openloop")
    parser.add_argument("--models", type=pathlib.Path, default=builds.TOP / "build/bench/reload", help="made where missing")
    parser.add_argument("--items", type=int, default=ITEMS, help="rows of the largest table")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.5, help="of each window")
    parser.add_argument("--server-options", dest="more", default="", help='such as "--model-memory copy"')
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    options = parser.parse_args()
    options.connections = 16
    return options


def make_models(options):
    """Directories of the versions; the third shares the weights' bytes, not the directory, with the first."""
    directories = [options.models / f"{options.items}-{version}" for version in range(VERSIONS)]
    if all((each / "samples.json").exists() for each in directories):
        return directories
    first = directories[0]
    subprocess.run([sys.executable, HERE / "reference_shape.py", "--items", str(options.items), "--output", first], check=True)
    config = json.loads((first / "config.json").read_text())
    for version, directory in enumerate(directories):
        directory.mkdir(exist_ok=True)
        if directory != first and not (directory / "model.safetensors").exists():
            place = shutil.copyfile if version == 1 else os.link
            place(first / "model.safetensors", directory / "model.safetensors")
        (directory / "config.json").write_text(json.dumps({**config, "version": str(version)}))
        if directory != first:
            shutil.copyfile(first / "samples.json", directory / "samples.json")
    return directories


def make_bodies(items):
    """Histories of known users, candidates from all over the table."""
    rng = random.Random(7)

    def columns(count):
        return {"item": [rng.randrange(items) for _ in range(count)], "category": [rng.randrange(500) for _ in range(count)]}

    users = [(rng.randrange(10_000), columns(STEPS)) for _ in range(USERS)]
    for i in range(BODIES):
        user, history = users[i % USERS]
        yield {"user_id": f"u{i % USERS}", "user": {"user": user}, "history": history, "candidates": columns(CANDIDATES)}


class Running:
    """The server on `current`, a link to one version after another."""

    def __init__(self, options, directories, scratch):
        self.link, self.directories, self.turn = scratch / "current", directories, 0
        self.link.symlink_to(directories[0])
        processors = bench_server.Processors(False)
        os.sched_setaffinity(0, processors.server)
        build = builds.Build(options.server.resolve().parents[1], options.server.resolve().parent.name)
        self.server = service.Service(build, self.link, "--access-log", "off", "--deadline", "1", "--threads",
                                      str(len(processors.server)), *options.more.split())
        os.sched_setaffinity(0, processors.load)

    def lives(self):
        return self.server.metrics()['dien_model_loads_total{result="live"}']

    def ask_for_the_next(self):
        self.turn += 1
        new = self.link.with_name("new")
        new.symlink_to(self.directories[self.turn % VERSIONS])
        os.replace(new, self.link)
        self.server.process.send_signal(signal.SIGHUP)

    def memory(self):
        """Bytes in memory: of the process's own, and of files."""
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


def window(running, options, bodies, rate, reload):
    """One run of the load; with `reload` in its first half a second, which must end before the window does."""
    host, port = running.server.address
    command = [options.openloop, f"{host}:{port}", bodies, "--rate", rate, "--seconds", options.seconds, "--connections", 64]
    before = running.lives()
    load = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    began = time.monotonic()
    if reload:
        time.sleep(0.2)
        running.ask_for_the_next()
        while running.lives() == before:
            time.sleep(0.02)
    took = time.monotonic() - began
    got = json.loads(load.communicate()[0])
    lost = got["refused"]["count"] + got["other"] + got["failed"] + got["unanswered"]
    return got["good"]["p99"], lost, got["good"]["max"], took if reload else 0


def turns(running, options, bodies, rate):
    for turn in range(1, options.turns + 1):
        windows = [window(running, options, bodies, rate, reload) for reload in (False, False, True)]
        time.sleep(0.5)  # the model before the previous one is closed
        own, files = running.memory()
        row = {"turn": turn, "items": options.items, "options": options.more, "rate": round(rate, 1),
               "p99_first_us": windows[0][0], "p99_second_us": windows[1][0], "p99_swap_us": windows[2][0],
               "max_swap_us": windows[2][2], "without": round(windows[1][0] / windows[0][0], 3),
               "with_swap": round(windows[2][0] / windows[1][0], 3), "lost": sum(each[1] for each in windows),
               "swap_after_s": round(windows[2][3], 2), "in_window": int(windows[2][3] < options.seconds),
               "own_bytes": own, "file_bytes": files}
        print(f"  turn {turn:>2}: p99 {row['p99_first_us'] / 1000:.2f}, {row['p99_second_us'] / 1000:.2f}, with the swap "
              f"{row['p99_swap_us'] / 1000:.2f} ms; swap after {row['swap_after_s']} s; lost {row['lost']}; memory "
              f"{own / 2**20:.0f} + {files / 2**20:.0f} MiB", flush=True)
        yield row


def main():
    options = arguments()
    directories = make_models(options)
    machine.check_quiet()
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        bodies = pathlib.Path(scratch) / "bodies"
        bench_server.write_bodies(make_bodies(options.items), bodies)
        running = Running(options, directories, pathlib.Path(scratch))
        with running.server:
            bench_server.closed(running.server, options, bodies, 2)
            maximum = bench_server.closed(running.server, options, bodies, 3)["good_per_second"]
            print(f"closed loop {maximum:.0f} a second; load {LOAD:.0%} of it, {options.seconds} s a window")
            rows = list(turns(running, options, bodies, LOAD * maximum))
    first, last = rows[min(1, len(rows) - 1)], rows[-1]
    grown = (last["own_bytes"] + last["file_bytes"]) / (first["own_bytes"] + first["file_bytes"])
    print(f"median p99 ratio: with a swap {statistics.median(row['with_swap'] for row in rows):.3f}, without "
          f"{statistics.median(row['without'] for row in rows):.3f}; requests lost {sum(row['lost'] for row in rows)}; "
          f"swaps within their window {sum(row['in_window'] for row in rows)} of {len(rows)}; memory after reload "
          f"{last['turn']} is {grown:.4f} of that after reload {first['turn']}")
    print(f"rows in {os.path.relpath(machine.save('reload', rows, options.output))}")


if __name__ == "__main__":
    main()
