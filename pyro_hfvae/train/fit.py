"""Trains and leaves a run folder."""

import errno
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

import pyro
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.strategies import SingleDeviceStrategy

from pyro_hfvae.files import write_atomically
from pyro_hfvae.infer import NonFiniteError
from pyro_hfvae.interruption import Interruption, TrainingStoppedError
from pyro_hfvae.train.checkpoint import WholeCheckpoints
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.data_record import data_record
from pyro_hfvae.train.first_batch import try_first_batch
from pyro_hfvae.train.lock import only_process
from pyro_hfvae.train.resuming import check_resumption
from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.saving import Saving
from pyro_hfvae.train.trainer_options import (
    FIXED,
    check_monitors,
    check_optimizer,
    check_values,
    shown_progress,
    unreached_schedules,
)
from pyro_hfvae.train.training import Training
from pyro_hfvae.train.trust import remember

__all__ = ["denormals_as_zero", "fit"]


def fit(
    training: Training,
    data: DataModule,
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
            checkpoint does not fit, or another process trains the run.
        FileNotFoundError: there is nothing to resume: no run, or one that was killed before its first checkpoint.
        TrainingStoppedError: SIGINT, SIGTERM or SIGHUP has ended training; there is a checkpoint of the step reached,
            or nothing was written before the first step.
        NonFiniteError: a site or a gradient became NaN or infinite.
        RuntimeError: something else failed after the first batch; what, is its cause.
    """
    run = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    seed, checkpoint_every = index(seed), index(checkpoint_every)
    if not resume and run.path.exists():
        raise FileExistsError(f"run folder '{run.path}' exists: name another with --run, or continue it with --resume")
    with ExitStack() as stack:
        if resume:
            run.require()
            stack.enter_context(only_process(run.path))
        seconds = run.wall_seconds()
        check_values(trainer)
        steps = _steps(trainer, data)
        checkpoint = run.load_checkpoint() if resume else None
        training.check_schedules(steps)
        data.warn_of_closed_blocks(steps * trainer.get("accumulate_grad_batches", 1))
        check_optimizer(training, steps)
        try_first_batch(training, data)
        record = data_record(data)
        interruption = stack.enter_context(Interruption())
        done = 0 if checkpoint is None else checkpoint["global_step"]
        loop = _trainer(trainer, steps, run, Saving(run, checkpoint_every, record, interruption), done)
        check_monitors(loop, training, data)
        # Lightning would do so after it has loaded the checkpoint, whose double precision would be lost.
        loop.precision_plugin.convert_module(training)
        if checkpoint is not None:
            run.load_into(training, checkpoint)
            check_resumption(run, checkpoint, training, record, steps)
        for line in unreached_schedules(training, data, steps):
            logging.getLogger("pyro_hfvae").warning(line)
        before = run.config.read_bytes() if resume else None
        kept = set(run.path.rglob("*"))
        if not resume:
            run.path.mkdir(parents=True)
            stack.enter_context(only_process(run.path))
        write_atomically(run.config, config)
        remember(config)
        started, begun = time.monotonic(), True
        try:
            _train(loop, training, data, run.checkpoint if resume else None)
        except Exception as error:
            begun = loop.global_step > done or _is_full(error)
            if not begun:
                raise _not_started(run, before, kept, error) from error
            if isinstance(error, OSError) and _is_full(error):
                raise OSError(error.errno, error.strerror, error.filename or str(run.path)) from error
            if isinstance(error, ValueError | NotImplementedError | OSError):  # not of the input
                raise RuntimeError(f"training stopped at step {loop.global_step}") from error
            raise
        finally:
            if begun and run.path.exists():
                run.write_history()
                run.write_versions(seed, loop.global_step, seconds + time.monotonic() - started)


def _train(loop: Trainer, training: Training, data: DataModule, checkpoint: Path | None) -> None:
    """Runs the loop, from the start or from a checkpoint."""
    with pyro.validation_enabled(False), denormals_as_zero():
        loop.fit(training, data, ckpt_path=checkpoint, weights_only=True)


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _not_started(run: RunFolder, config: bytes | None, kept: set[Path], error: Exception) -> Exception:
    """Takes away what was written before anything was trained and gives a run its configuration back; the reason."""
    if config is None:
        shutil.rmtree(run.path)
    else:
        write_atomically(run.config, config)
        for path in sorted(set(run.path.rglob("*")) - kept, reverse=True):  # what is in a folder before the folder
            path.rmdir() if path.is_dir() else path.unlink()
    if isinstance(error, NonFiniteError):
        return error
    if isinstance(error, TrainingStoppedError):
        return TrainingStoppedError(error.signal, f"{error.signal.name} before the first step; {run.how_to_go_on()}")
    start = "start" if config is None else f"go on from '{run.checkpoint}'"
    return ValueError(f"training cannot {start}: {type(error).__name__}: {error}")


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


class _TensorBoard(TensorBoardLogger):
    """Writes into the run's folder, whatever its name: Lightning replaces what looks like a variable in it."""

    @property
    def log_dir(self) -> str:
        return self.root_dir


def _trainer(trainer: Mapping[str, Any], steps: int, run: RunFolder, saving: Saving, done: int) -> Trainer:
    """The trainer, which writes nothing before it is started."""
    interval = trainer.get("val_check_interval")
    by_clock = isinstance(interval, str | Mapping | timedelta)  # at whose times no run would resume exactly
    if interval == 0 or by_clock:
        raise ValueError(
            f"trainer.val_check_interval must be a number of training steps, 1 or more, got {interval!r}; for no "
            "validation set limit_val_batches to 0"
        )
    plugins = trainer.get("plugins") or []
    shown = shown_progress(trainer)
    settings = {
        **FIXED,
        **trainer,
        "max_steps": steps,
        "max_epochs": -1,
        **shown,
        "callbacks": [*shown["callbacks"], saving],
        "plugins": [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()],
    }
    try:
        loop = Trainer(
            **settings,
            logger=[
                CSVLogger(run.path, "csv"),
                _TensorBoard(run.path, "tensorboard", "", purge_step=done or None),
            ],
            default_root_dir=run.path,
        )
    except Exception as error:  # whatever Lightning and what it looks for raise about options
        raise ValueError(f"trainer: {error}") from error
    if loop.world_size > 1:
        raise ValueError(f"training on {loop.world_size} devices is not supported: set --trainer.devices 1")
    if loop.limit_train_batches != 1.0 or isinstance(loop.limit_train_batches, int):
        raise ValueError(
            "trainer.limit_train_batches must be left out, and so overfit_batches and fast_dev_run, which set it: "
            "batches have no end, training has trainer.max_steps"
        )
    if not isinstance(loop.strategy, SingleDeviceStrategy):
        raise ValueError(f"trainer.strategy {trainer['strategy']} is not supported: leave it at auto, for one device")
    return loop


def _steps(trainer: Mapping[str, Any], data: DataModule) -> int:
    """Training steps: ``max_steps``, or as many as ``max_epochs`` make, whichever is less."""
    steps: int = trainer.get("max_steps", -1)
    epochs: int | None = trainer.get("max_epochs")
    accumulate: int = trainer.get("accumulate_grad_batches", 1)
    limits = [steps] if steps >= 0 else []
    limits += [epochs * data.batches_per_epoch // accumulate] if epochs is not None and epochs >= 0 else []
    if not limits or min(limits) < 1:
        raise ValueError("set trainer.max_steps or trainer.max_epochs, so that training takes one step or more")
    return index(min(limits))
