"""The terms that training logs against the exact ones, for every estimator of the inference marginal, on MNIST.

Trains a 10-d Gaussian and a 10-way Concrete once with each estimator. After every epoch the terms of the last batches,
as the estimator gave them, are set against the exact ones: the mixture of the posteriors of all 60,000 images, at a
sample of 2,000 of them. Usage: python mnist_estimators.py [--data FOLDER]; writes mnist_estimators.csv, .md and .png.
"""

import argparse
import csv
import math
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

import pyro_hfvae
from pyro_hfvae import HierarchicalELBO, Terms
from pyro_hfvae.data import MNIST, IndexBatches
from pyro_hfvae.files import write_atomically
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Marginal, Memory, Stratified, Weighted
from pyro_hfvae.infer.latents import read_posteriors
from pyro_hfvae.infer.marginals import Bank, Posteriors, References
from pyro_hfvae.infer.mixture import gaussian_parameters
from pyro_hfvae.infer.split import gather
from pyro_hfvae.models import ImageModel, MLPDecoder

mpl.use("Agg")
import matplotlib.pyplot as plt

N, SAMPLES, LAST = 60_000, 2_000, 50
TERMS = {"mutual_information": "I(x; z)", "between": "A, between", "within": "i, within", "dimension": "ii, dimension"}
ESTIMATORS: dict[str, Callable[[], Marginal]] = {
    "Stratified": Stratified,
    "Memory(4096)": lambda: Memory(4096),
    "Weighted": Weighted,
}
WEIGHTS = {"mutual_information": {"digit": 0.0, "style": 2.0}, "between": 3.0, "within": 3.0}

Rows = list[dict[str, str | int | float]]


class AllOthers(Marginal):
    """The exact marginal: the batch, and the posteriors of all data that are not in it.

    Args:
        guide: encodes the data.
        batches: all data that are not in the batch.
    """

    def __init__(self, guide: nn.Module, batches: Iterable[Tensor]) -> None:
        super().__init__()
        with torch.no_grad():
            parts = [gather(read_posteriors(poutine.trace(guide).get_trace(x)))[0] for x in batches]
        loc, scale = (torch.cat([getattr(part, name)[0] for part in parts]).double() for name in ("loc", "scale"))
        masses = tuple(torch.cat(mass) for mass in zip(*([m[0] for m in part.log_mass] for part in parts), strict=True))
        present = torch.ones(len(loc), dtype=torch.bool)
        self.bank = Bank(gaussian_parameters(loc, scale), masses, present)

    def references(self, posteriors: Posteriors, data_size: int, keys: Tensor | None = None) -> References:
        """The batch and the others, all with the weight 1/N."""
        return References(own=-math.log(data_size), other=-math.log(data_size), bank=self.bank)


def exact_terms(model: nn.Module, guide: nn.Module, mnist: MNIST) -> Terms:
    """The terms with all images as references, at the first samples of a fixed permutation."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    others = AllOthers(guide, map(mnist.images, order[SAMPLES:].split(2000)))
    with torch.no_grad():
        return HierarchicalELBO(N, marginal=others).terms(model, guide, mnist.images(order[:SAMPLES]))


def train(name: str, epochs: int, batch_size: int, seed: int, mnist: MNIST) -> Rows:
    """Logged and exact terms after every epoch."""
    torch.manual_seed(seed)
    model = ImageModel({"style": 10}, {"digit": 10}, decoder=MLPDecoder)
    guide = ImageGuide({"style": 10}, {"digit": 10}, encoder=MLPEncoder)
    elbo = HierarchicalELBO(N, marginal=ESTIMATORS[name](), **WEIGHTS)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam([*model.parameters(), *guide.parameters()], lr=1e-3)
    rows: Rows = []
    recent: list[Tensor] = []
    started = time.monotonic()
    for step, batch in enumerate(IndexBatches(torch.arange(N), batch_size, seed=seed), start=1):
        terms = elbo.training_terms(model, guide, mnist.images(batch))
        optimizer.zero_grad()
        (-elbo.objective(terms)).backward()
        optimizer.step()
        recent = [*recent[1 - LAST :], torch.stack([getattr(terms, term) for term in TERMS]).detach()]
        if step % (N // batch_size) == 0:
            epoch, seconds = step // (N // batch_size), time.monotonic() - started
            exact = exact_terms(model, guide, mnist)
            for term, logged in zip(TERMS, torch.stack(recent).mean(0).tolist(), strict=True):
                rows.append(
                    {"estimator": name, "epoch": epoch, "term": term, "logged": logged,
                     "exact": getattr(exact, term).item(), "elbo": exact.elbo.item(), "seconds": round(seconds, 1)}
                )  # fmt: skip
            print(f"{name} epoch {epoch}: {exact.elbo.item():.2f} nats, {seconds:.0f} s", flush=True)
            started = time.monotonic() - seconds
            if epoch == epochs:
                return rows
    raise AssertionError("the batches have no end")


def picture(rows: Rows, path: Path) -> None:
    """Logged terms dashed, exact ones solid."""
    figure, axes = plt.subplots(1, len(TERMS), figsize=(13, 3.4), constrained_layout=True)
    for axis, (term, label) in zip(axes, TERMS.items(), strict=True):
        for color, name in enumerate(ESTIMATORS):
            chosen = [row for row in rows if row["estimator"] == name and row["term"] == term]
            epochs = [float(row["epoch"]) for row in chosen]
            offset = name == "Weighted"  # off by multiples of log N, by construction: out of any scale
            if not offset:
                axis.plot(epochs, [float(row["logged"]) for row in chosen], "--", color=f"C{color}")
            axis.plot(epochs, [float(row["exact"]) for row in chosen], color=f"C{color}", label=name)
        axis.set_title(label)
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("nats per datum")
    axes[0].legend(fontsize=8)
    figure.suptitle("exact (solid) and logged in training (dashed); Weighted logs values off by multiples of log N")
    figure.savefig(path, dpi=110)


def table(rows: Rows, epochs: int, batch_size: int, seed: int, seconds: float) -> str:
    """The last epoch: the error of what was logged."""
    last = [row for row in rows if row["epoch"] == epochs]
    lines = [
        "| estimator | term | logged | exact | error | ELBO, exact |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in last:
        logged, exact = float(row["logged"]), float(row["exact"])
        lines.append(
            f"| {row['estimator']} | {TERMS[str(row['term'])]} | {logged:.2f} | {exact:.2f} | {logged - exact:+.2f} "
            f"| {float(row['elbo']):.2f} |"
        )
    lines += [
        "",
        f"MNIST, {epochs} epochs of batches of {batch_size}, seed {seed}, log N = {math.log(N):.2f}; logged: mean of "
        f"the last {LAST} batches; exact: {SAMPLES:,} samples against all {N:,} posteriors. pyro-hfvae "
        f"{pyro_hfvae.__version__}, torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} "
        f"thread(s), {seconds / 60:.0f} minutes in all.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains with every estimator and writes what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of MNIST's four files")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()

    started = time.monotonic()
    mnist = MNIST(options.data) if options.data else MNIST()
    rows: Rows = []
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        for name in ESTIMATORS:
            rows += train(name, options.epochs, options.batch_size, options.seed, mnist)
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "mnist_estimators.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    seconds = time.monotonic() - started
    text = table(rows, options.epochs, options.batch_size, options.seed, seconds)
    write_atomically(options.output / "mnist_estimators.md", text)
    picture(rows, options.output / "mnist_estimators.png")
    print(text)


if __name__ == "__main__":
    main()
