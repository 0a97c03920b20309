"""CONVERTING.md: its examples are the truth."""

import importlib
import json
import pathlib
import re

import numpy as np
import pytest

from dien.model import documents
from dien.model.model_directory import Scorer
from dien.sources import architecture, convert
from dien.sources.source import Source
from support import dien_command
from test_convert import GOLDEN, converted

PAGE = (dien_command.PACKAGE / "CONVERTING.md").read_text(encoding="utf-8")
SECTIONS = {section.split("\n", 1)[0].strip(): section for section in PAGE.split("\n## ")[1:]}


def blocks(framework):
    """The architecture file, the request and the answer of a section."""
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", SECTIONS[framework], re.DOTALL)]


def test_every_framework_has_a_section():
    assert set(convert.FRAMEWORKS) <= set(SECTIONS)


@pytest.mark.parametrize("framework", sorted(convert.FRAMEWORKS))
def test_architecture_file(framework):
    """Its keys are understood, and what it says of the case is what the case's own file says."""
    shown = blocks(framework)[0]
    architecture.check(shown, importlib.import_module(convert.FRAMEWORKS[framework]).RULES, Source({}))
    case = re.search(r"cd tests/golden/(\S+)", SECTIONS[framework]).group(1)
    own = documents.read(GOLDEN / case / "architecture.json")
    for key in set(shown) & set(own) - {
        "config",
        "item_attributes",
        "user_attributes",
        "max_length",
        "features",
        "history_features",
    }:
        if key == "attention_groups":
            assert [{name: each[name] for name in mine} for each, mine in zip(own[key], shown[key])] == shown[key]
            continue
        assert shown[key] == own[key], key


@pytest.mark.parametrize("framework", sorted(convert.FRAMEWORKS))
def test_request_and_answer(framework):
    """The ranked answer is the converted model's."""
    _, request, answer = blocks(framework)
    case = re.search(r"cd tests/golden/(\S+)", SECTIONS[framework]).group(1)
    scores = Scorer(*converted(case)).score(request)
    order = np.argsort(-scores)[: request.get("top_k", len(scores))].tolist()
    assert [result["index"] for result in answer["results"]] == order
    for result in answer["results"]:
        assert abs(result["score"] - scores[result["index"]]) < 2e-6
        for name, column in request["candidates"].items():
            assert result[name] == column[result["index"]]


def test_flags_are_there():
    """Every flag that the page names."""
    for flag in set(re.findall(r"(--[a-z][a-z-]+)", PAGE)) - {"--listen"}:
        assert f'"{flag}"' in pathlib.Path(convert.__file__).read_text(encoding="utf-8"), flag
