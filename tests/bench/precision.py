"""How much reduced precision changes scores, and the time it saves: the demo model on all test sessions (each session's
last click hidden, every item of the catalogue a candidate), the golden cases on their own requests, and random weights
of the reference shape.

    make bench-precision DATA=e-shop-clothing-2008.csv.gz

The data set is UCI 553 (model/demo/README.md); without it the demo model is left out. The rows take the place of those
of the same model and precision in tests/bench/results/PROCESSOR.precision.csv.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any, Iterator

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "model" / "export"), str(TOP / "tests")]

from dien.data import clickstream  # noqa: E402  (found by the line above)
import machine  # noqa: E402
from support import dien_command  # noqa: E402

REFERENCE_REQUESTS = 300
REFERENCE_SIZES = ((100, 100), (50, 100), (100, 16), (100, 1))
COLUMNS = ("model", "precision", "requests", "scores", "largest_difference", "top_10_agreement",
           "float32_seconds", "reduced_seconds")


def test_requests(data: str) -> Iterator[dict[str, Any]]:
    """Each test session without its last click, and the whole catalogue to rank."""
    catalogue, sessions = clickstream.read(data)
    test = clickstream.split(sessions).test
    for i in range(len(test)):
        clicks = test.clicks[test.offsets[i]:test.offsets[i + 1] - 1]
        yield {"user": {"country": int(test.country[i])}, "context": {"month": int(test.month[i])},
               "history": {"item": [catalogue.codes[click - 1] for click in clicks]},
               "candidates": {"item": catalogue.codes}, "scores": [0.0] * len(catalogue.codes)}


def compare(tool: str, name: str, model: pathlib.Path, requests: pathlib.Path) -> dict[str, str]:
    """A row of the CSV; it is printed, too."""
    ran = subprocess.run([tool, str(model), str(requests)], check=True, stdout=subprocess.PIPE, text=True)
    row = dict(zip(COLUMNS, [name, *ran.stdout.strip().split(",")], strict=True))
    print(",".join(row.values()), flush=True)
    return row


def demo_row(tool: str, data: str, directory: pathlib.Path) -> dict[str, str]:
    """The demo model on the test sessions."""
    requests = directory / "sessions.json"
    with requests.open("w", encoding="utf-8") as file:
        json.dump({"samples": list(test_requests(data))}, file)
    return compare(tool, "demo", TOP / "model" / "demo", requests)


def reference_row(tool: str, history: int, candidates: int, directory: pathlib.Path,
                  *options: str) -> dict[str, str]:
    """Random requests to random weights of the shape that the cost figures are for."""
    model, requests = directory / "reference", directory / "requests.json"
    subprocess.run([sys.executable, str(TOP / "tests" / "bench" / "reference_shape.py"), *options, "--output",
                    str(model)], check=True, stdout=subprocess.DEVNULL)
    draw = random.Random(1)

    def columns(count: int) -> dict[str, list[int]]:
        return {"item": [draw.randrange(10_000) for _ in range(count)],
                "category": [draw.randrange(500) for _ in range(count)]}

    samples = [{"user": {"user": draw.randrange(10_000)}, "history": columns(history),
                "candidates": columns(candidates), "scores": [0.0] * candidates} for _ in range(REFERENCE_REQUESTS)]
    requests.write_text(json.dumps({"samples": samples}), encoding="utf-8")
    name = " ".join(["reference shape", *options, f"T={history} C={candidates}"])
    return compare(tool, name, model, requests)


def golden_row(tool: str, case: pathlib.Path, directory: pathlib.Path) -> dict[str, str]:
    """A golden case, converted, on its own requests."""
    model = directory / case.name
    dien_command.convert_golden(case.name, model)
    return compare(tool, case.name, model, model / "samples.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default="build/release/bench/precision", help="the built tests/bench/precision.c")
    parser.add_argument("--data", help="your copy of UCI data set 553")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    arguments = parser.parse_args()
    machine.check_quiet()
    print(",".join(COLUMNS))
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        if arguments.data:
            rows.append(demo_row(arguments.tool, arguments.data, pathlib.Path(directory)))
        for history, candidates in REFERENCE_SIZES:
            rows.append(reference_row(arguments.tool, history, candidates, pathlib.Path(directory)))
        rows.append(reference_row(arguments.tool, 50, 100, pathlib.Path(directory), "--attention", "bilinear",
                                  "--hidden", "32", "--cell", "augru-and"))
        rows += [golden_row(arguments.tool, case, pathlib.Path(directory)) for case in sorted(dien_command.GOLDEN.iterdir())]
    rows = [row for row in rows if row["precision"] != "float32"]  # nothing applied: nothing was measured
    measured = {(row["model"], row["precision"]) for row in rows}
    path = machine.save("precision", rows, arguments.output, lambda row: (row["model"], row["precision"]) in measured)
    print(f"rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
