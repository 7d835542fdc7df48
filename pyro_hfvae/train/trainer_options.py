"""What must hold of the options of a training before its folder is made: the trainer's, its callbacks, schedules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ProgressBar
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyro_hfvae.infer.weights import Capacity
from pyro_hfvae.schedules import Cosine, Linear, Schedule, Steps
from pyro_hfvae.train.construct import refuse_nulls
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.progress import progress
from pyro_hfvae.train.training import Training

__all__ = [
    "FIXED",
    "WITHOUT_MEANING",
    "check_monitors",
    "check_optimizer",
    "check_values",
    "unreached_schedules",
]

FIXED: Mapping[str, Any] = {"check_val_every_n_epoch": None, "use_distributed_sampler": False}
"""Batches have no end, so that validation is counted in steps, and they come with a sampler of their own."""

WITHOUT_MEANING = {
    "barebones",
    "default_root_dir",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "fast_dev_run",
    "limit_predict_batches",
    "limit_test_batches",
    "limit_train_batches",
    "logger",
    "min_epochs",
    "model_registry",
    "num_nodes",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "sync_batchnorm",
    *FIXED,
}
"""Options of Lightning's Trainer that a run does not have: it has a folder of its own, checkpoints and loggers, endless
batches on one device, and neither tests nor predictions."""


def check_values(trainer: Mapping[str, Any]) -> None:
    """Raises ValueError for values that Lightning takes and that make no training."""
    refuse_nulls(Trainer, trainer, "trainer.")
    for name, least in (("accumulate_grad_batches", 1), ("gradient_clip_val", 0), ("log_every_n_steps", 0)):
        value = trainer.get(name)
        if value is not None and value < least:
            raise ValueError(f"trainer.{name} must be {least} or more, got {value}")
    if trainer.get("precision") == "16-true":
        raise ValueError("trainer.precision 16-true has no number above 65,504: use 16-mixed or bf16-true")


def shown_progress(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's ``callbacks``, with one that shows the progress unless one does or it is forbidden, and its bar."""
    asked = trainer.get("callbacks") or []
    found = [asked] if isinstance(asked, Callback) else list(asked)
    allowed = trainer.get("enable_progress_bar") is not False
    if allowed and not any(isinstance(one, ProgressBar) for one in found):
        found.append(progress())
    # Lightning adds a bar of its own where it may and finds none.
    return {"callbacks": found, "enable_progress_bar": allowed and any(isinstance(one, ProgressBar) for one in found)}


def check_optimizer(training: Training, steps: int) -> None:
    """Takes two steps with an optimiser and a learning-rate scheduler of the kind that training will have.

    Raises:
        ValueError: they cannot be made or fail in these steps, the scheduler needs a measure to follow, or it ends
            before the steps of training do.
    """
    weights = [nn.Parameter(torch.zeros(2, 2))]
    try:
        optimizer = training.optimizer(weights)
        scheduler = None if training.lr_scheduler is None else training.lr_scheduler(optimizer)
    except Exception as error:
        raise ValueError(f"training: the optimiser or its schedule cannot be made: {error}") from error
    if (rate := float(optimizer.param_groups[0]["lr"])) > torch.finfo(torch.float32).max:
        raise ValueError(f"the learning rate {rate:g} is too large")
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError("training.lr_scheduler ReduceLROnPlateau follows a measure, which steps do not have")
    for _ in range(2):
        weights[0].grad = torch.ones(2, 2)
        try:
            optimizer.step(lambda: 0.0)
        except Exception as error:
            raise ValueError(f"training.optimizer {type(optimizer).__name__} fails at a step: {error}") from error
        try:
            if scheduler is not None:
                scheduler.step()
        except Exception as error:
            name = type(scheduler).__name__
            raise ValueError(
                f"training.lr_scheduler {name} cannot be stepped after each batch: {type(error).__name__}: {error}"
            ) from error
    total = getattr(scheduler, "total_steps", None)
    if total is not None and total < steps:
        raise ValueError(
            f"the learning-rate schedule {type(scheduler).__name__} ends after total_steps={total:,} steps, but "
            f"training takes {steps:,}"
        )


def check_monitors(loop: Trainer, training: Training, data: DataModule) -> None:
    """Refuses a callback that monitors a number which nobody logs; it would end training there.

    Raises:
        ValueError: names the callback, what it monitors, and what is logged.
    """
    asked = [(type(one).__name__, getattr(one, "monitor", None)) for one in _callbacks(loop)]
    monitors = [(callback, name) for callback, name in asked if name is not None]
    if not monitors or any(not type(one).__module__.startswith(_OURS) for one in _callbacks(loop)):
        return  # a callback of the user's own may log it
    logged = training.logged_names(data.first_batch(), validates=loop.limit_val_batches != 0)
    first = loop.log_every_n_steps * loop.accumulate_grad_batches  # type: ignore[attr-defined]
    if not isinstance(loop.val_check_interval, int) or first == 0 or first > loop.val_check_interval:
        logged = {name for name in logged if name.startswith("val/")}
    for callback, name in monitors:
        if name not in logged:
            raise ValueError(
                f"trainer.callbacks: {callback} monitors '{name}', which is not logged before the first validation "
                "ends; logged are: " + (", ".join(sorted(logged)) or "none")
            )


def unreached_schedules(training: Training, data: DataModule, steps: int) -> Iterator[str]:
    """A line for each schedule whose end comes after that of training."""
    elbo = training.programs.elbo
    found: dict[str, Any] = {f"objective.{name}": value for name, value in vars(elbo).items()}
    found |= {f"objective.penalties.{name}": vars(penalty) for name, penalty in elbo.penalties.items()}
    found["training.temperature"] = training.temperature
    for name, schedule in _schedules(found):
        end = _end(schedule)
        if end is not None and end > steps:
            yield f"{name} ends at step {end:,}, but training at step {steps:,}: {schedule}"
    pairing = data.pairing
    if pairing is not None and pairing.gated and pairing.gated_from >= steps:
        yield f"batches.pairs are gated from batch {pairing.gated_from:,} on, but training ends at step {steps:,}"


_OURS = ("pytorch_lightning.", "pyro_hfvae.")


def _callbacks(loop: Trainer) -> list[Callback]:
    return list(loop.callbacks)  # type: ignore[attr-defined]


def _end(schedule: Schedule) -> int | None:
    if isinstance(schedule, Linear | Cosine):
        return schedule.steps
    return schedule.at[-1] if isinstance(schedule, Steps) and schedule.at else None


def _schedules(values: Mapping[str, Any]) -> Iterator[tuple[str, Schedule]]:
    for name, value in values.items():
        if isinstance(value, Schedule):
            yield name, value
        elif isinstance(value, Capacity):
            yield from _schedules({name: value.weight, f"{name}.nats": value.nats})
        elif isinstance(value, Mapping):
            yield from _schedules({f"{name}.{key}": one for key, one in value.items()})
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _schedules({f"{name}[{place}]": one for place, one in enumerate(value)})
