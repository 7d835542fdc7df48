"""Gated training against ungated pairs and single images, over seeds, base objectives and rates of wrong pairs.

The conditions are the configurations in the folder of the data: pairs that swap what they share, within gates; the
same without pairs that are explained worst; pairs of input and target within gates; the pairs of the first without
gates, and so those of the second; single images.

Usage: python -m pyro_hfvae.experiments.gated --data sfm_faces --seeds 0 1 2 --wrong 0 .25 .5 --bases HFVAE BetaVAE

Every cell (condition, base, rate, seed) is a run of ``pyro-hfvae fit`` and ``evaluate`` on held-out data, of the first
seed also of ``traverse``. What it measured is kept in rows/CELL.json, and a cell that has its row, there or beside the
configurations, is not run again, unless its configuration was changed since; one that was interrupted goes on from its
last checkpoint. From all rows of as many steps the command then makes gated.csv, gated.md and gated.png.
"""

import argparse
import csv
import hashlib
import io
import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml

from pyro_hfvae.cli import main as pyro_hfvae
from pyro_hfvae.files import write_atomically
from pyro_hfvae.train import RunFolder

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
CONDITIONS = ("gated", "gated_trimmed", "gated_targets", "ungated_pairs", "ungated_trimmed", "identity")
BASES = ("VAE", "BetaVAE", "BetaTCVAE", "InfoVAE", "DIPVAEII", "HFVAE")
OVERALL = ("disentanglement", "completeness", "informativeness")

Row = dict[str, Any]
Group = tuple[str, str, float]


def run_cell(output: Path, data: str, condition: str, base: str, wrong: float, steps: int, seed: int) -> None:
    """Trains and measures one cell, which has no row yet."""
    cell = cell_name(condition, base, wrong, steps, seed)
    run = RunFolder(output / "runs" / cell)
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
    content |= {"configuration": configuration(data, condition, base), "held_out": metrics["data"]["held_out"]}
    content |= {"versions": versions, "elbo": metrics["terms"]["elbo"], "block_factor": measured["block_factor"]}
    content |= {"dci": {name: measured["dci"][name] for name in OVERALL}}
    row = output / "rows" / f"{cell}.json"
    row.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(row, json.dumps(content, indent=2) + "\n")


def cell_name(condition: str, base: str, wrong: float, steps: int, seed: int) -> str:
    """What the row and the run of a cell are called."""
    return f"{condition}-{base}-wrong{wrong:g}-steps{steps}-seed{seed}"


def configuration(data: str, condition: str, base: str) -> str:
    """Fingerprint of the settings of a condition on a base: rows of other settings do not belong in one table."""
    return hashlib.sha256(json.dumps(settings(data, condition, base), sort_keys=True).encode()).hexdigest()[:16]


def settings(data: str, condition: str, base: str | None = None) -> dict[str, Any]:
    """The configuration of a condition, with a base in the place of its own objective if that is another one."""
    content: dict[str, Any] = yaml.safe_load((HERE / data / f"{condition}.yaml").read_text(encoding="utf-8"))
    if base is not None and base != base_of(content):
        weights = weights_of(base, content["trainer"]["max_steps"])
        content["objective"] = {"class_path": f"pyro_hfvae.infer.{base}", "init_args": weights}
    return content


