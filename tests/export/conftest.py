"""The package `dien` is imported from the tree, and its command runs uninstalled, as `python3 -m dien`."""

import pathlib
import sys

import pytest
import torch

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "model" / "export"), str(HERE), str(HERE.parent)]
torch.set_num_threads(1)

from support.dien_command import run_dien  # noqa: E402


@pytest.fixture(scope="session")
def dien():
    """run_dien()."""
    return run_dien


@pytest.fixture(scope="session")
def tf1_case():
    """The golden case of the authors' code."""
    return TOP / "tests" / "golden" / "reference-tf1-prelu"
