"""Train a recipe's network: its examples, its loss, its checkpoint after each epoch.

The loss is the negative log-likelihood of the labels plus alpha times the auxiliary loss. Of clicks, the negatives are
sampled anew for each batch; with logq the logits are corrected by the negatives' chances (noise contrast), so that they
tend to the logarithm of the click's chance, plus a constant, whatever the negatives' distribution.
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from tqdm import tqdm

from dien.data.events import Dataset, packed_attributes
from dien.data.sequences import History, Sampler, Sequences, parts_of
from dien.model.config import behaviour_width
from dien.model.network import DIEN, Batch, Trace, score
from dien.training import checkpoint, measures
from dien.training.auxiliary import InnerProduct, Net, auxiliary_loss
from dien.training.networks import Trained, config_of, warm_weights

KINDS = ("uniform", "popularity")
NEGATIVES = 4          # of each kind, in validation and test
EVALUATION_BATCH = 512
EVALUATION_SEEDS = {"validation": 1, "test": 2}


@dataclass
class Evaluation:
    """Fixed examples of one part with fixed negatives; of impressions, the label and no negatives."""

    places: np.ndarray      # [N]
    candidates: np.ndarray  # [N, C]: the target, then of clicks NEGATIVES of each of KINDS
    labels: np.ndarray      # [N, C]

    @classmethod
    def of(cls, sequences: Sequences, places: np.ndarray, sampler: Sampler, seed: int) -> "Evaluation":
        """At most split.examples of these places, chosen by the seed."""
        random = np.random.default_rng(seed)
        most = sequences.recipe["split"]["examples"]
        if len(places) > most:
            places = np.sort(random.choice(places, most, replace=False))
        target = sequences.events.item[places].astype(np.int64)
        if sequences.impressions:
            return cls(places, target[:, None], sequences.events.label[places][:, None])
        negatives = [sampler.draw(kind, target, NEGATIVES, random) for kind in KINDS]
        candidates = np.concatenate([target[:, None], *negatives], 1)
        return cls(places, candidates, np.broadcast_to(np.arange(candidates.shape[1]) == 0, candidates.shape).astype(np.float32))

    def aucs(self, scores: np.ndarray) -> dict[str, float]:
        """Of clicks by kind of negatives, of impressions of the labels."""
        if scores.shape[1] == 1:
            return {"labels": measures.auc(scores[:, 0], self.labels[:, 0])}
        parts = {kind: scores[:, 1 + place * NEGATIVES:1 + (place + 1) * NEGATIVES] for place, kind in enumerate(KINDS)}
        positive = scores[:, 0]
        return {kind: measures.auc(np.append(positive, part.ravel()), np.append(np.ones(len(positive)), np.zeros(part.size)))
                for kind, part in parts.items()}


def scores_of(network: DIEN, sequences: Sequences, places: np.ndarray, candidates: np.ndarray, size: int = EVALUATION_BATCH
              ) -> np.ndarray:
    """The network's scores [N, C]."""
    scores = np.empty(candidates.shape, np.float32)
    index = np.argsort(places, kind="stable")
    for some in sequences.batches(places[index], size):
        rows = index[np.searchsorted(places[index], some)]
        scores[rows] = score(network, sequences.batch(some, candidates[rows])[0])[0].numpy()
    return scores


