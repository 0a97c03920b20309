"""Train DIEN on clicks: by a recipe (RECIPES.md) on your own, without one on the demo's.

    dien train shop.toml --checkpoint build/shop.pt --output build/shop
    dien train shop.toml --checkpoint build/shop.pt --output build/shop --resume --epochs 20
    dien train shop.toml --checkpoint build/tomorrow.pt --from build/shop.pt --data tomorrow.csv.gz
    dien train --data e-shop-clothing-2008.csv.gz --checkpoint build/eshop.pt

The loss is the negative log-likelihood plus alpha times the auxiliary loss. Training stops when the AUC in validation has not
improved for some epochs; `dien freeze`, or --output, takes the best epoch. Ctrl-C keeps the last whole epoch. --from starts
from the weights of an earlier checkpoint: its ids keep their rows, and new ones begin at the unknown row. The options below
--threads are those of the demo; a recipe has its own.
"""
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch.nn.functional import softplus
from tqdm import tqdm

from dien.data import clickstream
from dien.data.examples import Examples, Features, Negatives, batches, examples_of
from dien.model.config import behaviour_width
from dien.model.network import DIEN, score
from dien.model.vocabulary import Vocabulary
from dien.training import checkpoint, loop, session
from dien.training.auxiliary import InnerProduct, Net, auxiliary_loss
from dien.training.metrics import auc
from dien.training.recipe import MAX_LENGTH, VARIANTS, Shape, config_of

EVALUATION_NEGATIVES = 4
EVALUATION_BATCH = 1024
KINDS = ("uniform", "popularity")
OF_THE_DEMO = ("seed", "variant", "auxiliary", "alpha", "patience", "batch", "negatives", "rate", "decay", "weight_decay",
               "activation", "hidden", "item_fields", "user_fields", "context_fields", "no_pooled")
LENGTH = ("epochs", "patience")  # options that a resumed run may change


@dataclass
class Options:
    """The settings that determine a training run."""

    seed: int = 1
    variant: str = "dien"
    auxiliary: str = "inner"  # "inner", "mlp" or "none"
    alpha: float = 0.2
    epochs: int = 16
    patience: int = 3
    batch: int = 256
    negatives: int = 8
    rate: float = 2e-3
    decay: float = 0.87
    weight_decay: float = 1e-5


@dataclass
class Evaluation:
    """Fixed examples with fixed negatives of each kind."""

    examples: Examples
    negatives: dict[str, np.ndarray]  # by kind: [N, EVALUATION_NEGATIVES]

    @classmethod
    def of(cls, sessions: clickstream.Sessions, negatives: Negatives, seed: int) -> "Evaluation":
        """The examples of these sessions; the seed is the evaluation's own, so all models see the same negatives."""
        examples, random = examples_of(sessions, MAX_LENGTH), np.random.default_rng(seed)
        return cls(examples, {kind: negatives.draw(kind, examples.target, EVALUATION_NEGATIVES, random)
                              for kind in KINDS})

    def candidates(self) -> np.ndarray:
        """[N, 1 + 2 EVALUATION_NEGATIVES]: the positive, then the negatives in the order of KINDS."""
        return np.concatenate([self.examples.target[:, None], *(self.negatives[kind] for kind in KINDS)], 1)

    def aucs(self, scores: np.ndarray) -> dict[str, float]:
        """By kind, from the scores of candidates()."""
        parts = np.split(scores[:, 1:], len(KINDS), 1)
        return {kind: auc(scores[:, 0], part) for kind, part in zip(KINDS, parts)}


def scores_of(network: DIEN, features: Features, evaluation: Evaluation) -> np.ndarray:
    """The network's scores of the evaluation's candidates."""
    candidates = evaluation.candidates()
    scores = np.empty(candidates.shape, np.float32)
    for index in batches(evaluation.examples, EVALUATION_BATCH):
        batch = features.batch(evaluation.examples, index, candidates[index])
        scores[index] = score(network, batch)[0].numpy()
    return scores


def seen_rows(features: Features, examples: Examples) -> dict[str, np.ndarray]:
    """By table, which rows any training example has read; row 0 is trained by dropping ids."""
    items = np.union1d(examples.history, examples.target)
    values = {"item": items, **examples.single}
    values.update({name: attribute[items] for name, attribute in features.attributes.items()})
    return {name: np.isin(np.arange(table["rows"]), values[name]) | (np.arange(table["rows"]) == 0)
            for name, table in features.config["tables"].items()}


