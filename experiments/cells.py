"""Cells of a study: kept as rows with versions and machine, and shown in tables of Markdown."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyro

from pyro_hfvae.files import write_atomically
from pyro_hfvae.train import RunFolder, denormals_as_zero

__all__ = ["about", "head", "kept_cell", "line", "mean_and_deviation"]


def kept_cell(folder: Path, name: str, seed: int, run: Callable[[], tuple[dict[str, Any], int]]) -> dict[str, Any]:
    """What ``run`` measures and the number of its steps, kept with versions and machine in folder/rows/name.json.

    A cell that has its row is not run again.
    """
    row = folder / "rows" / f"{name}.json"
    if not row.is_file():
        started = time.monotonic()
        with denormals_as_zero(), pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
            content, steps = run()
        record = RunFolder(folder / "runs" / name)
        record.path.mkdir(parents=True, exist_ok=True)
        record.write_versions(seed, steps, time.monotonic() - started)
        content |= {"seed": seed, "versions": json.loads(record.versions.read_text())}
        row.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(row, json.dumps(content, indent=2) + "\n")
    return json.loads(row.read_text())  # type: ignore[no-any-return]


def about(cells: Sequence[dict[str, Any]]) -> str:
    """Versions, machine and time of the cells, in words."""
    versions = [cell["versions"] for cell in cells]
    software = {f"pyro-hfvae {v['pyro_hfvae']}, torch {v['torch']}" for v in versions}
    machines = {f"{v['processor']}, {v['threads']} thread(s)" for v in versions}
    minutes = sum(v["wall_seconds"] for v in versions) / 60
    return f"{'; '.join(sorted(software | machines))}; {minutes:.0f} minutes in all."


def head(cells: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [line(cells), line(["---"] * len(cells))]


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def mean_and_deviation(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation with two digits; of one value, that alone. ``sign="+"`` signs the mean."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.2f}{deviation}"