class Fit:
    """One run of training: how it starts, steps, and continues from a checkpoint."""

    def __init__(self, dataset: Dataset):
        self.dataset, self.recipe = dataset, dataset.recipe
        self.options = self.recipe["training"]
        self.config = config_of(dataset)
        self.sequences = Sequences(dataset, self.config)
        self.parts = parts_of(self.sequences, self.sequences.targets())
        self._check_parts()
        self.counts = self._counts()
        self.sampler = Sampler(self.counts)
        self.validation = Evaluation.of(self.sequences, self.parts["validation"], self.sampler, EVALUATION_SEEDS["validation"])
        self.seen = self._seen()
        seed = self.recipe[""]["seed"]
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        self.network = Trained(self.config)
        self.network.initialise(generator)
        self.auxiliary = torch.nn.ModuleDict({
            interest["name"]: Net(behaviour_width(self.config, interest) + interest["extractor"]["units"], generator)
            if self.options["auxiliary"] == "mlp" else InnerProduct() for interest in self.config["interests"]})
        self.optimisers = self._optimisers()
        self.epoch = self.steps = 0
        self.history: list[dict[str, float]] = []
        self.best: Optional[dict[str, Any]] = None

    def _check_parts(self) -> None:
        for part, places in self.parts.items():
            if not len(places):
                raise self.recipe.error(("split",), f"no example is left for the part \"{part}\": an example needs an earlier "
                                        "behaviour of its user; `dien check` counts users with one click")

    def _counts(self) -> np.ndarray:
        """The clicks of each item row in training."""
        places = self.parts["train"]
        if self.sequences.impressions:
            places = places[self.sequences.events.label[places] > 0]
        counts = np.bincount(self.sequences.events.item[places], minlength=self.config["tables"][self.recipe.item.name]["rows"])
        counts[0] = 0
        return counts

    def _seen(self) -> dict[str, np.ndarray]:
        """By table, the rows that training reads; the others stay at the unknown row. Row 0 is trained by dropping ids."""
        last = self.sequences.events.time[self.parts["train"]].max()
        early = self.sequences.events.time <= last
        items = np.zeros(self.config["tables"][self.recipe.item.name]["rows"], bool)
        items[self.sequences.events.item[early]] = True
        seen = {self.recipe.item.name: items}
        for name, raw in self.sequences.attributes.items():
            if name in self.config["tables"]:
                seen[name] = np.isin(np.arange(self.config["tables"][name]["rows"]), raw[items])
        for name, column in self.sequences.columns.items():
            if name in self.config["tables"]:
                seen[name] = np.bincount(column[early], minlength=self.config["tables"][name]["rows"]) > 0
        for rows in seen.values():
            rows[0] = True
        return seen

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        sparse = [parameter for name, parameter in self.network.weights().items()
                  if name.removeprefix("tables.") in self.network.sparse]
        learned = [each for each in [*self.network.parameters(), *self.auxiliary.parameters()]
                   if each.requires_grad and not any(each is one for one in sparse)]
        made: list[torch.optim.Optimizer] = [torch.optim.Adam(learned, self.options["rate"],
                                                              weight_decay=self.options["weight_decay"])]
        return made + ([torch.optim.SparseAdam(sparse, self.options["rate"])] if sparse else [])

    def warm_start(self, old: dict[str, Any]) -> list[str]:
        """Begin with the weights of an earlier checkpoint; returns what grew."""
        grew = warm_weights(self.network, old)
        if self.options["auxiliary"] == "mlp":
            try:
                self.auxiliary.load_state_dict(old["auxiliary"])
            except RuntimeError:
                grew.append("the auxiliary net begins anew")
        return grew

    def _auxiliary_loss(self, trace: Trace, histories: list[History]) -> torch.Tensor:
        """The mean over interests whose histories in this batch have two behaviours or more."""
        losses = []
        for place, (interest, history) in enumerate(zip(self.config["interests"], histories)):
            states, behaviours = trace.states[interest["name"]], trace.behaviours[interest["name"]]
            width = behaviours.shape[1]
            if self.options["auxiliary"] == "none" or width < 2:
                continue
            real = torch.from_numpy(np.arange(1, width) < history.length[:, None])
            if not bool(real.any()):
                continue
            following = history.places[:, 1:]
            kind = KINDS[int(self.random.integers(2))]
            drawn = self.sampler.draw(kind, self.sequences.events.item[following].astype(np.int64), 1, self.random)[..., 0]
            columns = self.sequences.behaviours(place, drawn, following)
            negative = torch.cat([self.network.embed(name, columns[name]) for name in interest["history"]], -1)
            losses.append(auxiliary_loss(self.auxiliary[interest["name"]], states[:, :-1][real], behaviours[:, 1:][real],
                                         negative[real]))
        return torch.stack(losses).mean() if losses else torch.zeros(())

    def _batch(self, places: np.ndarray) -> tuple[Batch, list[History], np.ndarray]:
        target = self.sequences.events.item[places].astype(np.int64)
        candidates = target[:, None]
        if not self.sequences.impressions:
            options = self.recipe["negatives"]
            drawn = self.sampler.draw(options["kind"], target, options["count"], self.random)
            candidates = np.concatenate([candidates, drawn], 1)
        return (*self.sequences.batch(places, candidates, self.random, self.options["unknown"]), candidates)

    def _loss(self, logit: torch.Tensor, places: np.ndarray, candidates: np.ndarray) -> torch.Tensor:
        if self.sequences.impressions:
            return binary_cross_entropy_with_logits(logit[:, 0], torch.from_numpy(self.sequences.events.label[places]))
        options = self.recipe["negatives"]
        if options["logq"]:
            chance = self.sampler.log_chance(options["kind"], candidates, options["count"])
            logit = logit - torch.from_numpy(chance).to(logit.dtype)
        return softplus(-logit[:, 0]).mean() + softplus(logit[:, 1:]).mean()

    def step(self, places: np.ndarray) -> tuple[float, float]:
        """One batch: the loss of the labels and the auxiliary loss."""
        batch, histories, candidates = self._batch(places)
        logit, trace = self.network(batch)
        loss, extra = self._loss(logit, places, candidates), self._auxiliary_loss(trace, histories)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        (loss + self.options["alpha"] * extra).backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.steps += 1
        return float(loss), float(extra)

    def train_epoch(self) -> dict[str, float]:
        """One pass over all examples, then the validation."""
        self.network.train()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.options["rate"] * self.options["decay"] ** self.epoch
        places, size = self.parts["train"], self.options["batch"]
        total, examples = np.zeros(2), 0
        with tqdm(total=len(places), desc=f"epoch {self.epoch + 1} of {self.options['epochs']}", unit="example",
                  unit_scale=True, mininterval=1.0) as progress:
            for index in self.sequences.batches(places, size, self.random):
                total += np.array(self.step(index)) * len(index)
                examples += len(index)
                progress.set_postfix(loss=f"{total[0] / examples:.4f}", refresh=False)
                progress.update(len(index))
        self._fill_unseen()
        aucs = self.validation.aucs(scores_of(self.network, self.sequences, self.validation.places, self.validation.candidates))
        self.epoch += 1
        loss, extra = total / examples
        result = {"epoch": self.epoch, "steps": self.steps, "loss": float(loss), "auxiliary": float(extra),
                  **{f"auc_{kind}": value for kind, value in aucs.items()}}
        self.history.append(result)
        if self.best is None or sum(aucs.values()) > sum(self.best["aucs"].values()):
            weights = {name: parameter.detach().clone() for name, parameter in self.network.weights().items()}
            self.best = {"epoch": self.epoch, "steps": self.steps, "aucs": aucs, "weights": weights}
        return result

    def _fill_unseen(self) -> None:
        """Give the unknown row's values to each row that no event of training has."""
        with torch.no_grad():
            for name, seen in self.seen.items():
                table = self.network.weight(f"tables.{name}")
                table[~torch.from_numpy(seen)] = table[0].clone()

    def done(self) -> bool:
        """Out of epochs or of patience."""
        waited = self.epoch - self.best["epoch"] if self.best else 0
        return self.epoch >= self.options["epochs"] or waited >= self.options["patience"]

    def fingerprint(self) -> str:
        """Tells whether a resumed run has the data it had."""
        events = self.sequences.events
        sums = [zlib.crc32(np.ascontiguousarray(each)) for each in (events.item, events.time, events.label)]
        return "-".join(map(str, [len(events), *sums]))

    def state(self) -> dict[str, Any]:
        """All that a resumed run, a warm start, `dien freeze` and `dien evaluate` need."""
        return {"recipe": self.recipe.text, "recipe_path": self.recipe.path, "options": self.recipe.settings(),
                "config": self.config, "data": self.fingerprint(),
                "values": {name: values.state() for name, values in self.dataset.values.items()},
                "attributes": packed_attributes(self.dataset), "epoch": self.epoch, "steps": self.steps,
                "history": self.history, "best": self.best, "network": self.network.state_dict(),
                "auxiliary": self.auxiliary.state_dict(), "optimisers": [each.state_dict() for each in self.optimisers],
                "random": self.random.bit_generator.state, "torch_random": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue a run; recipe and data must be those it had, but for training.epochs and training.patience."""
        settings, had = checkpoint.plain(self.recipe.settings()), state["options"]
        changed = [f"{table}.{key}" if table else key for table in settings if table not in ("fields", "interests")
                   for key in settings[table] if had.get(table, {}).get(key) != settings[table][key]]
        changed += [name for name in ("fields", "interests") if checkpoint.plain(had.get(name)) != settings[name]]
        if changed:
            raise ValueError(f"{self.recipe.path}: the checkpoint was made with another {', '.join(changed)}; --resume may "
                             "change training.epochs and training.patience; --from starts a new training from its weights")
        if state["data"] != self.fingerprint():
            raise ValueError(f"{', '.join(self.recipe.files)}: the checkpoint was made with other data; --from starts a new "
                             "training from its weights")
        self.network.load_state_dict(state["network"])
        self.auxiliary.load_state_dict(state["auxiliary"])
        for optimiser, had_state in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(had_state)
        self.random.bit_generator.state = state["random"]
        torch.set_rng_state(state["torch_random"])
        self.epoch, self.steps, self.history, self.best = state["epoch"], state["steps"], state["history"], state["best"]
