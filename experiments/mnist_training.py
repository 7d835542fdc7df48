"""Training on MNIST for the studies of estimators, information weights and structured priors, and the exact terms."""

import argparse
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_hfvae import HierarchicalELBO, HierarchicalModule, Terms
from pyro_hfvae.data import MNIST, IndexBatches
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Marginal, Sample
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.references import Bank, References
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.models import ImageModel, MLPDecoder

__all__ = ["AllOthers", "Epoch", "exact_terms", "steps", "study_parser", "train"]

N, SAMPLES, LAST = 60_000, 1_000, 50
TERMS = ("mutual_information", "between", "within", "dimension")


class AllOthers(Marginal):
    """The exact marginal: the batch, and the posteriors of all data that are not in it.

    Args:
        guide: encodes the data.
        batches: all data that are not in the batch.
    """

    @torch.no_grad()
    def __init__(self, guide: nn.Module, batches: Iterable[Tensor]) -> None:
        super().__init__()
        traces = [poutine.trace(guide).get_trace(x) for x in batches]
        parts = [posterior_sites(trace, None, DataPlate.of(trace)) for trace in traces]
        sites = {}
        for name, site in parts[0].items():
            each = zip(*(part[name].parameters() for part in parts), strict=True)
            parameters = [torch.cat(some) for some in each]
            sites[name] = site.at(site.with_parameters(parameters, parameters[0].shape[:1]), site.value)
        present = torch.ones(len(parameters[0]), dtype=torch.bool)
        self.bank = Bank(sites, {}, present)

    def references(self, sample: Sample, data_size: int) -> References:
        """The batch and the others, all with the weight 1/N."""
        return References(own=-math.log(data_size), other=-math.log(data_size), bank=self.bank)


def exact_terms(model: nn.Module, guide: nn.Module, mnist: MNIST, seed: int = 0, **weights: Any) -> Terms:
    """The terms with all training images as references, at the first samples of a permutation of them.

    Args:
        model: of images.
        guide: encodes them.
        mnist: the images.
        seed: of the permutation.
        weights: of the objective, where they decide whether normalisers are needed.
    """
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    others = AllOthers(guide, map(mnist.images, order[SAMPLES:].split(2000)))
    with torch.no_grad():
        return HierarchicalELBO(N, marginal=others, **weights).terms(model, guide, mnist.images(order[:SAMPLES]))


def steps(module: HierarchicalModule, batches: IndexBatches, mnist: MNIST) -> Iterator[Terms]:
    """Trains without end and gives the terms of every step."""
    optimizer = torch.optim.Adam(module.program_parameters(), lr=1e-3, fused=True)
    for batch in batches:
        loss = module.loss(mnist.images(batch), with_terms=True)
        optimizer.zero_grad()
        loss.per_datum.backward()
        optimizer.step()
        module.step()
        assert loss.terms is not None
        yield loss.terms


@dataclass(frozen=True)
class Epoch:
    """What a training is after an epoch."""

    number: int
    model: nn.Module
    guide: nn.Module
    logged: dict[str, float]
    """The terms as the estimator gave them, mean over the last batches."""
    seconds: float
    """Training time so far, without what was done between the epochs."""


def train(elbo: HierarchicalELBO, batch_size: int, seed: int, mnist: MNIST) -> Iterator[Epoch]:
    """Trains a 10-d Gaussian and a 10-way Concrete, dense layers 784-400-200 and back, without end."""
    torch.manual_seed(seed)
    model = ImageModel({"style": 10}, {"digit": 10}, decoder=MLPDecoder)
    guide = ImageGuide({"style": 10}, {"digit": 10}, encoder=MLPEncoder)
    recent: list[Tensor] = []
    seconds, started = 0.0, time.monotonic()
    batches = IndexBatches(torch.arange(N), batch_size, seed=seed)
    for step, terms in enumerate(steps(elbo(model, guide), batches, mnist), start=1):
        recent = [*recent[1 - LAST :], torch.stack([getattr(terms, term) for term in TERMS]).detach()]
        if step % batches.batches_per_epoch == 0:
            seconds += time.monotonic() - started
            logged = dict(zip(TERMS, torch.stack(recent).mean(0).tolist(), strict=True))
            generator = torch.get_rng_state()
            yield Epoch(step // batches.batches_per_epoch, model, guide, logged, seconds)
            torch.set_rng_state(generator)  # what is measured between the epochs does not change the training
            started = time.monotonic()


def study_parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The options that the studies have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of MNIST's four files")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser
