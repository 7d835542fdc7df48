"""What a step costs whose terms have one weight, against Pyro's Trace_ELBO; they take turns.

Two linear layers, 10 Gaussian variables, weights of 1: what is left is what the library does beside the networks.
``terms`` is a step whose terms are logged, ``loss`` one whose terms nobody sees, where the inference marginal cancels.
Processor time of one thread. Usage: python benchmarks/equal_weights.py [--batch-size 64] [--steps 200]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pyro_hfvae.infer import VAE, HierarchicalModule, Marginal, Memory, Minibatch

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

    def module(marginal: Marginal) -> HierarchicalModule:
        return VAE(N, marginal=marginal)(*pair())

    pyros, programs = Trace_ELBO(), pair()
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "Trace_ELBO": lambda x: pyros.differentiable_loss(*programs, x) / batch_size
    }
    for name, marginal in (("VAE", Minibatch()), ("VAE with a memory", Memory(N))):
        for what in ("loss", "terms"):
            losses[f"{name}, {what}"] = partial(step_of, module(marginal), with_terms=what == "terms")
    return losses


def step_of(module: HierarchicalModule, x: Tensor, with_terms: bool) -> Tensor:
    """The loss; the step before it ends here, so that its time counts."""
    module.step()
    return module.loss(x, with_terms=with_terms).per_datum


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
