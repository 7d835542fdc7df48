"""What a run that goes on must have in common with what it was: data, split, optimiser, schedule."""

from collections.abc import Mapping
from typing import Any

from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.training import Training

__all__ = ["check_resumption", "refuse_other_data"]

MOVED = {"lr", "betas", "momentum"}
"""Settings of an optimiser that a learning-rate schedule moves."""

MOVES = {"last_epoch", "T_cur", "T_i"}
"""What moves of the state of a learning-rate schedule, beside what begins with an underscore."""

RECORDED = {
    "seed": "seed {}",
    "size": "{} data",
    "held_out": "{} held-out data",
    "split": "held-out indices of checksum {}",
    "content": "data of checksum {}",
}
"""What a record of data holds, in words."""


def check_resumption(
    run: RunFolder, checkpoint: Mapping[str, Any], training: Training, data: Mapping[str, Any], steps: int
) -> None:
    """Refuses to go on with a run in a way that would make another run of it.

    Args:
        run: the run.
        checkpoint: its last checkpoint.
        training: as it is configured now.
        data: the record of the data now (:func:`~pyro_hfvae.train.data_record.data_record`).
        steps: training steps in the end.

    Raises:
        ValueError: other data, another split, optimiser or learning-rate schedule, or fewer steps than are done.
    """
    refuse_other_data(run, checkpoint["data"], data)
    _refuse_other_optimizer(run, checkpoint, training)
    done = checkpoint["global_step"]
    if steps < done:
        raise ValueError(f"run '{run.path}' has done {done:,} steps already, more than the {steps:,} asked for")


def refuse_other_data(run: RunFolder, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError where what was trained on would be held out; compares what the record ``now`` has."""
    for name, described in RECORDED.items():
        was = before.get(name)
        if name in now and (not isinstance(was, int) or was != now[name]):
            raise ValueError(
                f"run '{run.path}' was started with {described.format(was)}, not "
                f"{described.format(now[name])}: use the data and the split that it was started with"
            )


def _refuse_other_optimizer(run: RunFolder, checkpoint: Mapping[str, Any], training: Training) -> None:
    """The state of one kind of optimiser is nothing that another could go on with, and it brings its settings along."""
    made = f"checkpoint '{run.checkpoint}' was made with"
    advice = "resume with the one that the run was started with"
    states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    if len(states) != 1:
        raise ValueError(f"{made} {len(states)} optimisers, not 1: {advice}")
    optimizer = training.make_optimizer()
    scheduler = None if training.lr_scheduler is None else training.lr_scheduler(optimizer)
    if len(schedules) != (scheduler is not None):
        raise ValueError(f"{made}{'' if schedules else 'out'} a learning-rate schedule: {advice}")
    try:
        before, now = states[0]["param_groups"][0], optimizer.param_groups[0]
        fits = before.keys() == now.keys() and len(before["params"]) == len(now["params"])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint '{run.checkpoint}' is not one of a run: its optimizer_states are none") from error
    if not fits:
        raise ValueError(f"{made} another optimiser than {type(optimizer).__name__}: {advice}")
    for name in now.keys() - {"params"} - (MOVED if scheduler is not None else set()):
        if before[name] != now[name]:
            raise ValueError(f"{made} {name}={before[name]} of the optimiser, not {now[name]}: {advice}")
    for name, value in ({} if scheduler is None else scheduler.state_dict()).items():
        if name in MOVES or name.startswith("_"):
            continue
        if schedules[0].get(name) != value:
            raise ValueError(
                f"{made} {name}={schedules[0].get(name)} of the learning-rate schedule, not {value}: {advice}"
            )
