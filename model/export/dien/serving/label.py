"""Join a server's request log with clicks: impressions with labels, and a recipe by which `dien train` takes them.

    dien label /var/log/dien --clicks clicks.csv --output build/shown.jsonl --recipe build/shown.toml
    dien train build/shown.toml --checkpoint build/shown.pt --output build/shown

The clicks are a CSV, JSON lines or Parquet file with the columns user, item and time. A click belongs to the last
impression of its item to its user, at most --window seconds before. Where the log has hashes of users, --user-key-file has
the server's key. The history of each impression is the one that was used when it was scored.
"""
from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
from typing import Callable, Iterator

import numpy as np

from dien.data import tables
from dien.data.events import times
from dien.request_log.labels import Counts, Impressions, impressions, join, recipe_of, rows_of
from dien.request_log.reading import Reader

HASH_DIGITS = 32


def hash_of(key: bytes) -> Callable[[str], str]:
    """A user's id to `user_hash`, as server/REQUEST_LOG.md defines it."""
    return lambda user: hmac.new(key, user.encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]


def _itself(user: str) -> str:
    return user


def read_clicks(path: str, names: list[str], user_of: Callable[[str], str]) -> Iterator[tuple[str, str, float]]:
    """User, item and seconds since 1970 of each click."""
    for piece in tables.pieces(path, names):
        users, items, stamps = (piece.columns[name] for name in names)
        seconds: np.ndarray = times([stamps], piece.error)
        for user, item, time in zip(users, items, seconds):
            yield user_of(str(user)), str(item), float(time)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("log", nargs="+", help="directories or files of the request log")
    parser.add_argument("--clicks", required=True, help="a file of user, item and time")
    parser.add_argument("--columns", nargs=3, default=["user", "item", "time"], metavar=("USER", "ITEM", "TIME"),
                        help="the columns of that file")
    parser.add_argument("--item", default="item", help="the candidates' field that the clicks name (item)")
    parser.add_argument("--window", type=float, default=86_400, help="seconds from an impression to its click (86400)")
    parser.add_argument("--user-key-file", help="the key with which the log's users are hashed")
    parser.add_argument("--output", required=True, help="JSON lines, one for each impression and each behaviour")
    parser.add_argument("--recipe", help="a recipe for `dien train` to start from")
    parser.add_argument("--name", default="shown", help="the recipe's name")


def _key(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read().rstrip(b"\r\n")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Join, write, count."""
    reader, counts = Reader(arguments.log), Counts()
    user_of = hash_of(_key(arguments.user_key_file)) if arguments.user_key_file else _itself
    clicks = read_clicks(arguments.clicks, arguments.columns, user_of)
    with open(arguments.output, "w", encoding="utf-8") as file:
        for row in join(reader, clicks, counts, arguments.item, arguments.window):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    for line in reader.damaged:
        print(f"note: {line}")
    for reason, count in counts.skipped.items():
        print(f"note: {count} records are left out: {reason}")
    print(f"{counts.requests} requests, {counts.impressions} impressions, {counts.clicked} of them clicked; "
          f"{counts.strays} clicks belong to none")
    if counts.requests == 0:
        raise ValueError("no record of the log can be joined")
    if arguments.recipe:
        each = _example(reader, arguments.item)
        folder = os.path.dirname(os.path.abspath(arguments.recipe))
        with open(arguments.recipe, "w", encoding="utf-8") as file:
            file.write(recipe_of(rows_of(each, set()), each, arguments.name, os.path.relpath(arguments.output, folder)))
    return 0


def _example(reader: Reader, item: str) -> Impressions:
    """The request with the longest history of the first hundred: it has all fields."""
    best, length = None, -1
    for number, each in enumerate(impressions(reader, item, {})):
        size = len(json.dumps(each.request))
        if size > length:
            best, length = each, size
        if number == 100:
            break
    assert best is not None
    return best
