"""Run a measuring program and keep its rows: tests/bench/results/PROCESSOR.BENCHMARK.csv, with machine, date and commit.

    python3 tests/bench/record.py kernels build/release/bench/kernels build/bench/reference-shape

The program gets `--csv FILE` behind its own arguments, and prints its tables as always.
"""

import argparse
import csv
import os
import pathlib
import subprocess
import tempfile

import machine


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    parser.add_argument("benchmark")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    machine.check_quiet()
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        path = pathlib.Path(scratch) / "rows.csv"
        subprocess.run([*options.command, "--csv", path], check=True)
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    print(f"rows in {os.path.relpath(machine.save(options.benchmark, rows, options.output))}")


if __name__ == "__main__":
    main()
