"""The export tools are scripts beside one another: the tests import them as they import each other."""

import pathlib
import sys

import pytest
import torch

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "model" / "export"), str(HERE)]
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tools():
    """Where the scripts are."""
    return TOP / "model" / "export"


@pytest.fixture(scope="session")
def tf1_case():
    """The golden case of the authors' code."""
    return TOP / "tests" / "golden" / "reference-tf1-prelu"
