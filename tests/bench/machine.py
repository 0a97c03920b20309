"""Where a measurement was made, and its rows: tests/bench/results/PROCESSOR.BENCHMARK.csv."""

import csv
import datetime
import os
import pathlib
import platform
import re
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def cpu(field):
    """A field of the first processor in /proc/cpuinfo."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def processor():
    return cpu("model name") or platform.machine()


def slug():
    """The processor's name, with its family and model where it has them: clouds call several generations "AMD EPYC"."""
    words = " ".join((processor(), cpu("cpu family"), cpu("model")))
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def instruction_sets():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    return " ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile") if f" {name}" in text)


def commit():
    try:
        ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=TOP, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return ran.stdout.strip()


def busy_percent(seconds=1):
    """How busy the machine's processors are while we sleep: what others do beside a measurement."""
    def ticks():
        fields = list(map(int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        return sum(fields), fields[3] + fields[4]  # idle, and waiting for a disk
    total, idle = ticks()
    time.sleep(seconds)
    later, later_idle = ticks()
    return round(100 * (1 - (later_idle - idle) / max(1, later - total)))


def check_quiet():
    """Say so when others work beside a measurement; the rows do, too."""
    global busy_before
    busy_before = busy_percent()
    if busy_before > 10:
        print(f"warning: processors were {busy_before} % busy before this began; tails and memory-bound figures suffer")


busy_before = ""


def where():
    """The columns that every row ends with."""
    model = f"family {cpu('cpu family')} model {cpu('model')}" if cpu("cpu family") else ""
    return {"date": datetime.date.today().isoformat(), "commit": commit(),
            "machine": f"{processor()} {model}, {os.cpu_count()} processors, {instruction_sets()}", "kernel": platform.release(),
            "busy_before_percent": busy_before}


def kept(path, names, replaces):
    """Rows of earlier runs that those of a new one do not take the place of."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if not replaces(row)]
    if rows and reader.fieldnames != names:
        raise SystemExit(f"{path} has rows to be kept but other columns than this run's: move it away")
    return rows


def save(benchmark, rows, directory=RESULTS, replaces=lambda row: True):
    """Write the rows of a run, behind those of earlier runs for which replaces(row) is false; the path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{slug()}.{benchmark}.csv"
    here = where()
    new = [{**row, **here} for row in rows]
    old = kept(path, list(new[0]), replaces) if path.exists() else []
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, new[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(old + new)
    return path
