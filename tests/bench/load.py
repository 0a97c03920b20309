"""Closed-loop load on the server: requests/s, latency, errors, memory; one row of CSV per run.

    make bench
    python3 tests/bench/load.py --server build/release/dien-server --model model/demo --seconds 60

wrk keeps a number of connections busy with varied requests. Beside it an ordinary client posts one known request all
the time and compares the bits of its scores. The run fails when any request does, or when memory grows. `--model
reference` takes the golden reference model, which has the shape that the design's cost figures are for.

A row is added to tests/bench/results/PROCESSOR.load.csv. One machine runs the server and the load.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
from support import builds, dien_command, service  # noqa: E402
from support.load import Callers  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BODIES = 500
GROWTH_BYTES = 4 << 20  # what a run may add to resident memory after its warm-up


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, default=builds.TOP / "build/release/dien-server")
    parser.add_argument("--model", default="model/demo", help="a model directory, or `reference`")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--load-threads", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="the server's scoring threads; 0: its own choice")
    parser.add_argument("--history", type=int, default=50, help="most behaviours of a request")
    parser.add_argument("--candidates", type=int, default=100, help="candidates of a request")
    parser.add_argument("--fixed", action="store_true", help="every history has full length, instead of 1 to that")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    parser.add_argument("--note", default="")
    return parser.parse_args()


def model_directory(name, scratch):
    """The model directory, converted first when it is the golden reference."""
    if name != "reference":
        return ModelDirectory(pathlib.Path(name).resolve())
    dien_command.convert_golden("reference-tf1-prelu", scratch / "reference")
    return ModelDirectory(scratch / "reference")


def write_bodies(model, options, path):
    rng = random.Random(5)
    lengths = [options.history if options.fixed else rng.randint(1, options.history) for _ in range(BODIES)]
    with open(path, "w") as file:
        for length in lengths:
            file.write(json.dumps(model.request(rng, history=length, candidates=options.candidates)) + "\n")


class Watch(Callers):
    """Beside the load: resident memory once a second, and a client whose answer must keep its bits."""

    def __init__(self, running, model):
        super().__init__(running, self._memory, self._client)
        self.running = running
        self.body = model.request(random.Random(6), history=20, candidates=20)
        self.expected = running.score(self.body).scores()
        self.resident, self.answers = [], 0

    def _memory(self, _):
        if not self.ending.wait(1):
            self.resident.append(self.running.resident_bytes())

    def _client(self, client):
        if not self.ending.wait(0.1):
            reply = client.post(self.body)
            self.answers += 1
            assert reply.status == 200 and reply.scores() == self.expected, reply

    def check(self):
        """Faults are counted as errors of the run."""

    def growth(self):
        """Bytes between the end of the first sixth and the end."""
        return self.resident[-1] - self.resident[len(self.resident) // 6] if len(self.resident) > 1 else 0


def run_wrk(running, options, bodies, path="/score", media_type=None):
    """Without bodies a GET; with a media type the bodies are in hexadecimal digits."""
    host, port = running.address
    command = ["wrk", "-t", str(options.load_threads), "-c", str(options.connections), "-d", f"{options.seconds}s",
               "--timeout", "10s", "-s", str(HERE / "load.lua"), f"http://{host}:{port}{path}", "--",
               *([str(bodies)] if bodies else []), *([media_type] if media_type else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=builds.TOP).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def started(running):
    """What the server says of its kernels and BLAS at start."""
    line = next((line for line in running.log() if "kernels" in line), {})
    return f"{line.get('kernels', '?')}, OpenBLAS {line.get('blas', '?')}"


def row_of(options, model, running, load, watch):
    seconds = load["microseconds"] / 1e6
    return {
        "requests_per_second": round(load["requests"] / seconds),
        "p50_us": load["p50"], "p90_us": load["p90"], "p99_us": load["p99"], "p999_us": load["p999"], "max_us": load["max"],
        "requests": load["requests"], "seconds": round(seconds, 1),
        "errors": sum(load[kind] for kind in ("connect", "read", "write", "status", "timeout")) + len(watch.faults),
        "resident_start_mib": round(watch.resident[0] / 2**20, 1), "resident_end_mib": round(watch.resident[-1] / 2**20, 1),
        "growth_kib": watch.growth() // 1024,
        "model": f"{model.config['name']} {model.config['version']}",
        "history": options.history if options.fixed else f"1-{options.history}", "candidates": options.candidates,
        "connections": options.connections, "load_threads": options.load_threads,
        "server_threads": options.threads or "own choice",
        "kernels": started(running), "compiler": first_line("gcc", "--version"), "note": options.note,
        "command": " ".join(["tests/bench/load.py", *sys.argv[1:]]),
    }


def main():
    options = arguments()
    machine.check_quiet()
    build = builds.Build(options.server.resolve().parents[1], options.server.resolve().parent.name)
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        model = model_directory(options.model, scratch)
        write_bodies(model, options, scratch / "bodies")
        flags_ = ["--access-log", "off"] + (["--threads", str(options.threads)] if options.threads else [])
        with service.Service(build, model.path, *flags_) as running:
            # Warm: every thread has its memory before the first reading.
            run_wrk(running, argparse.Namespace(**{**vars(options), "seconds": min(3, options.seconds)}), scratch / "bodies")
            with Watch(running, model) as watch:
                time.sleep(1.1)
                load = run_wrk(running, options, scratch / "bodies")
            row = row_of(options, model, running, load, watch)
    path = machine.save("load", [row], options.output, replaces=lambda old: False)
    print(f"{row['requests_per_second']} requests/s   p50 {row['p50_us'] / 1000:.2f} ms   p99 {row['p99_us'] / 1000:.2f} ms   "
          f"{row['errors']} errors   memory {row['resident_start_mib']} -> {row['resident_end_mib']} MiB")
    print(f"row added to {os.path.relpath(path)}")
    if row["errors"] or watch.answers == 0 or watch.growth() > GROWTH_BYTES:
        print("FAILED:", load, watch.faults[:3], f"memory grew by {watch.growth()} bytes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