def weights_of(base: str, steps: int) -> dict[str, Any]:
    """Settings of a base that a configuration does not name itself."""
    # Free at first, like information in the configurations: blocks give up what they pay for before the decoder listens
    rising = {"class_path": "pyro_hfvae.schedules.Linear", "init_args": {"start": 0, "end": 4, "steps": steps // 2}}
    given: dict[str, dict[str, Any]] = {
        "VAE": {},
        "BetaVAE": {"beta": rising},
        "BetaTCVAE": {"beta": 4},
        "InfoVAE": {"mmd": 100},
        "DIPVAEII": {"off_diagonal": 10, "diagonal": 5},
        "HFVAE": {"between": 4, "within": 2},
    }
    return given[base]


def base_of(content: dict[str, Any]) -> str:
    """Name of the objective that a configuration has itself."""
    return str(content["objective"]["class_path"]).rpartition(".")[2]


def read_rows(output: Path, data: str, steps: int) -> dict[str, Row]:
    """The rows that are there by the names of their cells; those of the output go before those beside the settings."""
    paths = [path for folder in (HERE / data, output) for path in sorted((folder / "rows").glob("*.json"))]
    rows = {path.stem: json.loads(path.read_text()) for path in paths}
    return {
        cell: row
        for cell, row in rows.items()
        if row["steps"] == steps and row["configuration"] == configuration(data, row["condition"], row["base"])
    }


def _command(*arguments: str) -> None:
    if pyro_hfvae(arguments):
        raise SystemExit(f"stopped: pyro-hfvae {' '.join(arguments)}")


def grouped(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """The rows of each condition, base and rate: one for each seed."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["base"], CONDITIONS.index(row["condition"]), row["wrong"])):
        groups[row["condition"], row["base"], row["wrong"]].append(row)
    return dict(groups)


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over the seeds: DCI, then the table of blocks and factors, in Markdown."""
    first = rows[0]["block_factor"]
    factors = [f"{name} ({measure})" for name, measure in zip(first["factors"], first["measure"], strict=True)]
    overall = _head(["condition", "base", "wrong", "seeds", "held-out ELBO", *OVERALL])
    matrix = _head(["condition", "base", "wrong", "block", *factors])
    for (condition, base, wrong), group in grouped(rows).items():
        numbers = [_spread([row["elbo"] for row in group])]
        numbers += [_spread([row["dci"][name] for row in group]) for name in OVERALL]
        start = [condition, base, f"{wrong:g}"]
        overall.append(_line([*start, str(len(group)), *numbers]))
        for block, scores in _scores(group).items():
            matrix.append(_line([*start, block, *map(_spread, scores)]))
        for name in ("all", "chance"):
            over_seeds = zip(*(row["block_factor"][name] for row in group), strict=True)
            matrix.append(_line([*start, f"({name})", *(_spread(list(values)) for values in over_seeds)]))
    kinds = {f"{row['versions']['processor']}, {row['versions']['threads']} thread(s)" for row in rows}
    versions = {f"pyro-hfvae {row['versions']['pyro_hfvae']}, torch {row['versions']['torch']}" for row in rows}
    minutes = sum(row["versions"]["wall_seconds"] for row in rows) / 60
    note = (
        f"{rows[0]['data']}, {rows[0]['steps']:,} steps, measured on {rows[0]['held_out']:,} held-out images; "
        f"mean ± standard deviation over seeds. {'; '.join(sorted(versions))}; "
        f"{'; '.join(sorted(kinds))}; {minutes:.0f} minutes of training in all."
    )
    return "\n".join([*overall, "", *matrix, "", note]) + "\n"


def _scores(group: Sequence[Row]) -> dict[str, list[list[float]]]:
    """Block to factor to the score of each seed."""
    tables = [row["block_factor"] for row in group]
    places = enumerate(tables[0]["blocks"])
    return {block: [list(s) for s in zip(*(t["score"][place] for t in tables), strict=True)] for place, block in places}


def _head(cells: Sequence[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def long_table(rows: Sequence[Row]) -> str:
    """One line of CSV for each cell, block and factor."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    facts = ("data", "condition", "base", "wrong", "seed", "steps", "elbo")
    versions = ("pyro_hfvae", "torch", "processor", "threads", "wall_seconds")
    writer.writerow([*facts, *OVERALL, *versions, "block", "factor", "measure", "score", "all", "chance"])
    for row in rows:
        given = [row[name] for name in facts] + [row["dci"][name] for name in OVERALL]
        given += [row["versions"][name] for name in versions]
        found = row["block_factor"]
        for block, scores in zip(found["blocks"], found["score"], strict=True):
            columns = (found["factors"], found["measure"], scores, found["all"], found["chance"])
            writer.writerows([*given, block, *part] for part in zip(*columns, strict=True))
    return buffer.getvalue()


def picture(rows: Sequence[Row]) -> bytes:
    """Mean score of each factor from each block: a row of tables for each base."""
    groups = grouped(rows)
    bases = list(dict.fromkeys(base for _, base, _ in groups))
    columns = list(dict.fromkeys((condition, wrong) for condition, _, wrong in groups))
    figure, axes = plt.subplots(
        len(bases),
        len(columns),
        figsize=(2.6 * len(columns) + 1, 2.4 * len(bases)),
        squeeze=False,
        layout="constrained",
    )
    for axis_row, base in zip(axes, bases, strict=True):
        for axis, (condition, wrong) in zip(axis_row, columns, strict=True):
            axis.set_title(f"{condition}, {base}, wrong {wrong:g}", fontsize=8)
            group = groups.get((condition, base, wrong))
            if group is None:
                axis.axis("off")
                continue
            scores = {block: [statistics.fmean(s) for s in parts] for block, parts in _scores(group).items()}
            axis.imshow(list(scores.values()), vmin=0, vmax=1, cmap="Blues", aspect="auto")
            axis.set_xticks(range(len(group[0]["block_factor"]["factors"])), group[0]["block_factor"]["factors"])
            axis.set_yticks(range(len(scores)), list(scores))
            axis.tick_params(labelsize=7)
            for place, means in enumerate(scores.values()):
                for factor, mean in enumerate(means):
                    color = "white" if mean > 0.6 else "black"
                    axis.text(factor, place, f"{mean:.2f}", ha="center", va="center", fontsize=7, color=color)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(path.parent.name for path in HERE.glob("*/gated.yaml")), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--wrong", type=float, nargs="+", default=[0.0], help="rates of wrong pairs, where there are pairs"
    )
    parser.add_argument("--bases", choices=BASES, nargs="+", help="that of the configuration by default")
    parser.add_argument("--conditions", choices=CONDITIONS, nargs="+", help="all that have a configuration by default")
    parser.add_argument("--steps", type=int, help="of each run; those of the configuration by default")
    parser.add_argument("--output", type=Path, help="folder; runs/gated_DATA by default")
    options = parser.parse_args(arguments)

    shipped = settings(options.data, "gated")
    steps = options.steps or int(shipped["trainer"]["max_steps"])
    output = options.output or Path("runs") / f"gated_{options.data}"
    conditions = options.conditions or [name for name in CONDITIONS if (HERE / options.data / f"{name}.yaml").is_file()]
    known = read_rows(output, options.data, steps)
    for seed in options.seeds:  # a whole comparison for each seed before the next one starts
        for base in options.bases or [base_of(shipped)]:
            for condition in conditions:
                for wrong in options.wrong if condition != "identity" else [0.0]:
                    cell = cell_name(condition, base, wrong, steps, seed)
                    if cell in known:
                        continue
                    run_cell(output, options.data, condition, base, wrong, steps, seed)
                    if seed == options.seeds[0]:
                        _command("traverse", str(output / "runs" / cell))
    rows = list(read_rows(output, options.data, steps).values())
    files: dict[str, str | bytes] = {"gated.csv": long_table(rows), "gated.md": table(rows), "gated.png": picture(rows)}
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(output / name, content)
    print(table(rows))


if __name__ == "__main__":
    main()
