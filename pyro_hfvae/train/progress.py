"""The progress of a run, steps done and the terms: a bar in a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

__all__ = ["ProgressLines", "TermsProgressBar", "progress"]

SECONDS = 30.0
"""Between lines, at least."""


def progress() -> Callback:
    """A bar if standard output is a terminal, which is redrawn in place; lines if it is a file or a pipe."""
    terminal = sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()
    return TermsProgressBar() if terminal else ProgressLines()


class TermsProgressBar(TQDMProgressBar):
    """Lightning's bar over all steps of the run, with the terms in nats per datum behind it."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)

    def init_validation_tqdm(self) -> Tqdm:
        """No second bar: validation is short."""
        return Tqdm(disable=True)

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the whole run: the loader itself has no end."""
        return self.trainer.max_steps * self.trainer.accumulate_grad_batches

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the bar where the run stands."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description("training")

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The terms of the last batch that was logged, by name."""
        return dict(_terms(trainer))


class ProgressLines(Callback):
    """Prints a line with the step and the terms, in nats per datum, every half minute and at the end."""

    def __init__(self) -> None:
        self._printed = time.monotonic()
        self._step = -1

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Prints a line if the last one is long ago."""
        if time.monotonic() - self._printed >= SECONDS:
            self._print(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Prints the last step."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        self._printed = time.monotonic()
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            terms = "".join(f", {name}={value}" for name, value in _terms(trainer).items())
            print(f"step {self._step:,} of {trainer.max_steps:,}{terms}", flush=True)


def _terms(trainer: Trainer) -> dict[str, str]:
    """The terms of the last batch that was logged, by name."""
    metrics = trainer.progress_bar_metrics
    return {key.removeprefix("train/"): f"{metrics[key]:.2f}" for key in metrics if key.count("/") == 1}
