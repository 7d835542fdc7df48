"""Guides whose sites depend on one another: the error of their marginals against closed forms, and the cost of a step.

u|x ~ N(x, .5²) in 4 variables, z|u ~ N(W u, s²) in 10, which have unit variance over the data; N = 1,000, B = 64.
Usage: python benchmarks/structured_guides.py error [--batches 20] | cost [--steps 9]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Size, Tensor, nn
from torch.distributions import MultivariateNormal

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.blocks import Variable
from pyro_hfvae.guides import ConvEncoder, ImageGuide, MLPEncoder, StructuredGuide
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.dependence import Component
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.programs import Run
from pyro_hfvae.infer.references import References
from pyro_hfvae.infer.structured import Structured, whole
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.models import ConvDecoder, ImageModel, MLPDecoder

N, B = 1000, 64
PARENTS = {"u": frozenset[str](), "z": frozenset({"u"})}


@torch.no_grad()
def error(scale: float, guide_samples: int, batches: int) -> None:
    """Prints mean and standard deviation over batches of the errors of log q̂(z_G|x) and of log q̂(z_G)."""
    weight = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    weight = weight / weight.norm(dim=0) * math.sqrt(1 - scale * scale)
    covariance = 0.25 * weight.T @ weight + scale * scale * torch.eye(10)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(x, 0.5).to_event(1))
            pyro.sample("z", dist.Normal(u @ weight, scale).to_event(1))

    groups = {size: frozenset(Variable("z", index, "") for index in range(size)) for size in (1, 5, 10)}
    errors: dict[str, list[Tensor]] = {f"{what} {size}": [] for what in ("q(z|x)", "q(z)") for size in groups}
    own, other = -math.log(N), math.log((N - 1) / (N * (B - 1)))
    for seed in range(batches):
        torch.manual_seed(100 + seed)
        x = math.sqrt(0.75) * torch.randn(B, 4)
        trace = poutine.trace(guide).get_trace(x)
        plate, shape = DataPlate.of(trace), Size((1, B))
        run, sites = Run(guide, (x,), {}, trace, plate, "guide"), whole(posterior_sites(trace, None, plate), shape)
        table = Ancestral(Component.of(PARENTS, list(PARENTS)), run, sites, shape, guide_samples)
        log_q, log_m = Structured(table, [table], References(own, other)).both(list(groups.values()))
        for row, size in enumerate(groups):
            exact = MultivariateNormal((x @ weight)[:, :size], covariance[:size, :size])
            pairs = exact.log_prob(trace.nodes["z"]["value"][:, None, :size])  # [B, B']
            others = pairs.masked_fill(torch.eye(B, dtype=torch.bool), -torch.inf).logsumexp(-1)
            exact_m = torch.logaddexp(own + pairs.diagonal(), other + others).mean()
            errors[f"q(z|x) {size}"].append(log_q[row] - pairs.diagonal().mean())
            errors[f"q(z) {size}"].append(log_m[row] - exact_m)
    columns = (
        f"{name} {torch.stack(some).mean():+.2f} ± {torch.stack(some).std():.2f}" for name, some in errors.items()
    )
    print(f"s = {scale}, P = {guide_samples}:", ", ".join(columns))


def trainer(guide: nn.Module, model: nn.Module, images: Tensor) -> Callable[[], None]:
    programs = HierarchicalELBO(60_000)(model, guide)
    optimizer = torch.optim.Adam(programs.program_parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        programs(images).backward()
        optimizer.step()
        programs.step()

    return step


def cost(convolutional: bool, batch_size: int, steps: int) -> None:
    """Prints the median processor time of a step with either guide; they take turns."""
    torch.manual_seed(0)
    gaussian, discrete = {"z": 10}, {"y": 10}
    encoder, decoder = (ConvEncoder, ConvDecoder) if convolutional else (MLPEncoder, MLPDecoder)
    side = 64 if convolutional else 28
    guides = [ImageGuide(gaussian, discrete, encoder), StructuredGuide(gaussian, discrete, {"z": "y"}, encoder)]
    images = torch.rand(batch_size, 1, side, side)
    turns = [trainer(guide, ImageModel(gaussian, discrete, decoder), images) for guide in guides]
    seconds: list[list[float]] = [[], []]
    for turn in range(steps + 2):
        for step, taken in zip(turns, seconds, strict=True):
            start = time.process_time()
            step()
            if turn >= 2:
                taken.append(time.process_time() - start)
    plain, structured = map(statistics.median, seconds)
    print(f"{side}×{side}, B = {batch_size}: {1e3 * plain:.0f} and {1e3 * structured:.0f} ms, {structured / plain:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["error", "cost"])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pyro.settings.set(module_local_params=True)
    pyro.enable_validation(False)
    if options.what == "error":
        torch.set_default_dtype(torch.float64)
        for scale in (0.7, 0.3):
            for guide_samples in (10, 100, 1000):
                error(scale, guide_samples, options.batches)
    else:
        for convolutional, batch_size in ((False, 64), (False, 256), (True, 64)):
            cost(convolutional, batch_size, options.steps)


if __name__ == "__main__":
    main()
