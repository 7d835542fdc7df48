"""The progress bar of a run: steps done, and the terms."""

import sys
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

__all__ = ["TermsProgressBar"]


class TermsProgressBar(TQDMProgressBar):
    """Lightning's bar over all steps of the run, with the terms in nats per datum behind it."""

    def __init__(self) -> None:
        # A terminal is redrawn in place; a log gets a line now and then.
        super().__init__(refresh_rate=10 if sys.stdout.isatty() else 500)

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
        """The terms of the last batch, by name."""
        metrics = trainer.progress_bar_metrics
        return {key.removeprefix("train/"): f"{metrics[key]:.2f}" for key in metrics if key.count("/") == 1}
