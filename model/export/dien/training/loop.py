"""The loop of a training: epochs until it is done, a checkpoint after each, Ctrl-C between them."""
from __future__ import annotations

import signal
import threading
from typing import Any, Optional, Protocol

from tqdm import tqdm

from dien.training import checkpoint


class Trainer(Protocol):
    """What is trained, epoch by epoch."""

    epoch: int
    best: Optional[dict[str, Any]]  # of the best epoch: its number, its validation AUC by kind of negatives

    def done(self) -> bool:
        """Out of epochs or of patience."""

    def train_epoch(self) -> dict[str, float]:
        """One epoch and its validation; the measures to show."""

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""


class _Held:
    """Holds back Ctrl-C while a checkpoint is written."""

    def __enter__(self) -> None:
        self.pressed = False
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._press)

    def _press(self, *_arguments: Any) -> None:
        self.pressed = True

    def __exit__(self, *_exception: Any) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)
        if self.pressed:
            raise KeyboardInterrupt


def run(trainer: Trainer, path: str) -> None:
    """Train to the end, with a checkpoint after each epoch. Ctrl-C leaves the checkpoint of the last whole epoch."""
    try:
        while not trainer.done():
            result = trainer.train_epoch()
            with _Held():
                checkpoint.save(trainer.state(), path)
            tqdm.write("  ".join(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
                                 for name, value in result.items()))
    except KeyboardInterrupt:
        kept = f"{path} has epoch {trainer.epoch}; --resume goes on" if trainer.epoch else \
            "no epoch was finished, nothing is kept"
        tqdm.write(f"interrupted: {kept}")
        raise
    assert trainer.best is not None, "no epoch was trained"
    aucs = ", ".join(f"{kind} {value:.4f}" for kind, value in trainer.best["aucs"].items())
    after = f", after {trainer.best['steps']} steps" if "steps" in trainer.best else ""
    print(f"best epoch {trainer.best['epoch']}{after}: validation AUC {aucs}")
