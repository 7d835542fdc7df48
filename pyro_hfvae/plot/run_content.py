"""What the folder of a run holds, read for the report."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from numpy.typing import NDArray

from pyro_hfvae.metrics import SharedCodes, read_shared_codes
from pyro_hfvae.plot.checks import CheckedPosterior, read_checks
from pyro_hfvae.run_outputs import OUTPUT_FILES, output_step, read_json, read_text, refuse_links, trained_steps

__all__ = ["RunContent", "read_history", "read_run", "whole"]

History = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Name of a column to its steps `[T]` and values `[T]`."""

_COLUMNS = ("train/", "val/", "weight/", "temperature")
"""How the columns begin that are read."""

_SHOWN = {"evaluate": "the numbers are", "traverse": "the pictures are", "check": "the checks are"}


@dataclass(frozen=True, eq=False)
class RunContent:
    """The content of a run folder.

    Attributes:
        path: the folder.
        metrics: of `metrics.json`; empty where there is none.
        versions: of `versions.json`; empty where there is none.
        configuration: the text of `config.yaml`, or None.
        history: of `metrics.csv`; empty where there is none.
        pictures: what `traverse` drew, PNG and GIF.
        checks: the summary of `check`, or None.
        check_pictures: what `check` drew.
        codes: of the images that runs share, or None.
        stale: what was made at another step than that of the newest checkpoint, in a sentence, or None.
    """

    path: Path
    metrics: dict[str, Any]
    versions: dict[str, Any]
    configuration: str | None
    history: History
    pictures: Sequence[Path]
    checks: CheckedPosterior | None
    check_pictures: Sequence[Path]
    codes: SharedCodes | None
    stale: str | None

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.resolve().name

    def options(self) -> dict[str, Any]:
        """Every option of the configuration by its dotted name, as on the command line.

        Raises:
            ValueError: `config.yaml` is not YAML, or no mapping.
        """
        try:
            content = yaml.safe_load(self.configuration or "{}")
        except yaml.YAMLError as error:
            raise ValueError(f"{self.path / 'config.yaml'} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{self.path / 'config.yaml'} is no mapping of options to values")
        return _flat(content)


def read_run(path: Path) -> RunContent:
    """Reads a run.

    Raises:
        ValueError: a file cannot be read, or a link leads out of the folder; names it.
    """
    refuse_links(path)
    configuration, checks = path / "config.yaml", path / "checks" / "summary.txt"
    return RunContent(
        path=path,
        metrics=read_json(path / "metrics.json") if (path / "metrics.json").is_file() else {},
        versions=read_json(path / "versions.json") if (path / "versions.json").is_file() else {},
        configuration=read_text(configuration) if configuration.is_file() else None,
        history=read_history(path / "metrics.csv") if (path / "metrics.csv").is_file() else {},
        pictures=_images(path / "pictures"),
        checks=read_checks(read_text(checks)) if checks.is_file() else None,
        check_pictures=_images(path / "checks"),
        codes=read_shared_codes(path / "codes.npz") if (path / "codes.npz").is_file() else None,
        stale=_stale(path),
    )


@contextmanager
def whole(runs: Sequence[RunContent]) -> Iterator[None]:
    """Within it, numbers that are not where `evaluate` puts them end in one line that names the files.

    Raises:
        ValueError: something else than a mapping or a number stands in `metrics.json` or `versions.json`.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.TemplateError) as error:
        if any(str(run.path) in str(error) for run in runs):  # it names the file already
            raise
        files = " or ".join(f"'{run.path / name}'" for run in runs for name in ("metrics.json", "versions.json"))
        raise ValueError(f"{files} is damaged, make it anew: {' '.join(str(error).split())}") from error


def _stale(path: Path) -> str | None:
    trained, made = trained_steps(path), {command: output_step(path, command) for command in OUTPUT_FILES}
    old = [f"{_SHOWN[part]} of step {step:,}" for part, step in made.items() if step not in (None, trained)]
    if trained is None or not old:
        return None
    return f"The newest checkpoint is of step {trained:,}, but {', '.join(old)}"


def read_history(table: Path) -> History:
    """Terms and schedules of a CSV with empty cells.

    Raises:
        ValueError: it is damaged; names the file.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name, cell in row.items():
                    if name and name.startswith(_COLUMNS) and cell and row.get("step"):
                        points.setdefault(name, []).append((float(row["step"]), float(cell)))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"'{table}' is no table of steps and terms: {error}") from error
    columns = {name: np.array(pairs).T for name, pairs in points.items()}
    return {name: (steps, values) for name, (steps, values) in columns.items()}


def _images(folder: Path) -> list[Path]:
    return sorted(path for kind in ("png", "gif") for path in folder.glob(f"*.{kind}"))


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted names; `init_args` is left out of them, as the command line does."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        inside = prefix if name == "init_args" else f"{prefix}{name}."
        if isinstance(value, dict) and value:
            found |= _flat(value, inside)
        else:
            found[inside[:-1]] = value
    return found
