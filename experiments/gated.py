"""Gated training against ungated pairs and single images, over seeds, base objectives and rates of wrong pairs.

The conditions are the configurations in the folder of the data: pairs that swap what they share, within gates; the
same without pairs that are explained worst; pairs of input and target within gates; the pairs of the first without
gates, and so those of the second; single images. The bases are their own objective and those in bases.yaml beside them.

Usage: python -m pyro_hfvae.experiments.gated --data sfm_faces --seeds 0 1 2 --wrong 0 .25 .5 --bases HFVAE BetaVAE

Every cell (condition, base, rate, seed) is a run of ``pyro-hfvae fit`` and ``evaluate`` on held-out data, of the first
seed also of ``traverse``. What it measured is kept in rows/CELL.json, and a cell that has its row, there or beside the
configurations, is not run again, unless its configuration was changed since; one that was interrupted goes on from its
last checkpoint, in runs/CELL-FINGERPRINT, where the fingerprint is that of its configuration. A cell that another
process works on is left to it, so that the command can be called several times at once. Tables and pictures are then
made of all rows of as many steps.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from pyro_hfvae.cli import main as pyro_hfvae
from pyro_hfvae.experiments.gated_tables import (
    CONDITIONS,
    OVERALL,
    Row,
    long_table,
    picture,
    picture_of_seeds,
    picture_of_swaps,
    swapped,
    table,
)
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.train import RunFolder

HERE = Path(__file__).parent


def run_cell(output: Path, data: str, condition: str, base: str, wrong: float, steps: int, seed: int) -> Path:
    """Trains and measures one cell, which has no row yet; returns the folder of its run."""
    cell = cell_name(condition, base, wrong, steps, seed)
    fingerprint = configuration(data, condition, base)
    run = RunFolder(output / "runs" / f"{cell}-{fingerprint}")  # a run of other settings is not gone on with
    options = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(max(1, steps // 5))]
    if run.checkpoint.is_file():
        _command("fit", f"--resume={run.path}")
    else:
        shutil.rmtree(run.path, ignore_errors=True)  # of a run that came to no checkpoint
        options += [f"--objective={json.dumps(settings(data, condition, base)['objective'])}"]
        options += ["--seed", str(seed)] + (["--batches.pairs.wrong", str(wrong)] if wrong else [])
        _command("fit", "--config", str(HERE / data / f"{condition}.yaml"), "--run", str(run.path), *options)
    _command("evaluate", str(run.path), "--seed", str(seed), "--permutations", "0")
    metrics, versions = (json.loads(path.read_text()) for path in (run.metrics, run.versions))
    measured = metrics["disentanglement"]
    content = {"data": data, "condition": condition, "base": base, "wrong": wrong, "seed": seed, "steps": steps}
    content |= {"configuration": fingerprint, "held_out": metrics["data"]["held_out"]}
    content |= {"versions": versions, "elbo": metrics["terms"]["elbo"], "block_factor": measured["block_factor"]}
    content |= {"dci": {name: measured["dci"][name] for name in OVERALL}}
    if found := measured["marginal_information"]:
        content |= {"information": found["block_information"]}
    if swaps := measured["swaps"]:
        content |= {"swaps": {name: swaps[name] for name in ("given", "kept", "unswapped")}}
    row = output / "rows" / f"{cell}.json"
    row.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(row, json.dumps(content, indent=2) + "\n")
    return run.path


def cell_name(condition: str, base: str, wrong: float, steps: int, seed: int) -> str:
    """What the row of a cell is called."""
    return f"{condition}-{base}-wrong{wrong:g}-steps{steps}-seed{seed}"


def configuration(data: str, condition: str, base: str) -> str:
    """Fingerprint of the settings of a condition on a base: rows of other settings do not belong in one table."""
    return hashlib.sha256(json.dumps(settings(data, condition, base), sort_keys=True).encode()).hexdigest()[:16]


def settings(data: str, condition: str, base: str | None = None) -> dict[str, Any]:
    """The configuration of a condition, with a base in the place of its own objective if that is another one."""
    content: dict[str, Any] = yaml.safe_load((HERE / data / f"{condition}.yaml").read_text(encoding="utf-8"))
    if base is not None and base != base_of(content):
        content["objective"] = {"class_path": f"pyro_hfvae.infer.{base}", "init_args": bases(data)[base]}
    return content


def bases(data: str) -> dict[str, dict[str, Any]]:
    """What the objectives are given that stand in for the configurations' own, by their names."""
    path = HERE / data / "bases.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def base_names(data: str) -> list[str]:
    """The configurations' own base, then those that can stand in for it."""
    return [base_of(settings(data, "gated")), *bases(data)]


