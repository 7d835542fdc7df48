"""Trains and leaves a run folder."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

import pyro
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.optim import Optimizer

from pyro_hfvae.files import write_atomically
from pyro_hfvae.train.data_module import ImageDataModule
from pyro_hfvae.train.first_batch import try_first_batch
from pyro_hfvae.train.progress import TermsProgressBar
from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.training import Training
from pyro_hfvae.train.trust import remember

__all__ = ["denormals_as_zero", "fit"]


def fit(
    training: Training,
    data: ImageDataModule,
    run: RunFolder | str | PathLike[str],
    *,
    config: str,
    seed: int,
    trainer: Mapping[str, Any],
    checkpoint_every: int = 500,
    resume: bool = False,
) -> None:
    """Trains until ``max_steps``, from the start or from the run's last checkpoint.

    Nothing is written before one batch went through programs and objective, and all options were found to fit.

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
        ValueError, NotImplementedError: the objective is not defined for the programs; names the site. Or a program
            has a ``pyro.param`` that would not be trained; names it. Or the trainer's arguments are wrong, or the
            checkpoint does not fit.
        NonFiniteError: a site or a gradient became NaN or infinite.
        RuntimeError: something else failed after the first batch; what, is its cause.
    """
    run = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    seed, checkpoint_every = index(seed), index(checkpoint_every)
    if not resume and run.path.exists():
        raise FileExistsError(f"run folder '{run.path}' exists: name another with --run, or continue it with --resume")
    checkpoint = run.load_into(training) if resume else None
    training.check_schedules(_steps(trainer, data))
    data.warn_of_closed_blocks(_steps(trainer, data) * trainer.get("accumulate_grad_batches", 1))
    try_first_batch(training, data)
    optimizers = [training.make_optimizer()]
    if checkpoint is not None:
        _refuse_other_optimizers(run, checkpoint, optimizers)
        _refuse_fewer_steps(run, checkpoint, _steps(trainer, data))
    loop = _trainer(trainer, data, run, checkpoint_every)
    if not resume:
        run.path.mkdir(parents=True)
    write_atomically(run.config, config)
    remember(config)
    started = time.monotonic()
    try:
        with pyro.validation_enabled(False), denormals_as_zero():
            try:
                loop.fit(training, data, ckpt_path=run.checkpoint if resume else None, weights_only=True)
            except (ValueError, NotImplementedError, OSError) as error:  # a first batch went through: no bad input
                raise RuntimeError(f"training stopped at step {loop.global_step}") from error
        if loop.global_step % checkpoint_every:
            loop.save_checkpoint(run.checkpoint, weights_only=False)
    finally:
        run.write_history()
        run.write_versions(seed, loop.global_step, time.monotonic() - started)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Numbers below 1e-38 count as 0: the gradients of pixels that are certain are such, and can halve a CPU's speed.

    On processors that know no such mode nothing changes. ``benchmarks/denormals.py`` measures it.
    """
    before = not torch.full((1,), 1e-39).mul(1.0).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _trainer(trainer: Mapping[str, Any], data: ImageDataModule, run: RunFolder, checkpoint_every: int) -> Trainer:
    """The trainer, which writes nothing before it is started."""
    if trainer.get("val_check_interval") == 0:
        raise ValueError("trainer.val_check_interval must be 1 or more; for no validation set limit_val_batches to 0")
    saver = ModelCheckpoint(
        run.path / "checkpoints", "last", every_n_train_steps=checkpoint_every, enable_version_counter=False
    )
    settings = {
        **trainer,
        "max_steps": _steps(trainer, data),
        "max_epochs": -1,
        "callbacks": [*(trainer.get("callbacks") or []), saver, TermsProgressBar()],
    }
    try:
        loop = Trainer(
            **settings,
            logger=[CSVLogger(run.path, "csv"), TensorBoardLogger(run.path, "tensorboard", "")],
            default_root_dir=run.path,
        )
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error}") from error
    if loop.world_size > 1:
        raise ValueError(f"training on {loop.world_size} devices is not supported: set --trainer.devices 1")
    return loop


_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
"""What torch's learning-rate schedulers write beside an optimiser's own settings, of which they move the learning rate
and the momentum."""


def _refuse_other_optimizers(run: RunFolder, checkpoint: Mapping[str, Any], optimizers: Sequence[Optimizer]) -> None:
    """The state of one kind of optimiser is nothing that another could go on with, and it brings its settings along."""
    states = checkpoint["optimizer_states"]
    if len(states) != len(optimizers):
        raise ValueError(
            f"checkpoint '{run.checkpoint}' was made with {len(states)} optimisers, not {len(optimizers)}: "
            "resume with the objective that the run was started with"
        )
    for state, optimizer in zip(states, optimizers, strict=True):
        before, now = state["param_groups"][0], optimizer.param_groups[0]
        if before.keys() - _OF_SCHEDULERS != now.keys():
            raise ValueError(
                f"checkpoint '{run.checkpoint}' was made with another optimiser than {type(optimizer).__name__}: "
                "resume with the one that the run was started with"
            )
        moved = {"lr", "betas", "momentum"} if "initial_lr" in before else set()
        for name in now.keys() - {"params"} - moved:
            if before[name] != now[name]:
                raise ValueError(
                    f"checkpoint '{run.checkpoint}' was made with {name}={before[name]} of the optimiser, not "
                    f"{now[name]}: resume with the one that the run was started with"
                )


def _refuse_fewer_steps(run: RunFolder, checkpoint: Mapping[str, Any], steps: int) -> None:
    done = checkpoint["global_step"]
    if steps < done:
        raise ValueError(f"run '{run.path}' has done {done:,} steps already, more than the {steps:,} asked for")


def _steps(trainer: Mapping[str, Any], data: ImageDataModule) -> int:
    """Training steps: ``max_steps``, or as many as ``max_epochs`` make, whichever is less."""
    steps: int = trainer.get("max_steps", -1)
    epochs: int | None = trainer.get("max_epochs")
    accumulate: int = trainer.get("accumulate_grad_batches", 1)
    limits = [steps] if steps >= 0 else []
    limits += [epochs * data.batches_per_epoch // accumulate] if epochs is not None and epochs >= 0 else []
    if not limits or min(limits) < 1:
        raise ValueError("set trainer.max_steps or trainer.max_epochs, so that training takes one step or more")
    return index(min(limits))
