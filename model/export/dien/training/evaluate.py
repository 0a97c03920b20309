"""The test: a recipe's report, or of the demo AUC of checkpoints and baselines on the same examples.

    dien evaluate --output build/report build/shop.pt
    dien evaluate --data e-shop-clothing-2008.csv.gz --output build/results.json build/eshop.pt [more checkpoints]

A recipe's checkpoint is tested on its recipe's files, or on those of --data, and --output is a directory for report.json,
report.md and report.png. Of the demo, the baselines count the validation sessions too; the networks use these only to decide
when to stop. The chain's back-off is chosen on the validation sessions.
"""
from __future__ import annotations

import argparse
import json
import os
from typing import Union

import numpy as np
import torch

from dien.data import clickstream
from dien.data.clickstream import Catalogue, Split
from dien.data.examples import Features, Negatives
from dien.model.network import DIEN
from dien.training import checkpoint, session
from dien.training.baselines import BACK_OFF, Markov, Popularity
from dien.training.metrics import Interval, auc, bootstrap, interval
from dien.training.recipe import VARIANTS
from dien.training.train import KINDS, Evaluation, scores_of

TEST_SEED = 2
Baseline = Union[Popularity, Markov]
Results = dict[str, dict[str, dict[str, Interval]]]  # "auc" or "lead": model: kind of negatives


def network_of(state: dict) -> DIEN:
    """The best epoch's network of a checkpoint."""
    network = VARIANTS[state["options"]["variant"]](state["config"])
    network.load_weights(state["best"]["weights"])
    return network


def kinds_of(scores: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind of negatives: the scores of the positives [N] and of the negatives [N, K]."""
    return {kind: (scores[:, 0], part) for kind, part in zip(KINDS, np.split(scores[:, 1:], len(KINDS), 1))}


def intervals(scores: dict[str, np.ndarray], session: np.ndarray, first: str) -> Results:
    """AUC of every model, and the lead of the model `first` over each other one, in paired replicates."""
    replicates = {name: {kind: bootstrap(*pair, session) for kind, pair in kinds_of(each).items()}
                  for name, each in scores.items()}
    values = {name: {kind: auc(*pair) for kind, pair in kinds_of(each).items()} for name, each in scores.items()}
    results: Results = {"auc": {}, "lead": {}}
    for name in scores:
        results["auc"][name] = {kind: interval(values[name][kind], replicates[name][kind]) for kind in KINDS}
        if name != first:
            results["lead"][name] = {kind: interval(values[first][kind] - values[name][kind],
                                                    replicates[first][kind] - replicates[name][kind]) for kind in KINDS}
    return results


def best_back_off(split: Split, items: int, validation: Evaluation, lift: bool) -> float:
    """The back-off whose chain does best on the validation sessions."""
    def total(back_off: float) -> float:
        chain = Markov(split.train, items, back_off, lift)
        return sum(validation.aucs(chain.score(validation.examples, validation.candidates())).values())

    return max(BACK_OFF, key=total)


def evaluate(catalogue: Catalogue, split: Split, states: dict[str, dict]) -> Results:
    """All results on the test sessions; the lead is that of the first checkpoint."""
    items = len(catalogue.codes)
    validation = Evaluation.of(split.validation, Negatives(split.train, items), seed=1)
    test = Evaluation.of(split.test, Negatives(split.known, items), seed=TEST_SEED)
    chains = {lift: Markov(split.known, items, best_back_off(split, items, validation, lift), lift)
              for lift in (False, True)}
    baselines: dict[str, Baseline] = {"popularity": Popularity(split.known, items),
                                      "Markov, P(next given last)": chains[False],
                                      "Markov, the same divided by P(next)": chains[True]}
    scores = {name: model.score(test.examples, test.candidates()) for name, model in baselines.items()}
    for name, state in states.items():
        attributes = {key: np.asarray(value) for key, value in state["catalogue"]["attributes"].items()}
        scores[name] = scores_of(network_of(state), Features(state["config"], attributes), test)
    return intervals(scores, test.examples.session, next(iter(states)))


def table(heading: str, results: dict[str, dict[str, Interval]]) -> str:
    """One part of the results as a Markdown table."""
    lines = [f"| {heading} | negatives uniform | negatives by popularity |", "|---|---|---|"]
    for name, row in results.items():
        cells = [f"{value:.4f} [{low:.4f}, {high:.4f}]" for value, low, high in (row[kind] for kind in KINDS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(results: Results, path: str) -> None:
    """Print the tables and keep the numbers."""
    print(table("AUC", results["auc"]))
    print(table("lead of the first over", results["lead"]))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--data", help="a file for the recipe; of the demo, your copy of UCI data set 553")
    parser.add_argument("--output", required=True, help="a directory; of the demo, a JSON file")
    parser.add_argument("checkpoints", nargs="+")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Evaluate and report."""
    torch.set_num_threads(1)
    first = checkpoint.load(arguments.checkpoints[0])
    if "recipe" in first:
        session.evaluate(arguments, first)
        return
    if not arguments.data:
        parser.error("--data is missing: the demo's checkpoints do not name their file")
    catalogue, sessions = clickstream.read(arguments.data)
    states = {os.path.splitext(os.path.basename(path))[0]: checkpoint.load(path) for path in arguments.checkpoints}
    report(evaluate(catalogue, clickstream.split(sessions), states), arguments.output)
