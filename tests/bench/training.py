"""Training by a recipe at size: synthetic clicks are read, checked, trained for some steps, frozen and served.

    nice -n 10 python3 tests/bench/record.py training python3 tests/bench/training.py --clicks 10000000 --items 1000000

One process and one thread. Of clicks a second, those of reading count the whole file, those of training the examples of
the steps.
Peak memory is the process's, mapped files included, up to the end of each part.
"""

import argparse
import csv
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "model" / "export"))

RECIPE = """name = "size"
[data]
files = "clicks.csv"
user = "user"
time = "time"
[item.attributes]
category = {kind = "integer"}
[interests]
clicks = {max_length = 20}
[split]
examples = 2000
"""
CLICKS_A_USER = 10
PIECE = 1_000_000


def write_clicks(path, clicks, items):
    """Popularity falls as 1/rank; half of the clicks are near the user's last one. Rows are in the order of time."""
    random = np.random.default_rng(0)
    users = max(1, clicks // CLICKS_A_USER)
    last = np.floor(items ** random.random(users)).astype(np.int64) - 1
    with open(path, "w", encoding="ascii") as file:
        file.write("user,item,time,category\n")
        for begin in range(0, clicks, PIECE):
            count = min(PIECE, clicks - begin)
            user = random.integers(users, size=count)
            item = np.floor(items ** random.random(count)).astype(np.int64) - 1
            item = np.where(random.random(count) < 0.5, (last[user] + 1) % items, item)
            last[user] = item
            file.write("".join(f"u{one},item-{two},{begin + at},{two % 100}\n"
                               for at, (one, two) in enumerate(zip(user.tolist(), item.tolist()))))


def served(model):
    """Whether the server proves the model's samples and ranks a request."""
    server = TOP / "build" / "release" / "dien-server"
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as folder:
        address = pathlib.Path(folder) / "address"
        process = subprocess.Popen([server, "--model", model, "--listen", "127.0.0.1:0", "--address-file", address],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    body = json.dumps({"history": {"item": ["item-0", "item-1"]}, "candidates": {"item": ["item-2", "item-7"]}})
                    request = urllib.request.Request(f"http://{address.read_text().strip()}/score", body.encode(),
                                                     {"Content-Type": "application/json"})
                    with urllib.request.urlopen(request, timeout=30) as reply:
                        return len(json.load(reply)["results"]) == 2
                except OSError:
                    time.sleep(0.2)
            return False
        finally:
            process.terminate()
            process.wait()


def now():
    """The clock, and the processor time of this process: on a busy machine only the second says anything."""
    return time.perf_counter(), time.process_time()


def measure(options, folder):
    """A row for each part."""
    import torch
    from dien.data import checks, events, recipe
    from dien.training import export
    from dien.training.fit import Fit
    torch.set_num_threads(1)
    rows = []

    def part(name, clicks, began):
        seconds, busy = time.perf_counter() - began[0], time.process_time() - began[1]
        rows.append({"part": name, "clicks": options.clicks, "items": options.items, "seconds": round(seconds, 1),
                     "processor_seconds": round(busy, 1),
                     "clicks_a_processor_second": round(clicks / max(busy, 1e-3)) if clicks else "",
                     "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "note": ""})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)

    write_clicks(folder / "clicks.csv", options.clicks, options.items)
    size = (folder / "clicks.csv").stat().st_size
    began = now()
    dataset = events.read(recipe.parse(str(folder / "recipe.toml"), RECIPE))
    part("read", options.clicks, began)
    rows[-1]["note"] = f"{size / 2**20:.0f} MiB of CSV"
    began = now()
    fit = Fit(dataset)
    checks.findings(fit.sequences, fit.parts)
    part("prepare and check", options.clicks, began)
    began, trained, losses = now(), 0, []
    fit.network.train()
    for places in fit.sequences.batches(fit.parts["train"], 256, fit.random):
        losses.append(fit.step(places)[0])
        trained += len(places)
        if len(losses) == options.steps:
            break
    part("train", trained, began)
    rows[-1]["note"] = f"{len(losses)} steps of 256; loss {np.mean(losses[:10]):.3f} to {np.mean(losses[-10:]):.3f}"
    began = now()
    fit.best = {"epoch": 1, "steps": fit.steps, "aucs": {},
                "weights": {name: weight.detach() for name, weight in fit.network.weights().items()}}
    export.freeze(fit.state(), str(folder / "model"))
    part("freeze", 0, began)
    rows[-1]["note"] = "served" if served(folder / "model") else "not served"
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--clicks", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--csv", type=pathlib.Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as folder:
        rows = measure(options, pathlib.Path(folder))
    with open(options.csv, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
