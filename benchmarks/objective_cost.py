"""What the objective takes, as a multiple of straightforward PyTorch that holds all pairs in a [B, M, D] tensor.

All terms and their gradient, without networks: ten normal variables in two blocks, then with a block of ten categories;
each with the batch as references, and with 4,096 past posteriors. Theirs is float32 and has log-sum-exps for the joint,
each block and each variable. Both take turns; processor time of one thread, medians of the ratios of neighbours.
Usage: python benchmarks/objective_cost.py [--seconds 6] [--sizes 32 64 128] [--output benchmarks/objective_cost.md]
"""

import argparse
import itertools
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import torch
from hand_made import sample_of
from torch import Tensor

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.blocks import resolve_blocks
from pyro_hfvae.infer import Memory, Minibatch
from pyro_hfvae.infer.split import groups_of_terms, split_elbo
from pyro_hfvae.infer.tables import Samples, read_tables
from pyro_hfvae.sites import read_site
from pyro_hfvae.train.run_folder import processor

N, V, K, HELD = 60_000, 10, 10, 4096
BLOCKS = {"first": slice(0, 5), "second": slice(5, 10)}
BETWEEN, WITHIN = 5.0, 3.0
Batch = dict[str, Tensor]
Step = Callable[[Any], None]
"""From what the programs have made of a batch to the gradient."""


def draw(size: int, discrete: bool) -> Batch:
    """Means, scales and noise of a batch, and logits of its categories."""
    batch = {"loc": torch.randn(size, V), "scale": torch.rand(size, V) * 0.3 + 0.1}
    batch |= {"logits": torch.randn(size, K)} if discrete else {}
    return {name: part.requires_grad_() for name, part in batch.items()} | {"noise": torch.randn(size, V)}


