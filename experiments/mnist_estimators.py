"""The terms that training logs against the exact ones, for every estimator of the inference marginal, on MNIST.

Usage: python -m pyro_hfvae.experiments.mnist_estimators --seeds 0 1 2 [--data FOLDER]

Trains a 10-d Gaussian and a 10-way Concrete with each estimator and seed. What the estimator gave in the last batches
of an epoch is set against the exact terms: the mixture of the posteriors of all 60,000 images, at a sample of 1,000 of
them, after epochs 1, 2, 4, 8, ... and the last. Every cell (estimator, seed) is kept in rows/CELL.json and not run
again; from all rows of as many epochs the command makes mnist_estimators.csv, .md and .png.
"""

import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.data import MNIST
from pyro_hfvae.experiments.cells import about, head, kept_cell, line, mean_and_deviation
from pyro_hfvae.experiments.mnist_training import LAST, SAMPLES, N, exact_terms, study_parser, train
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.infer import Marginal, Memory, Minibatch, MinibatchWeighted

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

TERMS = {"mutual_information": "I(x; z)", "between": "A, between", "within": "i, within", "dimension": "ii, dimension"}
ESTIMATORS: dict[str, Callable[[], Marginal]] = {
    "Minibatch": Minibatch,
    "Memory(1024)": lambda: Memory(1024),
    "Memory(4096)": lambda: Memory(4096),
    "Memory(16384)": lambda: Memory(16384),
    "MinibatchWeighted": MinibatchWeighted,
}
WEIGHTS = {"mutual_information": {"digit": 0.0, "style": 2.0}, "between": 3.0, "within": 3.0}

Cell = dict[str, Any]


def measure(name: str, epochs: int, batch_size: int, seed: int, mnist: MNIST) -> tuple[Cell, int]:
    """Logged terms after every epoch, exact ones after some; and the number of steps."""
    elbo = HierarchicalELBO(N, marginal=ESTIMATORS[name](), **WEIGHTS)  # type: ignore[arg-type]
    rows = []
    for epoch in train(elbo, batch_size, seed, mnist):
        row: dict[str, Any] = {"epoch": epoch.number, "logged": epoch.logged, "seconds": round(epoch.seconds, 1)}
        if epoch.number & (epoch.number - 1) == 0 or epoch.number == epochs:
            exact = exact_terms(epoch.model, epoch.guide, mnist)
            row |= {"exact": {term: getattr(exact, term).item() for term in TERMS}, "elbo": exact.elbo.item()}
        rows.append(row)
        print(f"{name}, seed {seed}, epoch {epoch.number}: {row['seconds']} s of training", flush=True)
        if epoch.number == epochs:
            break
    content = {"estimator": name, "epochs": epochs, "batch_size": batch_size, "rows": rows}
    return content, epochs * -(-N // batch_size)


def of_estimators(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each estimator, one for each seed."""
    found = {name: [cell for cell in cells if cell["estimator"] == name] for name in ESTIMATORS}
    return {name: group for name, group in found.items() if group}


def picture(cells: Sequence[Cell]) -> Figure:
    """Means over the seeds, logged terms dashed, exact ones solid; each seed's exact terms as points."""
    figure, axes = plt.subplots(1, len(TERMS), figsize=(13, 3.6), dpi=110, layout="constrained")
    for axis, (term, label) in zip(axes, TERMS.items(), strict=True):
        for place, (name, group) in enumerate(of_estimators(cells).items()):
            color = f"C{place}"
            logged = [[row["logged"][term] for row in cell["rows"]] for cell in group]
            if name != "MinibatchWeighted":  # off by multiples of log N, by construction: out of any scale
                epochs = [row["epoch"] for row in group[0]["rows"]]
                axis.plot(epochs, [statistics.fmean(at) for at in zip(*logged, strict=True)], "--", color=color)
            epochs = [row["epoch"] for row in group[0]["rows"] if "exact" in row]
            exact = [[row["exact"][term] for row in cell["rows"] if "exact" in row] for cell in group]
            axis.plot(epochs, [statistics.fmean(at) for at in zip(*exact, strict=True)], color=color, label=name)
            for values in exact:
                axis.plot(epochs, values, ".", color=color, markersize=4)
        axis.set_title(label)
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("nats per datum")
    axes[0].legend(fontsize=8)
    figure.suptitle(
        "exact (solid) and logged in training (dashed); MinibatchWeighted logs values off by multiples of log N"
    )
    return figure


def table(cells: Sequence[Cell]) -> str:
    """The last epoch, mean ± standard deviation over seeds: what was logged, what is so, and the difference."""
    lines = head(["estimator", "seeds", "term", "logged", "exact", "error"])
    summary = head(["estimator", "seeds", "ELBO, exact"])
    for name, group in of_estimators(cells).items():
        last = [cell["rows"][-1] for cell in group]
        for term, label in TERMS.items():
            logged, exact = ([row[kind][term] for row in last] for kind in ("logged", "exact"))
            error = [one - other for one, other in zip(logged, exact, strict=True)]
            numbers = [mean_and_deviation(logged), mean_and_deviation(exact), mean_and_deviation(error, "+")]
            lines.append(line([name, str(len(group)), label, *numbers]))
        summary.append(line([name, str(len(group)), mean_and_deviation([row["elbo"] for row in last])]))
    first = cells[0]
    note = (
        f"MNIST, {first['epochs']} epochs of batches of {first['batch_size']}, mean ± standard deviation over seeds "
        f"(from 0), log N = {math.log(N):.2f}; logged: mean of the last {LAST} batches; exact: {SAMPLES:,} samples "
        f"against all {N:,} posteriors, after the last step. {about(cells)}"
    )
    return "\n".join([*lines, "", *summary, "", note]) + "\n"


def long_table(cells: Sequence[Cell]) -> str:
    """One line of CSV for each cell, epoch and term."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["estimator", "seed", "epoch", "term", "logged", "exact", "elbo", "seconds"])
    for cell in cells:
        for row in cell["rows"]:
            rest = (row.get("elbo", ""), row["seconds"])
            for term in TERMS:
                exact = row.get("exact", {}).get(term, "")
                writer.writerow(
                    [cell["estimator"], cell["seed"], row["epoch"], term, row["logged"][term], exact, *rest]
                )
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the tables and the picture."""
    parser = study_parser(__doc__, "runs/mnist_estimators")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--estimators", choices=list(ESTIMATORS), nargs="+", default=list(ESTIMATORS))
    options = parser.parse_args(arguments)

    mnist = MNIST(options.data)
    cells = []
    for seed in options.seeds:  # a whole comparison for each seed before the next one starts
        for name in options.estimators:
            cell = f"{name}-epochs{options.epochs}-batch{options.batch_size}-seed{seed}"
            run = partial(measure, name, options.epochs, options.batch_size, seed, mnist)
            cells.append(kept_cell(options.output, cell, seed, run))
    write_atomically(options.output / "mnist_estimators.csv", long_table(cells))
    write_atomically(options.output / "mnist_estimators.md", table(cells))
    write_figure(options.output / "mnist_estimators.png", picture(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
