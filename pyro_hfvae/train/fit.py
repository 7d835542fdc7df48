"""Trains and leaves a run folder."""

import time
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from pyro_hfvae.files import write_atomically
from pyro_hfvae.train.data_module import ImageDataModule
from pyro_hfvae.train.progress import TermsProgressBar
from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.training import Training

__all__ = ["fit"]


def fit(
    training: Training,
    data: ImageDataModule,
    run: RunFolder,
    *,
    config: str,
    seed: int,
    trainer: Mapping[str, Any],
    checkpoint_every: int = 500,
    resume: bool = False,
) -> None:
    """Trains until ``max_steps``, from the start or from the run's last checkpoint.

    Nothing is written before one batch went through programs and objective.

    Args:
        training: programs, objective and optimiser.
        data: the batches.
        run: the folder to make, or to go on with.
        config: text of the resolved configuration.
        seed: for the record.
        trainer: arguments of ``pytorch_lightning.Trainer``, ``max_steps`` or ``max_epochs`` among them.
        checkpoint_every: training steps between checkpoints.
        resume: go on from the run's last checkpoint.

    Raises:
        FileExistsError: the run folder exists, and ``resume`` is not asked for.
        ValueError, NotImplementedError: the objective is not defined for the programs; names the site.
        NonFiniteError: a site or a gradient became NaN or infinite.
    """
    if resume:
        run.load_checkpoint()  # refuses a broken one with a clear line
    elif run.path.exists():
        raise FileExistsError(f"run folder '{run.path}' exists: name another with --run, or continue it with --resume")
    _try_one_batch(training, data)
    settings = {**trainer, "max_steps": _steps(trainer, data), "max_epochs": -1}
    if not resume:
        run.path.mkdir(parents=True)
    write_atomically(run.config, config)
    saver = ModelCheckpoint(
        run.path / "checkpoints", "last", every_n_train_steps=checkpoint_every, enable_version_counter=False
    )
    loop = Trainer(
        **settings | {"callbacks": [*(trainer.get("callbacks") or []), saver, TermsProgressBar()]},
        logger=[CSVLogger(run.path, "csv"), TensorBoardLogger(run.path, "tensorboard", "")],
        default_root_dir=run.path,
    )
    if loop.world_size > 1:
        raise ValueError(f"training on {loop.world_size} devices is not supported: set --trainer.devices 1")
    started = time.monotonic()
    try:
        with pyro.validation_enabled(False):
            loop.fit(training, data, ckpt_path=run.checkpoint if resume else None, weights_only=True)
        if loop.global_step % checkpoint_every:
            loop.save_checkpoint(run.checkpoint)
    finally:
        run.write_history()
        run.write_versions(seed, loop.global_step, time.monotonic() - started)


def _steps(trainer: Mapping[str, Any], data: ImageDataModule) -> int:
    """Training steps: ``max_steps``, or as many as ``max_epochs`` make, whichever is less."""
    steps: int = trainer.get("max_steps", -1)
    epochs: int | None = trainer.get("max_epochs")
    accumulate: int = trainer.get("accumulate_grad_batches", 1)
    limits = [steps] if steps >= 0 else []
    limits += [epochs * data.batches_per_epoch // accumulate] if epochs is not None and epochs >= 0 else []
    if not limits:
        raise ValueError("say how long to train: trainer.max_steps or trainer.max_epochs")
    return min(limits)


@torch.no_grad()
def _try_one_batch(training: Training, data: ImageDataModule) -> None:
    """Lets the programs and the objective refuse what they must."""
    batch = data.first_batch()
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        try:
            training.terms(*batch)
        except RuntimeError as error:  # a network that does not fit the images, say
            shapes = ", ".join(str(tuple(part.shape)) for part in batch)
            raise ValueError(f"model or guide fail on a batch of shape {shapes}: {error}") from error
