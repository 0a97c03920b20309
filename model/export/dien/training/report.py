"""The report of a trained recipe on its test part: the network beside popularity and a Markov chain, as JSON, Markdown, PNG.

Of clicks, log loss and calibration weigh the negatives as the loss does, so a score of 0.5 means that an item is as likely the
click as one of them. With logq the scores are no such chances, and both are left out. Hit rate and NDCG rank the target
among 99 items drawn uniformly; of impressions, the candidates of one user and moment.
"""
from __future__ import annotations

import json
import os
from functools import partial
from typing import Any, Callable, Optional, Union

import numpy as np

from dien.data.columns import Ids
from dien.data.sequences import Sampler, Sequences
from dien.model.network import DIEN
from dien.training import measures
from dien.training.export import without_nan
from dien.training.fit import EVALUATION_SEEDS, KINDS, NEGATIVES, Evaluation, Fit, scores_of
from dien.training.rivals import Markov, Popularity

RANKED = 2_000       # examples whose target is ranked among others
RANKED_OTHERS = 99
RANKED_BATCH = 64
LENGTHS = (0, 1, 2, 5, 10, 20, 50)  # a group of histories from each of these to the next
Rival = Union[Popularity, Markov]
Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (places, candidates) to scores


def _weights(fit: Fit, count: int) -> np.ndarray:
    """[C]: the weight of the target, and of each kind of negative as the loss has it: together they weigh as the target."""
    if fit.sequences.impressions:
        return np.ones(1)
    options = fit.recipe["negatives"]
    uniform = {"uniform": 1.0, "mixed": 1 - (options["count"] // 2) / options["count"]}.get(options["kind"], 0.0)
    return np.concatenate([[1.0], *(np.full(NEGATIVES, share / NEGATIVES) for share in (uniform, 1 - uniform))])[:count]


def _length_groups(fit: Fit, test: Evaluation, scores: np.ndarray) -> list[dict[str, Any]]:
    """AUC by the number of behaviours in the history."""
    length, rows = fit.sequences.lengths(test.places), []
    for low, high in zip(LENGTHS, [*LENGTHS[1:], np.inf]):
        chosen = (length >= low) & (length < high)
        if chosen.any():
            some, labels = scores[chosen], test.labels[chosen]
            name = f"{low}" if high == low + 1 else f"{low} and more" if high == np.inf else f"{low} to {int(high) - 1}"
            rows.append({"behaviours": name, "examples": int(chosen.sum()), "auc": measures.auc(some.ravel(), labels.ravel())})
    return rows


def _ranking(fit: Fit, test: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places [N], candidates [N, C] and lists [N] over which hit rate and NDCG are taken; the first of C is the target."""
    events, places = fit.sequences.events, test.places
    random = np.random.default_rng(EVALUATION_SEEDS["test"])
    if fit.sequences.impressions:
        new = np.append(True, (events.user[places[1:]] != events.user[places[:-1]])
                        | (events.time[places[1:]] != events.time[places[:-1]]))
        return places, test.candidates, np.cumsum(new)
    if len(places) > RANKED:
        places = np.sort(random.choice(places, RANKED, replace=False))
    target = events.item[places].astype(np.int64)
    others = fit.sampler.draw("uniform", target, RANKED_OTHERS, random)
    return places, np.concatenate([target[:, None], others], 1), np.arange(len(places))


def _measured(fit: Fit, test: Evaluation, score: Scores, is_chance: bool) -> dict[str, Any]:
    """Every measure of one model."""
    scores = score(test.places, test.candidates)
    weight = np.broadcast_to(_weights(fit, scores.shape[1]), scores.shape).ravel()
    user = np.repeat(fit.sequences.events.user[test.places], scores.shape[1])
    flat, labels = scores.ravel(), test.labels.ravel()
    row: dict[str, Any] = {f"auc_{kind}": value for kind, value in test.aucs(scores).items()}
    row["gauc"] = measures.gauc(flat, labels, user, weight)
    if is_chance:
        row["log_loss"] = measures.log_loss(flat, labels, weight)
        row["calibration"] = measures.calibration(flat, labels, weight)
    places, candidates, lists = _ranking(fit, test)
    ranked = score(places, candidates)
    positive = (np.broadcast_to(np.arange(candidates.shape[1]) == 0, candidates.shape) if not fit.sequences.impressions
                else test.labels)
    found = measures.top(ranked.ravel(), positive.ravel(), np.repeat(lists, candidates.shape[1]))
    row.update({"hit_rate_10": found["hit_rate"], "ndcg_10": found["ndcg"], "lists": found["lists"]})
    row["by_length"] = _length_groups(fit, test, scores)
    return row


def network_of(fit: Fit) -> DIEN:
    """The best epoch's network."""
    assert fit.best is not None
    network = DIEN(fit.config)
    network.load_weights(fit.best["weights"])
    return network


def report_of(fit: Fit) -> dict[str, Any]:
    """All measures on the test part."""
    sequences: Sequences = fit.sequences
    sampler: Sampler = fit.sampler
    test = Evaluation.of(sequences, fit.parts["test"], sampler, EVALUATION_SEEDS["test"])
    network, popularity = network_of(fit), Popularity(fit.counts)
    clicked = fit.parts["train"]
    if sequences.impressions:
        clicked = clicked[sequences.events.label[clicked] > 0]
    models: dict[str, Any] = {}
    rivals: dict[str, Rival] = {"popularity": popularity}
    if len(clicked):
        rivals["Markov"] = Markov(sequences, clicked, popularity)
    models["DIEN"] = _measured(fit, test, lambda places, candidates: scores_of(
        network, sequences, places, candidates, RANKED_BATCH if candidates.shape[1] > 2 * len(KINDS) * NEGATIVES else 512),
        not fit.recipe["negatives"]["logq"])
    for name, rival in rivals.items():
        models[name] = _measured(fit, test, partial(rival.score, sequences), False)
    weight = np.broadcast_to(_weights(fit, test.labels.shape[1]), test.labels.shape)
    share = float(np.average(test.labels, weights=weight))
    constant = float(-(share * np.log(share) + (1 - share) * np.log1p(-share))) if 0 < share < 1 else 0.0
    return without_nan({"examples": {part: len(places) for part, places in fit.parts.items()}, "tested": len(test.places),
                        "positives": share, "log_loss_of_the_mean": constant, "epoch": fit.best["epoch"] if fit.best else 0,
                        "models": models, "history": fit.history})


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def markdown(report: dict[str, Any]) -> str:
    """The report's tables."""
    first = report["models"]["DIEN"]
    names = [name for name in first if name not in ("calibration", "by_length", "lists")]
    lines = [f"| | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (1 + len(names)) + "|"]
    lines += [f"| {model} | {' | '.join(_cell(row.get(name)) for name in names)} |" for model, row in report["models"].items()]
    lines += ["", f"{report['tested']} examples were scored, and {first['lists']} lists ranked for hit rate and NDCG at 10. The "
              f"share of positives is {report['positives']:.4f}; a constant score of it has log loss "
              f"{report['log_loss_of_the_mean']:.4f}.", "", "| behaviours | examples | AUC of "
              + " | ".join(report["models"]) + " |", "|---" * (2 + len(report["models"])) + "|"]
    by_length = {model: {row["behaviours"]: row for row in each["by_length"]} for model, each in report["models"].items()}
    lines += [f"| {name} | {row['examples']} | {' | '.join(_cell(each[name]['auc']) for each in by_length.values())} |"
              for name, row in by_length["DIEN"].items()]
    if "calibration" in first:
        lines += ["", "| decile of scores | mean score | share of positives |", "|---|---|---|"]
        lines += [f"| {row['decile']} | {row['score']:.4f} | {row['positives']:.4f} |" for row in first["calibration"]]
    return "\n".join(lines) + "\n"


def compared(reports: dict[str, dict[str, Any]]) -> str:
    """One table of several reports' networks, then the rivals, which they share."""
    rows = {name: report["models"]["DIEN"] for name, report in reports.items()}
    first = next(iter(reports.values()))
    rows.update({name: model for name, model in first["models"].items() if name != "DIEN"})
    names = [name for name in next(iter(rows.values())) if name not in ("calibration", "by_length", "lists")]
    lines = [f"| | {' | '.join(name.replace('_', ' ') for name in names)} | epoch |", "|---" * (2 + len(names)) + "|"]
    for name, row in rows.items():
        epoch = reports[name]["epoch"] if name in reports else ""
        lines.append(f"| {name} | {' | '.join(_cell(row.get(column)) for column in names)} | {epoch} |")
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: str) -> bool:
    """Calibration, and AUC by length, as PNG. False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    rows = report["models"]["DIEN"].get("calibration", [])
    most = max([row["score"] for row in rows] + [row["positives"] for row in rows], default=0) or 1.0
    left.plot([0, most], [0, most], color="0.7", linewidth=1)
    left.plot([row["score"] for row in rows], [row["positives"] for row in rows], marker="o")
    left.set(xlabel="mean score of a decile", ylabel="share of positives", title="Calibration")
    for name, model in report["models"].items():
        aucs = [np.nan if row["auc"] is None else row["auc"] for row in model["by_length"]]
        right.plot([row["behaviours"] for row in model["by_length"]], aucs, marker="o", label=name)
    right.set(xlabel="behaviours in the history", ylabel="AUC", title="By length of the history")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return True


def card(fit: Fit, report: dict[str, Any], has_plot: bool) -> str:
    """The model card: data, network, report, recipe."""
    recipe, events = fit.recipe, fit.sequences.events
    sizes = [f"{name}: {len(values.ids)} values" for name, values in fit.dataset.values.items() if isinstance(values.ids, Ids)
             and len(values.ids)]
    parts = ", ".join(f"{count} {part}" for part, count in report["examples"].items())
    return "\n".join([
        f"# {recipe['']['name']}, version {recipe['']['version']}", "", recipe[""]["attribution"], "",
        f"DIEN trained by `dien train` on {len(events)} events ({recipe['data']['form']}); examples by time: {parts}. "
        f"The weights are those of epoch {report['epoch']}, the best in validation.", "", "Vocabularies: "
        + ", ".join(sizes) + ".", "", "## Test", "", markdown(report),
        *(["![Calibration and AUC by length](report.png)", ""] if has_plot else []),
        "Scores are those of the test part, the last of the examples by time. The negatives of clicks are sampled, so a score "
        "is a chance among such negatives and no click-through rate." if not fit.sequences.impressions else
        "Scores are chances of the label on the test part, the last of the examples by time.", "",
        "## Recipe", "", "```toml", recipe.text.rstrip(), "```", ""])


def write(fit: Fit, report: dict[str, Any], directory: str, progress: Optional[Callable[[str], None]] = print) -> None:
    """report.json, report.md, report.png (if matplotlib is installed) and the model card README.md."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1, allow_nan=False)
    with open(os.path.join(directory, "report.md"), "w", encoding="utf-8") as file:
        file.write(markdown(report))
    has_plot = plot(report, os.path.join(directory, "report.png"))
    with open(os.path.join(directory, "README.md"), "w", encoding="utf-8") as file:
        file.write(card(fit, report, has_plot))
    if not has_plot and progress:
        progress("no report.png: it needs the module matplotlib (Debian: python3-matplotlib)")