def traced(batch: Batch) -> tuple[Tensor, dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """The data, and what the programs' traces hold: distributions of the guide, of the model, and values."""
    loc, scale, size = batch["loc"], batch["scale"], len(batch["loc"])
    values = {"z": loc + scale * batch["noise"]}
    posteriors: dict[str, Any] = {"z": dist.Normal(loc, scale, validate_args=False).to_event(1)}
    priors: dict[str, Any] = {"z": dist.Normal(torch.zeros(V), 1.0, validate_args=False).to_event(1).expand([size])}
    if "logits" in batch:
        posteriors["y"] = dist.OneHotCategorical(logits=batch["logits"], validate_args=False)
        priors["y"] = dist.OneHotCategorical(logits=torch.zeros(K), validate_args=False).expand([size])
        values["y"] = batch["logits"].detach().softmax(-1)
    return loc.detach(), posteriors, priors, values


def ours(size: int, discrete: bool, memory: bool) -> Step:
    """A step of the library: sites, references, tables, terms, objective, gradient, and what the memory takes in."""
    elbo = HierarchicalELBO(N, between=BETWEEN, within=WITHIN)
    marginal = Memory(HELD) if memory else Minibatch()
    layout = {name: [f"z[{part.start}:{part.stop}]"] for name, part in BLOCKS.items()}
    tree = resolve_blocks(layout | ({"y": ["y"]} if discrete else {}), {"z": (V,)} | ({"y": ()} if discrete else {}))

    def step(given: tuple[Tensor, dict[str, Any], dict[str, Any], dict[str, Tensor]]) -> None:
        data, posteriors, priors, values = given
        sites, prior_sites = ({n: read_site(n, fn[n], values[n]) for n in fn} for fn in (posteriors, priors))
        sample = replace(sample_of(sites, data), priors=prior_sites)
        references = marginal.references(sample, N)
        tables = read_tables(sample, [sample], groups_of_terms(sample, tree), references, Samples(1, 1))
        terms = split_elbo(sample, tree, tables, N)
        (-elbo.objective_at(terms, 0)).backward()
        marginal.record(sample, N)

    return step


def theirs(size: int, discrete: bool, memory: bool) -> Step:
    """A step as it is usually written."""
    count = size + (HELD if memory else 0)
    weights = torch.full((size, count), math.log((N - 1) / (N * (count - 1))))
    weights.fill_diagonal_(-math.log(N))
    held: list[Tensor] = []

    def log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return -0.5 * (((z - loc) / scale) ** 2 + math.log(2 * math.pi)) - scale.log()

    def step(given: tuple[Tensor, Batch]) -> None:
        z, batch = given
        loc, scale = batch["loc"], batch["scale"]
        log_mass = [batch["logits"].log_softmax(-1)] if discrete else []
        every = [loc, scale, *log_mass]
        if memory:
            if not held:
                held.extend(part.detach()[:1].expand(HELD, -1).clone() for part in every)
            every = [torch.cat(pair) for pair in zip(every, held, strict=True)]
        pairs = log_normal(z[:, None], every[0], every[1])  # [B, M, D]
        own, prior = log_normal(z, loc, scale), log_normal(z, torch.zeros(()), torch.ones(()))
        log_q = {"z": own.sum(-1).mean()}
        log_m = {f"z[{e}]": part.mean() for e, part in enumerate((pairs + weights[..., None]).logsumexp(1).unbind(-1))}
        log_p = {f"z[{e}]": part for e, part in enumerate(prior.mean(0).unbind())}
        for name, part in BLOCKS.items():
            log_m[name] = (pairs[..., part].sum(-1) + weights).logsumexp(1).mean()
            log_p[name] = prior[:, part].sum(-1).mean()
        if discrete:
            mass = log_mass[0].exp()
            joint = pairs.sum(-1)[..., None] + every[2] + weights[..., None]  # [B, M, K]
            log_m["z"] = (mass * joint.logsumexp(1)).sum(-1).mean()
            log_m["y"] = (mass * (every[2] + weights[..., None]).logsumexp(1)).sum(-1).mean()
            log_q["z"] = log_q["z"] + (mass * log_mass[0]).sum(-1).mean()
            log_p["y"] = mass.sum(-1).mean() * -math.log(K)
        else:
            log_m["z"] = (pairs.sum(-1) + weights).logsumexp(1).mean()
        blocks = [*BLOCKS, *(["y"] if discrete else [])]
        divergence = {name: log_m[name] - log_p[name] for name in log_p}
        dimensions = {name: [f"z[{e}]" for e in range(V)[part]] for name, part in BLOCKS.items()}
        whole = log_m["z"] - sum(log_p[name] for name in blocks)
        between = whole - sum(divergence[name] for name in blocks)
        within = sum(divergence[name] - sum(divergence[e] for e in some) for name, some in dimensions.items())
        dimension = sum(divergence[e] for some in dimensions.values() for e in some)
        if discrete:
            dimension = dimension + divergence["y"]
        (log_q["z"] - log_m["z"] + BETWEEN * between + WITHIN * within + dimension).backward()
        if memory:
            for old, new in zip(held, (loc, scale, *log_mass), strict=True):
                old.copy_(torch.cat([old[size:], new.detach()])[-HELD:])

    return step


def taken(size: int, discrete: bool, memory: bool, seconds: float) -> tuple[list[float], list[float]]:
    """Processor time of steps of ours and of theirs, which take turns, in milliseconds."""
    torch.manual_seed(0)
    warm = 3 + (HELD // size if memory else 0)
    batches = itertools.cycle([draw(size, discrete) for _ in range(max(2, warm))])
    our_step, their_step = ours(size, discrete, memory), theirs(size, discrete, memory)
    times: tuple[list[float], list[float]] = ([], [])
    begin = time.process_time()
    for turn in itertools.count():
        if turn == warm:
            begin = time.process_time()
        if turn >= warm + 3 and time.process_time() - begin > seconds:
            return times
        batch = next(batches)
        given = (traced(batch), (batch["loc"] + batch["scale"] * batch["noise"], batch))
        for step, some, own in zip((our_step, their_step), given, times, strict=True):
            if step is their_step and 1 <= turn < warm:
                continue  # it has nothing to learn
            start = time.process_time()
            step(some)
            if turn >= warm:
                own.append(1e3 * (time.process_time() - start))


def cell(size: int, discrete: bool, memory: bool, seconds: float) -> str:
    """Medians of both, and the median of the ratios of neighbours in time."""
    times = taken(size, discrete, memory, seconds)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return "{:.2f} / {:.2f} = **{:.2f}**".format(*map(statistics.median, times), statistics.median(ratios))


def growth(which: str, size: int, memory: bool) -> int:
    """By how many MiB a process grows in steps of a size, beyond what it has after steps of two data."""
    torch.set_num_threads(1)
    make = {"ours": ours, "theirs": theirs}[which]
    peaks = []
    for count in (2, size):
        step = make(count, False, memory)
        for _ in range(2 + (HELD // count if memory and count > 2 else 0)):
            batch = draw(count, False)
            step(traced(batch) if which == "ours" else (batch["loc"] + batch["scale"] * batch["noise"], batch))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return (peaks[1] - peaks[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="processor time of a cell of the table")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = list(itertools.product((False, True), (False, True)))
    names = [f"{'and 10 categories' if d else '10 normal variables'}{', memory' if m else ''}" for m, d in cases]
    lines = [f"| B | {' | '.join(names)} |", "| --- " * (len(cases) + 1) + "|"]
    print("\n".join(lines), flush=True)
    for size in options.sizes:
        lines.append(f"| {size} | {' | '.join(cell(size, d, m, options.seconds) for m, d in cases)} |")
        print(lines[-1], flush=True)
    largest = max(options.sizes)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        grown = {(w, m): pool.apply(growth, (w, largest, m)) for w in ("ours", "theirs") for m in (False, True)}
    lines += [
        "",
        "Milliseconds of processor time of a step, ours / straightforward PyTorch, and the median ratio of neighbours.",
        f"Peak memory of 10 normal variables at B = {largest}, MiB: {grown['ours', False]} / {grown['theirs', False]}; "
        f"with a memory {grown['ours', True]} / {grown['theirs', True]}.",
        "",
        f"pyro-hfvae {version('pyro-hfvae')}, torch {torch.__version__}, Python {platform.python_version()}; "
        f"one thread on {os.cpu_count()} cores, {processor()}, which others used too.",
    ]
    print("\n".join(lines[-5:]), flush=True)
    if options.output is not None:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
