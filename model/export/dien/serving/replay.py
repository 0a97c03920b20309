"""Send a server's request log again, as load or to compare scores; or compare the log's scores with a model's.

    dien replay /var/log/dien --url http://127.0.0.1:8080                  at the recorded times
    dien replay /var/log/dien --url http://127.0.0.1:8080 --speed 4        four times as fast; `max`: as fast as it goes
    dien replay /var/log/dien --url http://127.0.0.1:8081 --compare        scores beside those of another server
    dien replay /var/log/dien --model build/clicks                         scores beside PyTorch's in float64

Requests for scores are sent with the history that was used, so no server needs to know the users. At recorded times a
latency counts from the time when the request was due, waiting included. The comparison has the largest and the mean
difference, how alike the rankings are, and the users and items that differ most. Its exit status is 1 beyond --tolerance:
1e-5 with --model, otherwise none.
"""
from __future__ import annotations

import argparse
import heapq
import itertools
import json
import sys
from typing import Any, Iterable, Iterator, Optional

import numpy as np

from dien.request_log.reading import Reader
from dien.request_log.records import SCORE, NotReplayable, Record, columns_of
from dien.serving.comparison import Comparison
from dien.serving.load import Measured, Shot, Target, closed_loop, open_loop

AHEAD = 1000  # records that are looked at ahead: they are written when they end, and sent as they came
TOLERANCE = 1e-5
JSON = "application/json"
NOT_COMPARED = ("top_k", "partial", "timeout_ms", "explain")  # every candidate is to have its score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("log", nargs="+", help="directories or files of the request log")
    parser.add_argument("--url", help="where to send it: http://HOST:PORT or unix:PATH")
    parser.add_argument("--model", help="a model directory, to compare with PyTorch in float64")
    parser.add_argument("--speed", default="1", help="times as fast as recorded (1), or max: as fast as it goes")
    parser.add_argument("--compare", action="store_true", help="compare the scores of --url with the log's")
    parser.add_argument("--connections", type=int, default=64, help="at most so many (64)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a reply (60)")
    parser.add_argument("--limit", type=int, help="the first so many requests")
    parser.add_argument("--top", type=int, default=10, help="the length of the rankings that are compared (10)")
    parser.add_argument("--item", default="item", help="the candidates' field by which the comparison lists items (item)")
    parser.add_argument("--tolerance", type=float, help="the largest difference that is no failure")
    parser.add_argument("--trace", action="store_true", help="send each request in its recorded trace")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


class _Log:
    """The records that can be replayed; `skipped` counts the others by reason."""

    def __init__(self, places: list[str], limit: Optional[int], scored_only: bool):
        self.reader, self.limit, self.scored_only = Reader(places), limit, scored_only
        self.skipped: dict[str, int] = {}

    def _skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def _all(self) -> Iterator[tuple[Record, dict[str, Any]]]:
        for record in self.reader:
            if record.route != SCORE:
                self._skip("no requests for scores")
            elif self.scored_only and not record.is_scored:
                self._skip("without scores")
            else:
                try:
                    yield record, record.request()
                except NotReplayable:
                    self._skip("without a history or a body that was understood")

    def __iter__(self) -> Iterator[tuple[Record, dict[str, Any]]]:
        self.skipped.clear()
        return itertools.islice(self._all(), self.limit)


