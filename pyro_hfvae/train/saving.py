"""When a run's checkpoints are written: every so many steps, at the last one, and where a signal ends training."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from pyro_hfvae.interruption import Interruption, TrainingStoppedError
from pyro_hfvae.train.run_folder import RunFolder

__all__ = ["Saving"]


class Saving(Checkpoint):
    """Writes the checkpoints of a run, at the end of an optimiser's step and of the validation that follows it.

    Lightning's own callback also writes between the batches of one step, whose gradients no checkpoint holds, before
    the validation, which a resumed run would then leave out, and before the step's row of metrics, which would be lost.

    Args:
        run: the run.
        every: training steps between checkpoints.
        data: the record of the data, kept in each checkpoint.
        interruption: a signal that it has received ends training.
    """

    def __init__(self, run: RunFolder, every: int, data: Mapping[str, int], interruption: Interruption) -> None:
        self.run = run
        self.every = every
        self.data = data
        self.interruption = interruption
        self._saved = 0  # step of the last checkpoint; none is written of step 0
        self._step = 0
        self._ended = False  # whether the last batch ended an optimiser's step, rather than adding to its gradients

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes signals before the validation that comes before training."""
        self._take_signals(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stops that validation."""
        if trainer.sanity_checking:
            self._stop_before_training()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts where the run stands."""
        loop = trainer.fit_loop.epoch_loop
        usual = loop.on_advance_end

        def on_advance_end(data_fetcher: Any) -> None:  # no hook of Lightning's comes after what a step logs
            usual(data_fetcher)
            if self._ended:
                self._save_if_due(trainer)

        loop.on_advance_end = on_advance_end  # type: ignore[method-assign]
        self._saved = self._step = trainer.global_step
        self._take_signals(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sees whether a step has ended."""
        self._ended = trainer.global_step > self._step
        self._step = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves after the validation that follows a step."""
        if self._ended:
            self._save_if_due(trainer)
        self._ended = False  # a signal that comes now is taken after the next step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where another callback has ended training."""
        if trainer.global_step != self._saved:
            self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the record of the data."""
        checkpoint["data"] = dict(self.data)

    def _take_signals(self, trainer: Trainer) -> None:
        """Takes them back from Lightning, which would end in its own way."""
        self.interruption.take()
        trainer._signal_connector.received_sigterm = False  # one that came before was received here too
        self._stop_before_training()

    def _stop_before_training(self) -> None:
        if self.interruption.received is not None:
            raise TrainingStoppedError(self.interruption.received, "before the first step")

    def _save_if_due(self, trainer: Trainer) -> None:
        step, signum = trainer.global_step, self.interruption.received
        if step != self._saved and (step % self.every == 0 or step == trainer.max_steps or signum is not None):
            self._save(trainer)
        if signum is not None and step != trainer.max_steps:
            raise TrainingStoppedError(
                signum,
                f"{signum.name} at step {step:,}; {self.run.how_to_go_on()}",
            )

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.run.checkpoint, weights_only=False)
        self._saved = trainer.global_step
