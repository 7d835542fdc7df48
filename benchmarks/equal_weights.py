"""What a step costs whose terms have one weight, against Pyro's Trace_ELBO; they take turns.

Two linear layers, 10 Gaussian variables, weights of 1: what is left is what the library does beside the networks.
``terms`` is a step whose terms are logged, ``loss`` one whose terms nobody sees, where the inference marginal cancels.
Processor time of one thread. Usage: python benchmarks/equal_weights.py [--batch-size 64] [--steps 200]
"""

import argparse
import time
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pyro_hfvae.infer import VAE, Memory, Stratified

N, V = 4096, 10


class Guide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 2 * V)

    def forward(self, x: Tensor) -> None:
        loc, scale = self.layer(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(V, 20)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(V), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.layer(z), 1.0).to_event(1), obs=x)


def steps(batch_size: int) -> dict[str, Callable[[Tensor], Tensor]]:
    def pair() -> tuple[Model, Guide]:
        torch.manual_seed(0)
        return Model(), Guide()

    pyros, plain = Trace_ELBO(), VAE(N, marginal=Stratified())
    unseen, seen = (VAE(N, marginal=Memory(N)) for _ in range(2))
    a, b, c, d, e = (pair() for _ in range(5))
    return {
        "Trace_ELBO": lambda x: pyros.differentiable_loss(*a, x) / batch_size,
        "VAE, loss": lambda x: -plain.training_objective(*b, x),
        "VAE, terms": lambda x: -plain.objective(plain.training_terms(*c, x)),
        "VAE with a memory, loss": lambda x: -unseen.training_objective(*d, x),
        "VAE with a memory, terms": lambda x: -seen.objective(seen.training_terms(*e, x)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    torch.manual_seed(0)
    batches = torch.randn(N, 20).split(options.batch_size)
    losses = steps(options.batch_size)
    taken: dict[str, list[float]] = {name: [] for name in losses}
    for turn in range(len(batches) + options.steps):
        for name, loss in losses.items():
            start = time.process_time()
            loss(batches[turn % len(batches)]).backward()
            if turn >= len(batches):
                taken[name].append(time.process_time() - start)
    pyros = taken["Trace_ELBO"]
    for name, seconds in taken.items():
        ratios = sorted(ours / theirs for ours, theirs in zip(seconds, pyros, strict=True))
        median = sorted(seconds)[len(seconds) // 2]
        print(f"{name:26} {1e3 * median:6.2f} ms a step, × {ratios[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    main()
