"""The offline tools' command, run uninstalled: `python3 -m dien` with the package's folder on Python's path."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

TOP = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = TOP / "model" / "export"
GOLDEN = TOP / "tests" / "golden"
FRAMEWORKS = ("reference-tf1", "deepctr-torch", "deepctr", "fuxictr", "torch-rechub", "recbole")


def run_dien(*words: Any, check: bool = False) -> subprocess.CompletedProcess[str]:
    """The finished process, with its output as text; wide lines, so that argparse wraps none."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "dien", *map(str, words)], capture_output=True, text=True, check=check,
                          env=environment)


def convert_golden(case: str, output: pathlib.Path) -> None:
    """A golden case as a model directory; its samples are the framework's own float64 scores."""
    framework = next(name for name in FRAMEWORKS if case.startswith(name))
    run = run_dien("convert", "--from", framework, "--architecture", GOLDEN / case / "architecture.json",
                   "--weights", GOLDEN / case / "state_dict.safetensors", "--samples", GOLDEN / case / "requests.json",
                   "--output", output)
    assert run.returncode == 0, run.stderr
