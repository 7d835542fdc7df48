"""What a run leaves behind: one folder with its configuration, checkpoints, metrics and versions."""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hfvae.files import expanded, write_atomically
from pyro_hfvae.train.checkpoint import read_checkpoint

__all__ = ["RunFolder", "processor"]

PACKAGES = {
    "pyro_hfvae": "pyro-hfvae",
    "torch": "torch",
    "pyro": "pyro-ppl",
    "pytorch_lightning": "pytorch-lightning",
    "numpy": "numpy",
}


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    ``config.yaml`` (resolved), ``checkpoints/last.ckpt``, ``metrics.csv`` (training history), ``csv/`` and
    ``tensorboard/`` (the loggers' own files), ``versions.json`` (versions, machine, seed, wall time); later
    ``metrics.json``, ``codes.npz``, ``pictures/``, ``checks/`` and ``report.html``.
    """

    path: Path
    """The folder; a string is made a path, and ``~`` the home folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", expanded(self.path))

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def versions(self) -> Path:
        """Versions, machine, seed, wall time and steps."""
        return self.path / "versions.json"

    @property
    def history(self) -> Path:
        """The training history."""
        return self.path / "metrics.csv"

    @property
    def metrics(self) -> Path:
        """What ``pyro-hfvae evaluate`` measured."""
        return self.path / "metrics.json"

    @property
    def codes(self) -> Path:
        """Codes of the images by which ``pyro-hfvae report`` compares runs of the same data."""
        return self.path / "codes.npz"

    @property
    def pictures(self) -> Path:
        """What ``pyro-hfvae traverse`` drew."""
        return self.path / "pictures"

    @property
    def checks(self) -> Path:
        """What ``pyro-hfvae check`` found."""
        return self.path / "checks"

    def require(self) -> None:
        """Raises FileNotFoundError, in one line, if this is no run."""
        if not self.config.is_file():
            raise FileNotFoundError(f"'{self.path}' is no run folder: it has no config.yaml")

    def how_to_go_on(self) -> str:
        """What to do if the run is stopped now, in words."""
        if self.checkpoint.is_file():
            return f"go on with: pyro-hfvae fit --resume {quote(str(self.path))}"
        if self.path.exists():
            return f"there is no checkpoint to go on from: {self._how_to_start_again()}"
        return "nothing was written: give the command again"

    def _how_to_start_again(self) -> str:
        return f"start again with: pyro-hfvae fit --config {quote(str(self.config))} --run NEW_FOLDER"

    def load_checkpoint(self) -> dict[str, Any]:
        """The newest checkpoint, read without unpickling code.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or no checkpoint of a run.
        """
        self.require()
        if not self.checkpoint.is_file():
            raise FileNotFoundError(
                f"run '{self.path}' has no checkpoint yet ({self.checkpoint}): wait for one if it is being trained; "
                f"if it was stopped, {self._how_to_start_again()}"
            )
        return read_checkpoint(self.checkpoint)

    def load_into(self, training: nn.Module, checkpoint: Mapping[str, Any]) -> None:
        """Loads the parameters of a checkpoint.

        Args:
            training: what was trained, as the configuration makes it.
            checkpoint: of :meth:`load_checkpoint`.

        Raises:
            ValueError: it does not fit, or holds a parameter that is not finite.
        """
        does_not_fit = f"checkpoint '{self.checkpoint}' does not fit the configured programs"
        own = training.state_dict()
        for name, value in checkpoint["state_dict"].items():
            if not _fits(value, own.get(name)):
                raise ValueError(f"{does_not_fit}: {name} is {value.dtype}, not {own[name].dtype}")
        try:
            training.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            first, *more = (line.strip() for line in str(error).splitlines()[1:])
            raise ValueError(f"{does_not_fit}: {first}" + (f" (and {len(more)} more)" if more else "")) from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # of a state that is none
            raise ValueError(f"{does_not_fit}: {type(error).__name__}: {error}") from error
        for name, parameter in training.named_parameters():
            if not parameter.isfinite().all():
                raise ValueError(f"checkpoint '{self.checkpoint}' is not one of a run: its {name} is not finite")

    def wall_seconds(self) -> float:
        """How long the run was trained so far.

        Raises:
            ValueError: ``versions.json`` cannot be read.
        """
        if not self.versions.is_file():
            return 0.0
        try:
            return float(json.loads(self.versions.read_bytes())["wall_seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{self.versions}' is damaged: delete it; the run's wall time is lost") from error

    def write_versions(self, seed: int, steps: int, seconds: float) -> None:
        """Writes versions and machine; ``seconds`` is the wall time of all parts of the run."""
        content: dict[str, Any] = {name: version(package) for name, package in PACKAGES.items()}
        content |= {
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "processor": processor(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "seed": seed,
            "steps": steps,
            "wall_seconds": round(seconds, 1),
        }
        write_atomically(self.versions, json.dumps(content, indent=2) + "\n")

    def write_history(self) -> None:
        """Joins the CSV files of a run and its resumptions into ``metrics.csv``.

        A resumed run repeats the steps since its last checkpoint; the later rows stand.
        """
        rows: list[Mapping[str, str]] = []
        parts = [part for part in self.path.glob("csv/version_*/metrics.csv") if part.parent.name[8:].isdecimal()]
        for part in sorted(parts, key=lambda part: int(part.parent.name[8:])):
            try:
                with part.open(newline="", encoding="utf-8") as file:
                    new = [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
            except (ValueError, csv.Error) as error:
                raise ValueError(f"'{part}' is no table of steps and terms: {error}") from error
            if new:
                first = min(int(row["step"]) for row in new)
                rows = [row for row in rows if int(row["step"]) < first] + list(new)
        if rows:
            columns = dict.fromkeys(["step", *sorted({key for row in rows for key in row if key})])
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: row.get(key) or "" for key in columns} for row in rows)
            write_atomically(self.history, buffer.getvalue())


def _fits(value: Any, own: Any) -> bool:
    """Whether torch, which takes truth values and complex ones too, would change no more than the precision."""
    if not isinstance(value, Tensor) or not isinstance(own, Tensor):
        return True  # for load_state_dict to say
    return value.dtype == own.dtype or (value.is_floating_point() and own.is_floating_point())


def processor() -> str:
    """Name of the processor: from Linux, elsewhere from Python."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