def base_of(content: dict[str, Any]) -> str:
    """Name of the objective that a configuration has itself."""
    return str(content["objective"]["class_path"]).rpartition(".")[2]


def read_rows(output: Path, data: str, steps: int) -> dict[str, Row]:
    """The rows that are there by the names of their cells; those of the output go before those beside the settings."""
    paths = [path for folder in (HERE / data, output) for path in sorted((folder / "rows").glob("*.json"))]
    rows = {path.stem: json.loads(path.read_text()) for path in paths}
    there = base_names(data)
    rows = {cell: row for cell, row in rows.items() if row["steps"] == steps and row["base"] in there}
    asked = {(row["condition"], row["base"]) for row in rows.values()}
    current = {names: configuration(data, *names) for names in asked}
    # in order, so that the tables are the same wherever the rows lay
    ordered = sorted(rows.items())
    return {cell: row for cell, row in ordered if row["configuration"] == current[row["condition"], row["base"]]}


def _command(*arguments: str) -> None:
    if code := pyro_hfvae(arguments):  # it has said what is wrong
        raise SystemExit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(path.parent.name for path in HERE.glob("*/gated.yaml")), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--wrong", type=float, nargs="+", default=[0.0], help="rates of wrong pairs, where there are pairs"
    )
    parser.add_argument("--bases", nargs="+", help="that of the configuration by default")
    parser.add_argument("--conditions", choices=CONDITIONS, nargs="+", help="all that have a configuration by default")
    parser.add_argument("--steps", type=int, help="of each run; those of the configuration by default")
    parser.add_argument("--output", type=Path, help="folder; runs/gated_DATA by default")
    options = parser.parse_args(arguments)
    if off := [rate for rate in options.wrong if not 0 <= rate <= 1]:
        parser.error(f"a rate of wrong pairs is from 0 to 1, got {off[0]:g}")
    if options.steps is not None and options.steps < 1:
        parser.error(f"a run has 1 step or more, got {options.steps}")

    shipped = settings(options.data, "gated")
    steps = options.steps or int(shipped["trainer"]["max_steps"])
    output = options.output or Path("runs") / f"gated_{options.data}"
    conditions = options.conditions or [name for name in CONDITIONS if (HERE / options.data / f"{name}.yaml").is_file()]
    there = base_names(options.data)
    if unknown := ", ".join(sorted(set(options.bases or ()) - set(there))):
        parser.error(f"no base {unknown} for {options.data}: there are {', '.join(there)}; add it to bases.yaml")
    known = read_rows(output, options.data, steps)
    asked = [
        (condition, base, wrong, seed)
        for seed in options.seeds  # a whole comparison for each seed before the next one starts
        for base in options.bases or there[:1]
        for condition in conditions
        for wrong in (options.wrong if condition != "identity" else [0.0])
    ]
    for condition, base, wrong, seed in asked:
        cell = cell_name(condition, base, wrong, steps, seed)
        if cell in known:
            continue
        try:
            with FileLock(output / "locks" / cell, blocking=False):
                if cell in read_rows(output, options.data, steps):
                    continue  # another process has ended it meanwhile
                run = run_cell(output, options.data, condition, base, wrong, steps, seed)
                if seed == options.seeds[0]:
                    _command("traverse", str(run))
        except Timeout:
            print(f"left to another process: {cell}")
    rows = list(read_rows(output, options.data, steps).values())
    tables = {"gated.csv": long_table(rows), "gated.md": table(rows)}
    figures = {"gated.png": picture(rows), "gated_seeds.png": picture_of_seeds(rows)}
    if with_swaps := swapped(rows):
        figures |= {"gated_swaps.png": picture_of_swaps(with_swaps)}
    output.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        write_atomically(output / name, text)
    for name, figure in figures.items():
        write_figure(output / name, figure)
    print(tables["gated.md"])


if __name__ == "__main__":
    main()
