#!/usr/bin/env python3
"""Convert another framework's DIEN checkpoint to a model directory.

    convert.py --from reference-tf1 --architecture architecture.json --weights state_dict.safetensors --output DIR
               [--samples requests.json]

Requests that bring the framework's own scores are the proof: where they differ from the converted network by more than
1e-6 in float64, nothing is written. Without --samples the scores are the converted network's own, which proves only the
server.
"""
from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

import numpy as np

import model_directory
import safetensors
from frameworks.source import ConversionError, Source
from model_directory import Scorer
from samples import RequestMaker

FRAMEWORKS = {"reference-tf1": "frameworks.reference_tf1"}
RANDOM_SAMPLES = 16


def read_json(path: str) -> Any:
    """A file's JSON."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def convert(framework: str, architecture: dict[str, Any], source: Source) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and float32 tensors of a checkpoint, every tensor of which was used or dropped for a reason."""
    config, tensors = importlib.import_module(FRAMEWORKS[framework]).convert(architecture, source)
    source.finish()
    stored = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise ConversionError(f"tensor {name} is not finite")
    return config, stored


def largest_difference(scorer: Scorer, samples: list[dict[str, Any]]) -> float:
    """How far the network is from the scores that the samples bring."""
    return max(float(np.abs(scorer.score(sample) - sample["scores"]).max()) for sample in samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="framework", required=True, choices=sorted(FRAMEWORKS))
    parser.add_argument("--architecture", required=True, help="what a state dict does not hold, as JSON")
    parser.add_argument("--weights", required=True, help="the state dict, in safetensors")
    parser.add_argument("--samples", help="requests, with the framework's scores, as a JSON list")
    parser.add_argument("--output", required=True, help="directory to write")
    arguments = parser.parse_args()
    try:
        source = Source(safetensors.read(arguments.weights))
        config, tensors = convert(arguments.framework, read_json(arguments.architecture), source)
        for name, reason in source.dropped.items():
            print(f"dropped {name}: {reason}")
        if arguments.samples:
            samples = read_json(arguments.samples)
        else:
            samples = RequestMaker(config, {}, np.random.default_rng(0)).requests(RANDOM_SAMPLES)
        scorer = model_directory.save(arguments.output, config, tensors, samples)
    except ValueError as error:
        sys.exit(f"convert: {error}")
    if arguments.samples and all("scores" in sample for sample in samples):
        count = sum(len(sample["scores"]) for sample in samples)
        print(f"largest difference from the framework: {largest_difference(scorer, samples):.3g} over {count} scores")


if __name__ == "__main__":
    main()
