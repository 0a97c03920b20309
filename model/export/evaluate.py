#!/usr/bin/env python3
"""The test: AUC of trained checkpoints and of the baselines on the same examples with the same negatives.

    evaluate.py --data e-shop-clothing-2008.csv.gz --output build/results.json build/eshop.pt [more checkpoints]

The baselines count the validation sessions too, which the networks have only stopped by; the chain's back-off is chosen
on the validation sessions.
"""
from __future__ import annotations

import argparse
import json
import os
from typing import Union

import numpy as np
import torch

import clickstream
from baselines import BACK_OFF, Markov, Popularity
from clickstream import Catalogue, Split
from examples import Features, Negatives
from metrics import auc_interval
from network import DIEN
from recipe import VARIANTS
from train import KINDS, Evaluation, scores_of

TEST_SEED = 2
Baseline = Union[Popularity, Markov]
Results = dict[str, dict[str, tuple[float, float, float]]]  # model: kind of negatives: AUC, low, high


def network_of(state: dict) -> DIEN:
    """The best epoch's network of a checkpoint."""
    network = VARIANTS[state["options"]["variant"]](state["config"])
    network.load_weights(state["best"]["weights"])
    return network


def interval(evaluation: Evaluation, scores: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """AUC and interval for each kind of negatives."""
    parts = np.split(scores[:, 1:], len(KINDS), 1)
    return {kind: auc_interval(scores[:, 0], part, evaluation.examples.session) for kind, part in zip(KINDS, parts)}


def best_back_off(split: Split, items: int, validation: Evaluation, lift: bool) -> float:
    """The back-off whose chain does best on the validation sessions."""
    def total(back_off: float) -> float:
        chain = Markov(split.train, items, back_off, lift)
        return sum(validation.aucs(chain.score(validation.examples, validation.candidates())).values())

    return max(BACK_OFF, key=total)


def evaluate(catalogue: Catalogue, split: Split, states: dict[str, dict]) -> Results:
    """All results on the test sessions."""
    items = len(catalogue.codes)
    validation = Evaluation.of(split.validation, Negatives(split.train, items), seed=1)
    test = Evaluation.of(split.test, Negatives(split.known, items), seed=TEST_SEED)
    chains = {lift: Markov(split.known, items, best_back_off(split, items, validation, lift), lift)
              for lift in (False, True)}
    baselines: dict[str, Baseline] = {"popularity": Popularity(split.known, items), "Markov P(next | last)": chains[False],
                                      "Markov P(next | last) / P(next)": chains[True]}
    results = {name: interval(test, model.score(test.examples, test.candidates())) for name, model in baselines.items()}
    for name, state in states.items():
        features = Features(state["config"], {key: np.asarray(value)
                                              for key, value in state["catalogue"]["attributes"].items()})
        results[name] = interval(test, scores_of(network_of(state), features, test))
    return results


def table(results: Results) -> str:
    """The results as a Markdown table."""
    lines = ["| model | negatives uniform | negatives by popularity |", "|---|---|---|"]
    for name, aucs in results.items():
        cells = [f"{value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high in (aucs[kind] for kind in KINDS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(results: Results, path: str) -> None:
    """Print the table and keep the numbers."""
    print(table(results))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="your copy of UCI data set 553, .csv or .csv.gz")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("checkpoints", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    catalogue, sessions = clickstream.read(arguments.data)
    states = {os.path.splitext(os.path.basename(path))[0]: torch.load(path) for path in arguments.checkpoints}
    report(evaluate(catalogue, clickstream.split(sessions), states), arguments.output)


if __name__ == "__main__":
    main()
