"""How far the age of what a memory holds moves A and i, in a training on MNIST, against the same data encoded anew.

A 10-d Gaussian and a 10-way Concrete are trained with the paper's estimator, while memories of several sizes look on.
At some steps the terms of 20 batches of test images are taken twice, with the same samples: once from the memory, whose
posteriors are as old as they are, and once from one that holds the same data in the same slots, encoded by the guide as
it is now. The difference is what age does. Usage: python benchmarks/staleness.py [--data FOLDER] [--rates RATE ...]
"""

import argparse
import time

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_hfvae import HierarchicalELBO, __version__
from pyro_hfvae.data import MNIST, IndexBatches
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Memory, Minibatch, Sample
from pyro_hfvae.infer.data_keys import keys_of
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.sites import Site
from pyro_hfvae.train.run_folder import processor

N, BATCH = 60_000, 128
SIZES, RATES, STEPS = (1024, 4096, 16384), (3e-4, 1e-3, 3e-3), (150, 469, 938)


class Onlookers(Minibatch):
    """The paper's estimator, with memories that record what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.memories = {size: Memory(size) for size in SIZES}
        self.keys = torch.zeros(0, dtype=torch.int64)

    def record(self, sample: Sample, data_size: int) -> None:
        for memory in self.memories.values():
            memory.record(sample, data_size)
        keys = keys_of(sample)
        assert keys is not None
        self.keys = keys


@torch.no_grad()
def encode(guide: nn.Module, x: Tensor) -> dict[str, Site]:
    trace = poutine.trace(guide).get_trace(x)
    return posterior_sites(trace, None, DataPlate.of(trace))


def renewed(memory: Memory, guide: nn.Module, mnist: MNIST, index_of: dict[int, int]) -> Memory:
    """A memory of the same data in the same slots, with their posteriors of today; it must be full."""
    state = memory.get_extra_state()
    slots = state["slots"]
    data = torch.tensor([index_of[key] for key in slots["key"].tolist()])
    parts = [encode(guide, mnist.images(some)) for some in data.split(2000)]
    for name in parts[0]:
        each = zip(*(part[name].parameters() for part in parts), strict=True)
        slots |= {f"{name}/{place}": torch.cat(some) for place, some in enumerate(each)}
    fresh = Memory(memory.size)
    fresh.set_extra_state(state)
    return fresh


@torch.no_grad()
def terms(model: nn.Module, guide: nn.Module, memory: Memory, batches: list[Tensor]) -> Tensor:
    """I, A and i of each batch, the samples being the same at every call, [batches, 3]."""
    torch.manual_seed(0)
    elbo = HierarchicalELBO(N, marginal=memory)
    found = [elbo.terms(model, guide, x) for x in batches]
    return torch.stack([torch.stack([part.mutual_information, part.between, part.within]) for part in found])


def train(rate: float, mnist: MNIST) -> None:
    torch.manual_seed(0)
    model = ImageModel({"style": 10}, {"digit": 10}, decoder=MLPDecoder)
    guide = ImageGuide({"style": 10}, {"digit": 10}, encoder=MLPEncoder)
    weights = {"mutual_information": {"digit": 0.0, "style": 2.0}, "between": 3.0, "within": 3.0}
    module = HierarchicalELBO(N, marginal=Onlookers(), **weights)(model, guide)  # type: ignore[arg-type]
    onlookers = module.marginal
    optimizer = torch.optim.Adam(module.program_parameters(), lr=rate, fused=True)
    index_of: dict[int, int] = {}  # of the datum with a key
    for step, batch in enumerate(IndexBatches(torch.arange(N), BATCH, seed=0), start=1):
        optimizer.zero_grad()
        module.loss(mnist.images(batch)).per_datum.backward()
        optimizer.step()
        module.step()
        index_of |= dict(zip(onlookers.keys.tolist(), batch.tolist(), strict=True))
        if step in STEPS:
            state = torch.get_rng_state()
            held = [mnist.images(some) for some in torch.arange(N, N + 20 * BATCH).split(BATCH)]
            for size, memory in onlookers.memories.items():
                fresh = renewed(memory, guide, mnist, index_of)
                new = terms(model, guide, fresh, held)
                difference = terms(model, guide, memory, held) - new  # [batches, 3]
                error = difference.std(0) / len(held) ** 0.5
                columns = [
                    f"{value:.2f} | {d:+.3f} ± {e:.3f}"
                    for value, d, e in zip(new.mean(0), difference.mean(0), error, strict=True)
                ]
                print(f"| {rate:g} | {step} | {size} | {' | '.join(columns)} |", flush=True)
            torch.set_rng_state(state)
        if step == max(STEPS):
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of MNIST's four files")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pyro.settings.set(module_local_params=True)
    pyro.enable_validation(False)
    print("| learning rate | step | size | I, fresh | age | A, fresh | age | i, fresh | age |")
    print(f"|{' --- |' * 9}")
    mnist = MNIST(options.data)
    start = time.perf_counter()
    for rate in options.rates:
        train(rate, mnist)
    minutes = (time.perf_counter() - start) / 60
    versions = f"pyro-hfvae {__version__}, torch {torch.__version__}"
    print(f"\n{versions}, seed 0; {minutes:.0f} minutes on one thread of {processor()}.")


if __name__ == "__main__":
    main()