class Trainer:
    """One run: its network, optimiser and random generators, and how it continues from a checkpoint."""

    def __init__(self, options: Options, shape: Shape, catalogue: clickstream.Catalogue, split: clickstream.Split):
        self.options, self.shape, self.catalogue = options, shape, catalogue
        self.vocabulary = Vocabulary.of_strings(catalogue.codes)
        self.config = config_of(catalogue, shape, self.vocabulary.config())
        self.features = Features(self.config, catalogue.attributes)
        self.negatives = Negatives(split.train, len(catalogue.codes))
        self.examples = examples_of(split.train, MAX_LENGTH)
        self.seen = seen_rows(self.features, self.examples)
        self.validation = Evaluation.of(split.validation, self.negatives, seed=1)
        self.random = np.random.default_rng(options.seed)
        torch.manual_seed(options.seed)
        generator = torch.Generator().manual_seed(options.seed)
        self.network = VARIANTS[options.variant](self.config)
        self.network.initialise(generator)
        width = behaviour_width(self.config, self.config["interests"][0])
        self.auxiliary: torch.nn.Module = Net(2 * width, generator) if options.auxiliary == "mlp" else InnerProduct()
        learned = [p for p in [*self.network.parameters(), *self.auxiliary.parameters()] if p.requires_grad]
        self.optimiser = torch.optim.Adam(learned, options.rate, weight_decay=options.weight_decay)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best: Optional[dict[str, Any]] = None

    def _auxiliary_loss(self, states: torch.Tensor, behaviours: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        length = behaviours.shape[1]
        if self.options.auxiliary == "none" or length < 2:
            return states.new_zeros(())
        following = self.examples.history[index, 1:length]
        kind = KINDS[int(self.random.integers(2))]
        drawn = self.negatives.draw(kind, following, 1, self.random)[..., 0]
        names = self.features.interest["history"]
        columns = self.features.columns(names, drawn)
        negative = torch.cat([self.network.embed(name, columns[name]) for name in names], -1)
        return auxiliary_loss(self.auxiliary, states[:, :-1], behaviours[:, 1:], negative)

    def _step(self, index: np.ndarray) -> tuple[float, float]:
        """One batch: the loss of the clicks and the auxiliary loss."""
        target = self.examples.target[index]
        drawn = self.negatives.mixed(target, self.options.negatives, self.random)
        candidates = np.concatenate([target[:, None], drawn], 1)
        logit, trace = self.network(self.features.batch(self.examples, index, candidates, self.random))
        clicks = softplus(-logit[:, 0]).mean() + softplus(logit[:, 1:]).mean()
        extra = self._auxiliary_loss(trace.states["clicks"], trace.behaviours["clicks"], index)
        self.optimiser.zero_grad()
        (clicks + self.options.alpha * extra).backward()
        self.optimiser.step()
        return float(clicks), float(extra)

    def train_epoch(self) -> dict[str, float]:
        """One pass over all examples, then the validation."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * self.options.decay ** self.epoch
        losses, weights = [], []
        progress = tqdm(list(batches(self.examples, self.options.batch, self.random)), desc=f"epoch {self.epoch + 1}",
                        unit="batch", mininterval=1.0)
        for index in progress:
            losses.append(self._step(index))
            weights.append(len(index))
            if len(losses) % 20 == 0:
                progress.set_postfix(loss=f"{np.mean([loss[0] for loss in losses[-100:]]):.4f}", refresh=False)
        clicks, extra = np.average(losses, 0, weights)
        self._fill_unseen()
        aucs = self.validation.aucs(scores_of(self.network, self.features, self.validation))
        self.epoch += 1
        result = {"epoch": self.epoch, "loss": clicks, "auxiliary": extra, **aucs}
        self.history.append(result)
        if self.best is None or sum(aucs.values()) > sum(self.best["aucs"].values()):
            parameters = {name: parameter.detach().clone() for name, parameter in self.network.weights().items()}
            self.best = {"epoch": self.epoch, "aucs": aucs, "weights": parameters}
        return result

    def _fill_unseen(self) -> None:
        """Give the unknown row's values to each row that no training example reads, such as a month still to come."""
        with torch.no_grad():
            for name, seen in self.seen.items():
                table = self.network.weight(f"tables.{name}")
                table[~torch.from_numpy(seen)] = table[0].clone()

    def done(self) -> bool:
        """Out of epochs or of patience."""
        waited = self.epoch - self.best["epoch"] if self.best else 0
        return self.epoch >= self.options.epochs or waited >= self.options.patience

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run and `dien freeze` need."""
        return {"options": asdict(self.options), "shape": asdict(self.shape), "config": self.config,
                "catalogue": asdict(self.catalogue), "epoch": self.epoch, "history": self.history, "best": self.best,
                "network": self.network.state_dict(), "auxiliary": self.auxiliary.state_dict(),
                "optimiser": self.optimiser.state_dict(), "random": self.random.bit_generator.state,
                "torch_random": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the data and all options but the length of training must be equal."""
        if state["config"] != self.config:
            raise ValueError(f"the checkpoint was made with another config: {state['config']}")
        given = asdict(self.options)
        changed = [f"{name} {state['options'].get(name)}" for name in given
                   if name not in LENGTH and state["options"].get(name) != given[name]]
        if changed:
            raise ValueError(f"the checkpoint was made with other options: {', '.join(changed)}")
        self.network.load_state_dict(state["network"])
        self.auxiliary.load_state_dict(state["auxiliary"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.bit_generator.state = state["random"]
        torch.set_rng_state(state["torch_random"])
        self.epoch, self.history, self.best = state["epoch"], state["history"], state["best"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of Options and Shape."""
    default, shape = Options(), Shape()
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default=default.variant,
                        help="dien, or for the ablation: gru (no attention), din (no GRU)")
    parser.add_argument("--auxiliary", choices=("inner", "mlp", "none"), default=default.auxiliary,
                        help="the paper's inner product, the authors' MLP, or no auxiliary loss")
    parser.add_argument("--alpha", type=float, default=default.alpha, help="weight of the auxiliary loss")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--patience", type=int, default=default.patience)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--negatives", type=int, default=default.negatives, help="for each positive, half of each kind")
    parser.add_argument("--rate", type=float, default=default.rate, help="learning rate of the first epoch")
    parser.add_argument("--decay", type=float, default=default.decay, help="of the learning rate, each epoch")
    parser.add_argument("--weight-decay", type=float, default=default.weight_decay)
    parser.add_argument("--activation", choices=("prelu", "dice"), default=shape.activation)
    parser.add_argument("--hidden", default=",".join(map(str, shape.hidden)), help="units of the MLP's hidden layers")
    parser.add_argument("--item-fields", default=",".join(shape.item_fields))
    parser.add_argument("--user-fields", default=",".join(shape.user_fields))
    parser.add_argument("--context-fields", default=",".join(shape.context_fields))
    parser.add_argument("--no-pooled", action="store_true", help="leave the history's sum and product out of the MLP")


def options_of(arguments: argparse.Namespace) -> tuple[Options, Shape]:
    """The parsed flags."""
    def names(text: str) -> tuple[str, ...]:
        return tuple(filter(None, text.split(",")))

    options = Options(**{name: getattr(arguments, name) for name in asdict(Options())})
    shape = Shape(arguments.activation, tuple(map(int, names(arguments.hidden))), names(arguments.item_fields),
                  names(arguments.user_fields), names(arguments.context_fields), not arguments.no_pooled)
    return options, shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("recipe", nargs="?", help="a TOML page: RECIPES.md")
    parser.add_argument("--data", help="in place of the recipe's data.files; without a recipe, your copy of UCI data set 553")
    parser.add_argument("--checkpoint", required=True, help="file to write after each epoch")
    parser.add_argument("--output", help="with a recipe: the model directory to write at the end")
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help="with a recipe: start from these weights and ids")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--threads", type=int, default=1)
    add_options(parser)
    parser.set_defaults(epochs=None)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Train from the command line."""
    if arguments.recipe:
        for name in [name for name in OF_THE_DEMO if getattr(arguments, name) != parser.get_default(name)]:
            parser.error(f"--{name.replace('_', '-')} is an option of the demo; the recipe has its own")
        torch.set_num_threads(arguments.threads)
        session.train(arguments)
        return
    if arguments.data is None or arguments.output or arguments.start:
        parser.error("--output and --from need a recipe" if arguments.data else "give a recipe, or --data for the demo")
    arguments.epochs = arguments.epochs or Options().epochs
    checkpoint.check_folder(arguments.checkpoint)
    torch.set_num_threads(arguments.threads)
    catalogue, sessions = clickstream.read(arguments.data)
    trainer = Trainer(*options_of(arguments), catalogue, clickstream.split(sessions))
    if arguments.resume:
        trainer.restore(checkpoint.load(arguments.checkpoint))
    loop.run(trainer, arguments.checkpoint)