def in_order(records: Iterable[tuple[Record, dict[str, Any]]]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """By the time at which they came, as far as a record is at most AHEAD places late."""
    waiting: list[tuple[float, int, tuple[Record, dict[str, Any]]]] = []
    for number, each in enumerate(records):
        heapq.heappush(waiting, (each[0].time, number, each))
        if len(waiting) > AHEAD:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def shot_of(target: Target, due: float, key: int, record: Record, request: dict[str, Any], trace: bool) -> Shot:
    """One record as bytes: in its own content type, as far as it needs no history of the server."""
    headers = {"Content-Type": JSON}
    body = record.message()
    if body is not None:
        headers["Content-Type"] = record.members["content_type"]
    else:
        body = json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()
    text = {"X-Request-Id": record.request_id, "X-User-Id": record.user}
    if trace and "trace_id" in record.members:
        text["traceparent"] = f"00-{record.members['trace_id']}-{record.members.get('span_id', '0' * 15 + '1')}-01"
    headers.update({name: value for name, value in text.items() if value and value.isascii() and value.isprintable()})
    return Shot(due, target.request(SCORE, body, headers), key)


def _speed(text: str) -> Optional[float]:
    """The factor; None: as fast as it goes."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e9:
        raise ValueError(f"--speed {text}: neither a positive number nor max")
    return factor


def send(log: _Log, arguments: argparse.Namespace, comparison: Optional[Comparison]) -> Measured:
    """Send the log to --url. All requests are made before the first is sent, so that making them delays none."""
    target, factor = Target.of(arguments.url), _speed(arguments.speed)
    records = list(in_order(log))
    if not records:
        raise ValueError("no record of the log can be replayed")
    first, shots = records[0][0].time, []
    for key, (record, request) in enumerate(records):
        asked = {name: value for name, value in request.items() if comparison is None or name not in NOT_COMPARED}
        shots.append(shot_of(target, (record.time - first) / (factor or 1), key,
                             Record({**record.members, "content_type": JSON}) if comparison else record, asked, arguments.trace))
    faults: list[str] = []

    def replied(key: int, status: int, body: bytes) -> None:
        record, request = records[key]
        if status != 200 or comparison is None:
            faults.append(f"request {record.request_id}: {status or 'no reply'} {body[:300].decode(errors='replace')}")
            return
        logged = np.array(record.scores)
        other = np.full(len(logged), np.nan)
        for result in json.loads(body)["results"]:
            if result["index"] < len(other):
                other[result["index"]] = result["score"]
        comparison.add(record.request_id, record.user, logged, other, _items(request, arguments.item))

    loop = closed_loop if factor is None else open_loop
    measured = loop(target, shots, arguments.connections, replied if comparison else None, arguments.timeout)
    for fault in faults[:3]:
        print(fault, file=sys.stderr)
    return measured


def _items(request: dict[str, Any], item: str) -> Optional[list[Any]]:
    return columns_of(request["candidates"]).get(item)


def compare_with_model(log: _Log, directory: str, item: str, comparison: Comparison) -> None:
    """The log's scores beside those of a model directory, by PyTorch in float64."""
    from dien.model import model_directory  # PyTorch takes seconds, and load needs none of it
    scorer = model_directory.load(directory)
    for record, request in log:
        logged = np.array(record.scores)
        try:
            other = scorer.score({name: value for name, value in request.items() if name != "user_id"})[:len(logged)]
        except ValueError as error:
            raise ValueError(f"request {record.request_id}: the model refuses it: {error}") from error
        comparison.add(record.request_id, record.user, logged, other, _items(request, item))
    if not comparison.requests:
        raise ValueError("no record of the log can be compared")


def _lines(name: str, node: Any) -> Iterator[str]:
    """A report for people."""
    label = name.replace("_", " ")
    if isinstance(node, dict):
        parts = (f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in node.items())
        yield f"{label:<22} " + "  ".join(parts)
    elif isinstance(node, list):
        for each in node:
            yield (f"{label[:-1]} {each['name']:<{21 - len(label)}} mean {each['mean']:.3g}  "
                   f"largest {each['largest']:.3g}  over {each['scores']} scores")
    else:
        yield f"{label:<22} {f'{node:.6g}' if isinstance(node, float) else node}"


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Replay and report."""
    if (arguments.url is None) == (arguments.model is None):
        parser.error("one of --url and --model says with whom")
    if arguments.connections < 1 or arguments.top < 1:
        parser.error("--connections and --top are at least 1")
    comparing = arguments.compare or arguments.model is not None
    log = _Log(arguments.log, arguments.limit, scored_only=comparing)
    comparison = Comparison(arguments.top) if comparing else None
    report: dict[str, Any] = {}
    failed = False
    if arguments.url is not None:
        measured = send(log, arguments, comparison)
        report["load"] = measured.report()
        failed = comparing and set(measured.statuses) != {"200"}
    else:
        assert comparison is not None
        compare_with_model(log, arguments.model, arguments.item, comparison)
    if comparison is not None:
        report["comparison"] = comparison.report()
        tolerance = arguments.tolerance if arguments.tolerance is not None else TOLERANCE if arguments.model else np.inf
        failed = failed or comparison.largest > tolerance
    report["skipped"] = log.skipped
    report["damaged"] = log.reader.damaged
    if arguments.json:
        print(json.dumps(report))
    else:
        for part in ("load", "comparison"):
            for name, node in report.get(part, {}).items():
                print(*_lines(name, node), sep="\n", end="\n" if node != [] else "")
        for reason, count in log.skipped.items():
            print(f"left out               {count} {reason}")
        for line in log.reader.damaged:
            print(f"note                   {line}")
    return int(failed)
