"""Time and memory of runs that are large in one respect: factors, variables, blocks, data, logged rows, steps.

Each command of `pyro-hfvae` runs in a process of its own, on one thread, so that its processor time and its peak of
resident memory are its own. Usage: python benchmarks/load.py [--cases NAME ...]; writes benchmarks/load.md, where lines
of other cases stay. Linux only.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TABLE = HERE / "load.md"
FIT, EVERY = 50, 5000
ROWS, STEPS = 100_000, 50_000
MODULES = {"model": ("models.ImageModel", "decoder", "models.MLPDecoder")}
MODULES |= {"guide": ("guides.ImageGuide", "encoder", "guides.MLPEncoder")}


@dataclass(frozen=True)
class Run:
    """A command of its own process: seconds and MiB."""

    wall: float
    processor: float
    peak: float

    def cells(self) -> str:
        return f"{self.wall:.0f} | {self.processor:.0f} | {self.peak:,.0f}"


def command(*arguments: str | Path) -> Run:
    """Runs `pyro-hfvae` with some arguments; what it prints is shown if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    started = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyro_hfvae", *map(str, arguments)],
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            printed.seek(0)
            sys.exit(f"{' '.join(map(str, arguments))}\n{printed.read().decode()}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def images(path: Path, count: int, side: int, factors: int) -> None:
    """Noisy images whose rows are as bright as the first factors, each of three classes, and other factors."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, (count, factors), dtype=np.uint8)
    rows = np.resize(np.arange(factors), side)
    pixels = random.integers(0, 100, (count, side, side), dtype=np.uint8)
    pixels += 70 * classes[:, rows, None]
    np.savez(path, images=pixels, factors=classes, factor_names=[f"factor {place}" for place in range(factors)])


def configuration(folder: Path, gaussian: dict[str, int], side: int, **others: Any) -> Path:
    """A configuration of dense networks, JSON, which is YAML; the data are folder/images.npz."""
    network = {"image_shape": [1, side, side], "hidden": [16]}
    content: dict[str, Any] = {
        program: {
            "class_path": f"pyro_hfvae.{path}",
            "init_args": {
                "gaussian": gaussian,
                "discrete": {},
                part: {"class_path": f"pyro_hfvae.{network_path}", "init_args": network},
            },
        }
        for program, (path, part, network_path) in MODULES.items()
    }
    content |= {
        "data": {"class_path": "pyro_hfvae.data.ImageFile", "init_args": {"path": str(folder / "images.npz")}},
        "batches": {"batch_size": 64},
        "objective": {"between": 2, "within": 2},
        "trainer": {"max_steps": FIT, "accelerator": "cpu", "limit_val_batches": 2, "val_check_interval": 50},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content | others))
    return path


def large(count: int, side: int, factors: int, gaussian: dict[str, int]) -> Callable[[Path], list[str]]:
    """Fits a few steps and evaluates, without the scores at chance, which cost as much as the scores each time."""

    def measure(folder: Path) -> list[str]:
        images(folder / "images.npz", count, side, factors)
        config, run = configuration(folder, gaussian, side), folder / "run"
        return [
            f"fit, {FIT} steps | {command('fit', '--config', config, '--run', run).cells()}",
            f"evaluate --permutations 0 | {command('evaluate', run, '--permutations', '0').cells()}",
        ]

    return measure


def logged_rows(folder: Path) -> list[str]:
    """A run that has logged a hundred steps, whose rows are repeated until there are as many as asked for."""
    images(folder / "images.npz", 2000, 8, 4)
    config, run = configuration(folder, {"z": 4}, 8), folder / "run"
    steps = ("--trainer.max_steps", "100", "--trainer.log_every_n_steps", "1")
    command("fit", "--config", config, "--run", run, *steps, "--trainer.limit_val_batches", "0")
    log = run / "csv" / "version_0" / "metrics.csv"
    head, *rows = log.read_text().splitlines()
    place = head.split(",").index("step")
    repeated = [head]
    for step in range(ROWS):
        cells = rows[step % len(rows)].split(",")
        cells[place] = str(step)
        repeated.append(",".join(cells))
    log.write_text("\n".join(repeated) + "\n")
    return [
        f"evaluate --permutations 0 | {command('evaluate', run, '--permutations', '0').cells()}",
        f"report | {command('report', run).cells()}",
    ]


def long_training(marginal: str) -> Callable[[Path], list[str]]:
    """Trains, and notes the resident memory on the way."""

    def measure(folder: Path) -> list[str]:
        images(folder / "images.npz", 2000, 4, 4)
        noted = folder / "resident.txt"
        callback = {"class_path": "resident.ResidentMemory", "init_args": {"path": str(noted), "every": EVERY}}
        trainer: dict[str, Any] = {
            "max_steps": STEPS,
            "accelerator": "cpu",
            "val_check_interval": 1000,
            "limit_val_batches": 2,
        }
        objective: dict[str, Any] = {}
        if marginal:
            estimator = {"class_path": f"pyro_hfvae.infer.{marginal}", "init_args": {"size": 1024}}
            objective = {"between": 2, "within": 2, "marginal": estimator}
        config = configuration(
            folder,
            {"z": 4},
            4,
            batches={"batch_size": 16},
            trainer=trainer | {"callbacks": [callback]},
            objective=objective,
        )
        used = command("fit", "--config", config, "--run", folder / "run")
        resident = [float(line.split()[1]) for line in noted.read_text().splitlines()]
        return [
            f"fit, {STEPS:,} steps ({1000 * used.processor / STEPS:.1f} ms each) | {used.cells()}",
            f"resident memory, MiB, every {EVERY:,} steps: {', '.join(f'{value:.0f}' for value in resident)}; growth "
            f"from the first to the last {resident[-1] - resident[0]:+.1f} | | |",
        ]

    return measure


CASES: dict[str, Callable[[Path], list[str]]] = {
    "100,000 logged rows": logged_rows,
    "2,000,000 data": large(2_000_000, 4, 4, {"pose": 4, "style": 4}),
    "50,000 steps": long_training(""),
    "60 blocks": large(10_000, 8, 4, {f"block{place}": 2 for place in range(60)}),
    "300 variables": large(10_000, 8, 4, {"pose": 150, "style": 150}),
    "200 factors": large(10_000, 8, 200, {"pose": 4, "style": 4}),
    "50,000 steps, Memory(1024)": long_training("Memory"),
}


def about() -> str:
    from importlib.metadata import version  # here, so that the processes that are measured start from a small one

    from pyro_hfvae.train.run_folder import processor

    return (
        f"Seed 0; pyro-hfvae {version('pyro-hfvae')}, torch {version('torch')}, Python {platform.python_version()}; "
        f"one thread on {os.cpu_count()} cores, {processor()}, which others used too."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    head = ["| case | command | wall, s | processor, s | peak memory, MiB |", "| --- | --- | --- | --- | --- |"]
    before = TABLE.read_text().splitlines() if TABLE.is_file() else []
    kept = {name: [line for line in before if line.startswith(f"| {name} |")] for name in CASES}
    for name in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            kept[name] = [f"| {name} | {line} |" for line in CASES[name](Path(folder))]
        print("\n".join(kept[name]), flush=True)
        TABLE.write_text("\n".join([*head, *(line for lines in kept.values() for line in lines), "", about()]) + "\n")


if __name__ == "__main__":
    main()
