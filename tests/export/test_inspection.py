"""`dien inspect`: what was understood, as a person reads it."""


import numpy as np
import pytest

import random_model
from dien.model import inspection
from dien.model.config import weight_shapes
from support.dien_command import run_dien
from test_convert import CASES, command, converted


@pytest.mark.parametrize("case", CASES)
def test_every_stage_is_there(case):
    config, tensors = converted(case)
    text = inspection.describe(config, tensors)
    for field in config["fields"]:
        assert f"\n  {field['name']} " in text
    for interest in config["interests"]:
        assert f"interest {interest['name']}: history {', '.join(interest['history'])}" in text
        assert (
            f"evolution {interest['evolution']['cell']}" in text and f"reset {interest['extractor']['reset']}" in text
        )
    total = sum(int(np.prod(shape)) for shape in weight_shapes(config).values())
    assert f"parameters: {total:,} " in text


def test_conventions_are_spelt_out():
    text = inspection.describe(*converted("reference-tf1-prelu"))
    for part in (
        "w = v + a - a * v",
        "reset before: c = tanh(Wx + U(r*h) + b)",
        "inputs q, k, q-k, q*k",
        "query layer",
        "BatchNorm of its input folded in",
        "softmax of the last layer, column 0",
        "history_sum.interest  54 to 89",
        "[300, 18] F32",
    ):
        assert part in text, part
    text = inspection.describe(*converted("recbole-dien-augru"))
    assert "w = a * v" in text and "scale 0.223607" in text and "silu; BatchNorm of its output folded in" in text
    row = next(line for line in text.splitlines() if line.startswith("  cate_id "))
    assert row.split()[-1] == "item_id"


@pytest.mark.parametrize("seed", range(12))
def test_any_model(seed):
    config, tensors, _ = random_model.make(seed)
    text = inspection.describe(config, tensors)
    assert all(line == line.rstrip() for line in text.splitlines()) and f"model random-{seed}, version {seed}.0" in text


def test_command_writes_nothing(tmp_path):
    """With the inputs of a conversion it prints; with --output it converts as well."""
    run = command("fuxictr-agru-two-sequences", "--inspect")
    assert run.returncode == 0 and "w = a (rows v unused)" in run.stdout and "attention dot" in run.stdout
    run = command("fuxictr-agru-two-sequences", "--inspect", "--output", tmp_path / "out")
    assert run.returncode == 0 and (tmp_path / "out" / "samples.json").exists()
    again = run_dien("inspect", tmp_path / "out").stdout
    assert again.strip() in run.stdout


def test_a_directory_that_is_none(tmp_path):
    run = run_dien("inspect", tmp_path)
    assert run.returncode == 1 and "config.json" in run.stderr and "Traceback" not in run.stderr
