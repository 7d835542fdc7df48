"""What the digit block of MNIST learns where its information is free, at two weights of the Gaussian block's.

Usage: python -m pyro_hfvae.experiments.mnist_information --seeds 0 1 2 [--data FOLDER]

A 10-d Gaussian and a 10-way Concrete with alpha = 0 for the digit, 1 or 4 for the style, every other weight 1, and the
default estimator of the marginal. Measured after the last epoch: the accuracy of the digit's categories as clusters of
the 10,000 test images, and the exact terms. Every cell (weight, seed) is kept in rows/CELL.json and not run again; from
all rows the command makes mnist_information.md.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pyro import poutine
from torch import nn

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.data import MNIST
from pyro_hfvae.experiments.cells import about, head, kept_cell, line, mean_and_deviation
from pyro_hfvae.experiments.mnist_training import SAMPLES, N, exact_terms, study_parser, train
from pyro_hfvae.files import write_atomically
from pyro_hfvae.metrics.clustering import clustering_accuracy

COLUMNS = {
    "accuracy": "clustering accuracy",
    "digit": "I(x; digit)",
    "style": "I(x; style)",
    "between": "A, between",
    "within": "i, within",
    "elbo": "ELBO",
}

Cell = dict[str, Any]


@torch.no_grad()
def accuracy(guide: nn.Module, mnist: MNIST) -> float:
    """Of the most probable category as a cluster, with the best assignment to digits, on the test images."""
    assert mnist.held_out is not None
    site: Any = poutine.trace(guide).get_trace(mnist.images(mnist.held_out)).nodes["digit"]["fn"]
    clusters = site.logits.argmax(-1).numpy()
    return clustering_accuracy(clusters, mnist.factors(mnist.held_out)[:, 0].numpy())


def measure(weight: float, epochs: int, batch_size: int, seed: int, mnist: MNIST) -> tuple[Cell, int]:
    """A training at one weight of the style's information, and the number of its steps."""
    elbo = HierarchicalELBO(N, mutual_information={"digit": 0.0, "style": weight})
    accuracies = []
    for epoch in train(elbo, batch_size, seed, mnist):
        accuracies.append(accuracy(epoch.guide, mnist))
        print(f"weight {weight:g}, seed {seed}, epoch {epoch.number}: accuracy {accuracies[-1]:.3f}", flush=True)
        if epoch.number == epochs:
            exact = exact_terms(epoch.model, epoch.guide, mnist)
            break
    content = {"weight": weight, "epochs": epochs, "batch_size": batch_size, "accuracy": accuracies}
    content |= {"logged": epoch.logged, "exact": exact.numbers()}
    return content, epochs * -(-N // batch_size)


def table(cells: Sequence[Cell]) -> str:
    """A line for each cell, and the mean ± standard deviation of each weight."""
    lines = head(["weight of style", "seed", *COLUMNS.values()])
    for weight in dict.fromkeys(cell["weight"] for cell in cells):
        group = [cell for cell in cells if cell["weight"] == weight]
        numbers = [_numbers(cell) for cell in group]
        for cell, values in zip(group, numbers, strict=True):
            lines.append(line([f"{weight:g}", str(cell["seed"]), *(f"{value:.2f}" for value in values)]))
        if len(group) > 1:
            columns = [mean_and_deviation(values) for values in zip(*numbers, strict=True)]
            lines.append(line([f"{weight:g}", "all", *columns]))
    first = cells[0]
    note = (
        f"MNIST, {first['epochs']} epochs of {first['batch_size']} a batch; accuracy on 10,000 test images, terms in "
        f"nats: {SAMPLES:,} samples of training images against all {N:,} posteriors. {about(cells)}"
    )
    return "\n".join([*lines, "", note]) + "\n"


def _numbers(cell: Cell) -> list[float]:
    exact = cell["exact"]
    information = {name: exact["blocks"][name]["mutual_information"] for name in ("digit", "style")}
    found = {name: exact[name] for name in ("between", "within", "elbo")} | information
    return [cell["accuracy"][-1] if name == "accuracy" else found[name] for name in COLUMNS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the table."""
    parser = study_parser(__doc__, "runs/mnist_information")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 4.0])
    options = parser.parse_args(arguments)

    mnist = MNIST(options.data)
    cells = []
    for seed in options.seeds:  # a whole comparison for each seed before the next one starts
        for weight in options.weights:
            cell = f"style{weight:g}-epochs{options.epochs}-batch{options.batch_size}-seed{seed}"
            run = partial(measure, weight, options.epochs, options.batch_size, seed, mnist)
            cells.append(kept_cell(options.output, cell, seed, run))
    cells.sort(key=lambda cell: (cell["weight"], cell["seed"]))
    write_atomically(options.output / "mnist_information.md", table(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
