"""Bias and spread of every estimator of the inference marginal, against the exact terms of a toy.

N = 4,000 posteriors q(z|x_n) = N(mu_n, s² I) in 10 variables, two blocks of five; the mu_n are Gaussian, so that the
marginal has unit variances and correlations .6 between variables 0,1 and 5,6 (within blocks) and .5 between 2,7
(across). The prior is N(0, I). Usage: python benchmarks/estimators.py; writes docs/estimators_table.md, .csv and .png.
"""

import argparse
import csv
import math
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import torch
from hand_made import group, log_aggregates, normal, sample_of
from torch import Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer import Exact, Marginal, Memory, Minibatch, MinibatchWeighted
from pyro_hfvae.sites import NormalSite
from pyro_hfvae.train.run_folder import processor

mpl.use("Agg")
import matplotlib.pyplot as plt

N, D = 4000, 10
JOINT: Group = group(z=range(D))
BLOCKS = [group(z=range(5)), group(z=range(5, 10))]
SINGLES = [group(z=[index]) for index in range(D)]
TERMS = ("I(x; z)", "A, between", "i, within", "ii, dimension")
SCALES = (0.1, 0.3, 0.7)
REPEATS = {32: 200, 64: 150, 128: 80, 256: 48, 512: 24, 1024: 12}
ESTIMATORS: dict[str, Callable[[], Marginal]] = {
    "Minibatch": Minibatch,
    "MinibatchWeighted": MinibatchWeighted,
    "Memory(1024)": lambda: Memory(1024),
    "Memory(4096)": lambda: Memory(4096),
}
DOCS = Path(__file__).parents[1] / "docs"


def means(s: float) -> Tensor:
    """mu, [N, D]."""
    correlation = torch.eye(D)
    for a, b, r in ((0, 1, 0.6), (5, 6, 0.6), (2, 7, 0.5)):
        correlation[a, b] = correlation[b, a] = r
    eps = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    return math.sqrt(1 - s * s) * eps @ torch.linalg.cholesky(correlation).T


def draw(loc: Tensor, s: float, generator: torch.Generator) -> NormalSite:
    return normal(loc + s * torch.randn(loc.shape, generator=generator), loc, torch.full_like(loc, s))


def terms(site: NormalSite, marginal: Marginal, data: Tensor | None) -> Tensor:
    """The four terms, means over the samples."""
    references = marginal.references(sample_of({"z": site}, data), N)
    found = log_aggregates({"z": site}, [JOINT, *BLOCKS, *SINGLES], references)
    joint, first, second, *variables = [value.mean() for value in found]
    conditional = site.log_prob(range(D)).mean()
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(site.value).sum(-1).mean()
    single, block = torch.stack(variables).sum(), first + second
    return torch.stack([conditional - joint, joint - block, block - single, single - prior])


def batches(size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Epoch after epoch in a new order, as in training."""
    while True:
        yield from torch.randperm(N, generator=generator)[: N // size * size].view(-1, size)


def runs(name: str, mu: Tensor, s: float, size: int) -> Tensor:
    """The terms of some batches, [repeats, 4]; a memory has seen two epochs before."""
    generator = torch.Generator().manual_seed(1)
    marginal = ESTIMATORS[name]()
    stream = batches(size, generator)
    warm = 2 * (N // size) if isinstance(marginal, Memory) else 0
    found = []
    for step in range(warm + REPEATS[size]):
        loc = mu[next(stream)]
        site = draw(loc, s, generator)
        if step >= warm:
            found.append(terms(site, marginal, loc))
        marginal.record(sample_of({"z": site}, loc), N)
    return torch.stack(found)


def provenance(seconds: float) -> str:
    return (
        f"Seeds 0 (posteriors), 1 (batches) and 2 (exact); torch {torch.__version__}, Python "
        f"{platform.python_version()}; one thread of an {processor()}; {seconds:.0f} s."
    )


def write_tables(rows: list[dict[str, object]], note: str) -> None:
    with (DOCS / "estimators_table.csv").open("w", newline="") as file:
        file.write(f"# {note}\n")
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| s | estimator | B | " + " | ".join(TERMS) + " |", "| --- " * (3 + len(TERMS)) + "|"]
    for s in SCALES:
        for key in dict.fromkeys((row["estimator"], row["B"]) for row in rows if row["s"] == s):
            some = [row for row in rows if row["s"] == s and (row["estimator"], row["B"]) == key]
            if key[0] == "exact":
                cells = [f"{row['exact']:.3f}" for row in some]
            else:
                cells = [f"{row['bias']:+.3f} ± {row['std']:.3f}" for row in some]
            lines.append(f"| {s} | {key[0]} | {key[1]} | " + " | ".join(cells) + " |")
    lines += ["", note]
    (DOCS / "estimators_table.md").write_text("\n".join(lines) + "\n")


def draw_plot(rows: list[dict[str, object]]) -> None:
    figure, axes = plt.subplots(2, len(SCALES), figsize=(11, 6), sharex=True, layout="constrained")
    for column, s in enumerate(SCALES):
        for axis, term in zip(axes[:, column], TERMS[1:3], strict=True):
            some = [row for row in rows if row["s"] == s and row["term"] == term]
            exact = some[0]["exact"]
            axis.axhline(exact, color="black", linewidth=1, label="exact")
            for name in ("Minibatch", "Memory(1024)", "Memory(4096)"):
                mine = [row for row in some if row["estimator"] == name]
                sizes, middle = [row["B"] for row in mine], [exact + row["bias"] for row in mine]
                axis.errorbar(sizes, middle, [row["std"] for row in mine], marker="o", capsize=3, label=name)
            axis.set_xscale("log", base=2)
            axis.set_xticks(list(REPEATS), [str(size) for size in REPEATS])
            axis.set_title(f"{term}, s = {s}")
    for axis in axes[1]:
        axis.set_xlabel("batch size B")
    for axis in axes[:, 0]:
        axis.set_ylabel("nats")
    axes[0, 1].legend(loc="upper right")
    figure.savefig(DOCS / "images" / "estimators.png", dpi=100, metadata={"Software": None})


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    start = time.perf_counter()
    rows: list[dict[str, object]] = []
    for s in SCALES:
        mu, generator = means(s), torch.Generator().manual_seed(2)
        exact = torch.stack([terms(draw(mu, s, generator), Exact(), None) for _ in range(4)]).mean(0)
        for term, value in zip(TERMS, exact.tolist(), strict=True):
            rows.append({"s": s, "estimator": "exact", "B": N, "term": term, "exact": value, "bias": 0.0, "std": 0.0})
        for name in ESTIMATORS:
            for size in REPEATS:
                found = runs(name, mu, s, size)
                values = zip(TERMS, exact, found.mean(0) - exact, found.std(0), strict=True)
                for term, *numbers in values:
                    value, bias, spread = (round(float(number), 5) for number in numbers)
                    cells = {"term": term, "exact": value, "bias": bias, "std": spread}
                    rows.append({"s": s, "estimator": name, "B": size, **cells})
            print(f"s = {s}  {name:14} {time.perf_counter() - start:6.0f} s", flush=True)
    write_tables(rows, provenance(time.perf_counter() - start))
    draw_plot(rows)


if __name__ == "__main__":
    main()
