"""Trainings that are killed at random moments, and must end as if they had not been."""

import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from campaign.inputs import TINY, arrays, write_npz
from campaign.judge import checkpoint, files, same
from campaign.server import Done, run
from pyro_hfvae.train.checkpoint import read_checkpoint

__all__ = ["MOMENTS", "VARIANTS", "Training"]

PAIRS = ("--batches.pairs.blocks", json.dumps({"z": ["x", "y"], "level": ["level"]}))
FACTOR = ("--objective", "FactorVAE", "--objective.gamma", "3", "--objective.hidden", "[8]")
RISE = json.dumps({"class_path": "pyro_hfvae.schedules.Linear", "init_args": {"start": 0, "end": 2, "steps": 9}})
STRUCTURED = (
    *("--guide", "pyro_hfvae.guides.StructuredGuide", "--guide.given", "{z: level}", "--guide.hidden", "4"),
    *("--model", "pyro_hfvae.models.MixtureModel", "--model.given", "{z: level}"),
)

VARIANTS: dict[str, Sequence[str]] = {
    "Concrete block, Adam": (),
    "file of the user's own (npz)": ("--data", "pyro_hfvae.data.ImageFile", "--data.path", "data.npz"),
    "double precision": ("--trainer.precision", "64-true"),
    "bfloat16": ("--trainer.precision", "bf16-mixed"),
    "accumulated gradients": ("--trainer.accumulate_grad_batches", "3"),
    "learned penalty": FACTOR,
    "learned penalty, double precision, accumulated": (
        *(*FACTOR, "--trainer.precision", "64-true", "--trainer.accumulate_grad_batches", "2"),
    ),
    "memory": ("--objective.marginal", "Memory", "--objective.marginal.size", "50"),
    "pairs within gates": PAIRS,
    "pairs that swap, late gates": (*PAIRS, "--batches.pairs.swap", "true", "--batches.pairs.gated_from", "9"),
    "schedules of weight and learning rate": (
        *("--objective.between", RISE, "--training.lr_scheduler", "OneCycleLR"),
        *("--training.lr_scheduler.max_lr", "0.01", "--training.lr_scheduler.total_steps", "24"),
    ),
    "categories without relaxation": (
        *("--model.relaxation", "null", "--guide.relaxation", "null", "--training.temperature", "null"),
    ),
    "structured guide": STRUCTURED,
    "SGD with momentum, clipped": (
        *("--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "1e-3"),
        *("--training.optimizer.momentum", "0.9", "--trainer.gradient_clip_val", "0.5"),
    ),
    "batches from another process": ("--batches.num_workers", "1"),
}

MOMENTS = ("SIGKILL at any time", "SIGKILL in a save", "SIGTERM", "SIGINT")

CALLS = ("write", "fsync", "chmod", "replace", "read")
"""What a save of any file goes through."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _DyingFile(io.BufferedRandom):
    """A temporary file in whose writing or reading back the process dies."""

    call = "write"
    after = 0

    def write(self, content: Any) -> int:
        cls = type(self)
        cls.after -= cls.call == "write"
        if cls.call == "write" and cls.after < 0:
            super().write(memoryview(content).cast("B")[: len(memoryview(content).cast("B")) // 2])
            self.flush()
            _die()
        return super().write(content)

    def read(self, size: int | None = -1) -> bytes:
        cls = type(self)
        cls.after -= cls.call == "read"
        if cls.call == "read" and cls.after < 0:
            _die()
        return super().read(size)


def die_in_a_save(rng: Random) -> tuple[str, Callable[[], None]]:
    """A moment in the writing of a file, and what makes a child die there."""
    call, later = rng.choice(CALLS), rng.random() < 0.5
    count = rng.randrange(600) if call == "write" else rng.randrange(300) if call == "read" else rng.randrange(12)

    def patch() -> None:
        if call in ("write", "read"):
            _DyingFile.call, _DyingFile.after = call, count
            usual_open = os.fdopen

            def fdopen(handle: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
                if mode == "w+b":
                    return _DyingFile(io.FileIO(handle, "r+"))
                return usual_open(handle, mode, *args, **kwargs)

            os.fdopen = fdopen
            return
        usual, left = getattr(os, call), [count]

        def dying(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 and not later:
                _die()
            done = usual(*args, **kwargs)
            if left[0] < 0:
                _die()
            return done

        setattr(os, call, dying)

    return f"{'after' if later else 'before'} {call} {count}", patch


class Training:
    """One variant: what it gives when nothing happens, and whether it gives the same after kills."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "work").mkdir(parents=True)
        config = yaml.safe_load(TINY.read_text())
        config["trainer"] |= {"max_steps": 24, "val_check_interval": 6, "limit_val_batches": 1, "log_every_n_steps": 1}
        config["training"]["temperature"]["init_args"]["steps"] = 20
        config["checkpoint_every"] = 3
        (folder / "work" / "config.yaml").write_text(yaml.safe_dump(config))
        write_npz(folder / "work" / "data.npz", arrays() | {"held_out": arrays()["held_out"]})
        done = self._fit()
        if done.status != 0:
            raise RuntimeError(f"{name}: {done.err}")
        self._seconds = done.seconds
        self._whole = self._result()
        self._files = self._names()

    def kill(self, moment: str, rng: Random) -> tuple[str, str]:
        """Kills a training once or more, goes on with it until its end, and compares.

        Returns:
            ``equal``, ``other`` where it ended otherwise, ``lost`` where a checkpoint was or a file is not what it
            should be, ``refused`` where it did not go on, ``not killed`` where it came to its end before; and how.
        """
        shutil.rmtree(self._run, ignore_errors=True)
        how, killed = [], 0
        for attempt in range(rng.choice([1, 1, 2, 3])):
            had = self._run.exists() and (self._run / "checkpoints" / "last.ckpt").exists()
            text, done = self._killed(moment, rng, resume=attempt > 0)
            how.append(f"{text}: exit {done.status}")
            if done.hung or "Traceback" in done.err or not _ended_well(moment, done):
                return "refused", f"{how} {done.err.strip()[-500:]}"
            killed += done.status != 0
            saved = self._run / "checkpoints" / "last.ckpt"
            if had and not saved.exists():
                return "lost", f"{how}: no checkpoint"
            if not saved.exists():  # killed before the first: the user starts again
                if self._run.exists() and not moment.startswith("SIGKILL"):
                    return "lost", f"{how}: a run folder without a checkpoint"
                shutil.rmtree(self._run, ignore_errors=True)
                return ("before the first checkpoint", str(how)) if killed else ("not killed", str(how))
            try:
                read_checkpoint(saved)
            except ValueError as error:
                return "lost", f"{how}: {error}"
            if done.status == 0:
                break
        if not killed:
            return "not killed", str(how)
        done = self._fit(resume=True)
        if done.status != 0:
            return "refused", f"{how} {done.err.strip()[-500:]}"
        result = self._result()
        if different := [part for part in self._whole if not same(self._whole[part], result[part])]:
            return "other", f"{how}: {different}"
        if (names := self._names()) != self._files:
            return "lost", f"{how}: {sorted(names ^ self._files)}"
        return "equal", str(how)

    @property
    def _run(self) -> Path:
        return self._folder / "work" / "run"

    def _fit(self, resume: bool = False, **more: Any) -> Done:
        options = ("--resume", "run") if resume else ("--config", "config.yaml", "--run", "run", *VARIANTS[self.name])
        return run(("fit", *options), self._folder, **more)

    def _killed(self, moment: str, rng: Random, resume: bool) -> tuple[str, Done]:
        if moment == "SIGKILL in a save":
            text, patch = die_in_a_save(rng)
            return text, self._fit(resume, before=patch)
        signum = signal.SIGKILL if moment.startswith("SIGKILL") else signal.Signals[moment]
        after = rng.uniform(0.35, 0.95) * self._seconds
        return f"{moment} after {after:.2f} s", self._fit(resume, signals=(after, signum))

    def _result(self) -> dict[str, Any]:
        return checkpoint(self._run) | {"history": (self._run / "metrics.csv").read_text()}

    def _names(self) -> set[str]:
        """The files of the run, but for what each start of the loggers adds."""
        return {name for name in files(self._folder / "work") if not name.startswith(("run/csv/", "run/tensorboard/"))}


def _ended_well(moment: str, done: Done) -> bool:
    """Whether a training came to its end, was killed, or says in its last line which signal has ended it."""
    if done.status == 0 or moment.startswith("SIGKILL"):
        return done.status in (0, -signal.SIGKILL)
    last = done.err.splitlines()[-1:]
    return done.status == 128 + signal.Signals[moment] and last != [] and f"stopped: {moment}" in last[0]
