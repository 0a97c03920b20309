"""Compare a running server with PyTorch: the model's samples and random requests, scored by both.

    dien verify --model model/demo --url http://127.0.0.1:8080 [--requests 200] [--seed 0]

The program prints the largest difference from the float64 score. Its exit status is 1 if the difference is beyond 1e-5 or
if the server refuses a request.
"""
from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np

from dien.model import model_directory
from dien.model.model_directory import difference
from dien.model.samples import RequestMaker

TOLERANCE = 1e-5
TIMEOUT = 30.0


def post(url: str, request: dict[str, Any]) -> np.ndarray:
    """The server's scores, in the order of the request's candidates."""
    body = json.dumps(request).encode()
    call = urllib.request.Request(f"{url}/score", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=TIMEOUT) as reply:
        results = json.load(reply)["results"]
    scores = np.full(len(results), np.nan)
    for result in results:
        scores[result["index"]] = result["score"]
    return scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--model", required=True, help="the model directory that the server was started with")
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=200, help="random ones, after the samples")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Post, score and compare."""
    scorer = model_directory.load(arguments.model)
    maker = RequestMaker(scorer.config, scorer.wire.vocabularies, np.random.default_rng(arguments.seed))
    samples = [{name: value for name, value in sample.items() if name != "scores"}
               for sample in model_directory.read_samples(arguments.model)]
    largest, count = 0.0, 0
    for request in [*samples, *maker.requests(arguments.requests)]:
        truth = scorer.score(request)
        try:
            largest = max(largest, difference(post(arguments.url.rstrip("/"), request), truth))
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.code} {error.read().decode(errors='replace')} for {json.dumps(request)}") from error
        except OSError as error:
            raise ValueError(f"{arguments.url}: {error}") from error
        count += len(truth)
    print(f"largest difference from PyTorch in float64: {largest:.3g} over {count} scores")
    return int(largest > TOLERANCE)
