"""Synthetic shops for the tests of recipes: small files in which the next click follows from the last one."""
from __future__ import annotations

import csv
import pathlib
import textwrap
from typing import Any, Iterable, Sequence

import numpy as np

ITEMS = 30


def clicks(seed: int = 0, users: int = 150, items: int = ITEMS, most: int = 9) -> list[tuple[int, int, int]]:
    """(user, item number, time): mostly the next item of the catalogue; times rise over all users together."""
    random, rows = np.random.default_rng(seed), []
    for user in range(users):
        item, time = int(random.integers(items)), int(random.integers(10_000))
        for _ in range(1 + int(random.integers(1, most))):
            rows.append((user, item, time))
            time += 1 + int(random.integers(50))
            item = (item + 1) % items if random.random() < 0.85 else int(random.integers(items))
    return sorted(rows, key=lambda row: row[2])


def write_csv(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> pathlib.Path:
    """One CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def recipe(folder: pathlib.Path, text: str, name: str = "recipe.toml") -> pathlib.Path:
    """One recipe; small and quick where it does not say otherwise."""
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    assert len(path.read_text().splitlines()) < 40
    return path
