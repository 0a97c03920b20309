"""model/export/wire.py: ids to rows, unknown ids, attributes, both forms, the cut to max_length."""

import numpy as np
import pytest

from dien.model.vocabulary import Vocabulary
from dien.model.wire import Wire

CONFIG = {
    "tables": {"item": {"rows": 5, "width": 2}, "category": {"rows": 4, "width": 1}},
    "fields": [
        {"name": "item", "kind": "categorical", "table": "item", "ids": "vocabulary", "vocabulary": "item",
         "first_row": 1, "unknown_row": 0},
        {"name": "category", "kind": "categorical", "table": "category", "ids": "index", "first_row": 1,
         "unknown_row": 3, "attribute_of": "item"},
        {"name": "price", "kind": "dense", "width": 2, "attribute_of": "item"},
        {"name": "age", "kind": "dense"}],
    "groups": {"user": ["age"], "behaviour": ["item", "category", "price"], "candidate": ["item", "category", "price"]},
    "interests": [{"name": "clicks", "history": ["item", "category", "price"], "target": ["item"], "max_length": 3,
                   "keep": "last"}],
}
CATEGORY = np.array([3, 0, 1, 2, 1], np.int32)
PRICE = np.arange(10, dtype=np.float32).reshape(5, 2)


@pytest.fixture
def wire():
    vocabulary = Vocabulary.of_strings(["a", "b", "c", "d", "beyond"])
    return Wire(CONFIG, {"item": vocabulary}, {"category": CATEGORY, "price": PRICE})


def request(**members):
    return {"user": {"age": 30}, "history": {"item": ["a"]}, "candidates": {"item": ["b"]}, **members}


def history(wire, value):
    batch = wire.batch(request(history=value))
    return {name: column[0].tolist() for name, column in batch.history["clicks"].items()}


def test_vocabulary_rows(wire):
    columns = wire.batch(request(candidates={"item": ["a", "d", "e", "", "beyond"]})).candidates
    assert columns["item"].tolist() == [[1, 4, 0, 0, 0]]  # "beyond" has no row of its own: the table ends before it


def test_index_rows(wire):
    columns = wire.batch(request(candidates={"item": ["a"] * 4, "category": [0, 2, 3, 2**40]})).candidates
    assert columns["category"].tolist() == [[1, 3, 3, 3]]


def test_attributes_follow_the_item(wire):
    columns = wire.batch(request(candidates={"item": ["a", "zzz", "d"]})).candidates
    assert columns["category"].tolist() == [[0, 3, 1]]
    assert columns["price"].tolist() == [[[2, 3], [0, 1], [8, 9]]]


def test_attributes_that_are_sent(wire):
    rows = [{"item": "a", "category": 2, "price": [0.1, -1]}, {"item": "a"}, {"item": "b", "category": 0}]
    columns = wire.batch(request(candidates=rows)).candidates
    assert columns["category"].tolist() == [[3, 0, 1]]
    assert columns["price"].tolist() == [[[np.float32(0.1), -1], [2, 3], [4, 5]]]


def test_forms_agree(wire):
    columns = {"item": ["a", "zzz"], "category": [1, 2]}
    rows = [{"item": "a", "category": 1}, {"item": "zzz", "category": 2}]
    assert history(wire, columns) == history(wire, rows)


@pytest.mark.parametrize("keep, kept", [("last", [3, 4, 0]), ("first", [1, 2, 3])])
def test_cut(wire, monkeypatch, keep, kept):
    monkeypatch.setitem(CONFIG["interests"][0], "keep", keep)
    assert history(wire, {"item": ["a", "b", "c", "d", "e"]})["item"] == kept
    assert history(wire, {"item": ["a", "b", "c"]})["item"] == [1, 2, 3]


@pytest.mark.parametrize("empty", [{}, [], {"item": []}, None])
def test_empty_history(wire, empty):
    batch = wire.batch(request(history=empty))
    assert batch.lengths["clicks"].tolist() == [0]
    assert batch.history["clicks"]["price"].shape == (1, 0, 2)
