"""Large requests among scoring threads, and small ones beside them: latency over HTTP at the reference shape.

    python3 tests/bench/split.py --server build/release/dien-server
    python3 tests/bench/split.py --server OTHER/dien-server --note "what it is"    # to compare

1. One client, one request of T = 100, C = 4,000 after another, its user's state cached, with 1 scoring thread and with
   as many as there are processors: the time per request.
2. As many scoring threads as processors, as many clients with such requests as keep them all busy, and beside them one
   client with a small request (T = 20, C = 10) every few milliseconds: the small ones' and the large ones' times.

The rows are added to tests/bench/results/PROCESSOR.split.csv. One machine runs the server and the load.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
from support import builds, service  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LARGE, SMALL = {"history": 100, "candidates": 4000}, {"history": 20, "candidates": 10}
PAUSE = 0.003  # between small requests: they alone leave the server mostly idle


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, default=builds.TOP / "build/release/dien-server")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    parser.add_argument("--note", default="")
    return parser.parse_args()


def ask(running, body, ending, pause=0.0):
    """Post one body until told to stop; the seconds that each took. Its scores keep their bits."""
    times, expected = [], None
    with running.client() as client:
        while not ending.is_set():
            start = time.perf_counter()
            reply = client.post(body)
            times.append(time.perf_counter() - start)
            scores = reply.scores()
            expected = expected or scores
            assert scores == expected
            time.sleep(pause)
    return times[2:]


def together(running, asked, seconds):
    """Each of asked, (body, pause), by a client of its own at once; their times."""
    ending, results = threading.Event(), [[] for _ in asked]

    def work(place):
        results[place] = ask(running, asked[place][0], ending, asked[place][1])
    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    ending.set()
    for thread in threads:
        thread.join()
    return results


def row_of(options, case, threads, times):
    ordered = sorted(times)
    return {
        "case": case, "server_threads": threads, "requests": len(times),
        "p50_ms": round(1e3 * statistics.median(ordered), 3), "p90_ms": round(1e3 * ordered[len(ordered) * 9 // 10], 3),
        "p99_ms": round(1e3 * ordered[len(ordered) * 99 // 100], 3), "max_ms": round(1e3 * ordered[-1], 3),
        "note": options.note,
        "command": f"tests/bench/split.py --seconds {options.seconds:g}",
    }


def measure(options, model):
    build = builds.Build(options.server.resolve().parents[1], options.server.resolve().parent.name)
    rng, most = random.Random(5), os.cpu_count()
    large = [json.dumps({**model.request(rng, **LARGE), "user_id": f"large{i}", "top_k": 10}) for i in range(most)]
    small = json.dumps({**model.request(rng, **SMALL), "user_id": "small"})
    rows = []
    for threads in sorted({1, most}):
        with service.Service(build, model.path, "--access-log", "off", "--threads", str(threads)) as running:
            rows.append(row_of(options, "one large", threads, together(running, [(large[0], 0)], options.seconds)[0]))
            if threads < most:
                continue
            rows.append(row_of(options, "small alone", threads, together(running, [(small, PAUSE)], options.seconds)[0]))
            beside = together(running, [(small, PAUSE)] + [(body, 0) for body in large], options.seconds)
            rows.append(row_of(options, "small beside large", threads, beside[0]))
            rows.append(row_of(options, "large beside small", threads, sum(beside[1:], [])))
    return rows


def main():
    options = arguments()
    machine.check_quiet()
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        subprocess.run([sys.executable, HERE / "reference_shape.py", "--output", scratch], check=True)
        rows = measure(options, ModelDirectory(scratch))
    for row in rows:
        print("{case:20} {server_threads} threads  {requests:5} requests  p50 {p50_ms} ms  p90 {p90_ms} ms  p99 {p99_ms} ms  "
              "max {max_ms} ms".format(**row))
    path = machine.save("split", rows, options.output, replaces=lambda old: False)
    print(f"rows added to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
