"""The factorised guide of any data: what its encoder is called with, and what it refuses."""

import pyro
import pytest
import torch
from any_data import data_of, encoder_of
from pyro import poutine
from torch import nn

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.guides import FactorisedGuide, StructuredGuide
from pyro_hfvae.models import Mixture, Series, StructuredModel


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


class Encoder(nn.Module):
    """Remembers what it was made with and called with."""

    features = 2

    def __init__(self, inputs=None, length=None):
        super().__init__()
        self.sizes, self.calls = (inputs, length), []

    def forward(self, x, lengths=None):
        self.calls.append(lengths)
        return x.flatten(1)[:, :2]


def test_the_encoder_gets_the_covariates_that_it_takes():
    data = data_of("series")
    guide = FactorisedGuide({"z": 2}, {}, Encoder, data=data)
    assert guide.encoder.sizes == (3, 4)
    batch = data.batch([0, 1, 2])
    guide(batch.x, **batch.others)
    assert guide.encoder.calls[0] is batch["lengths"]
    guide(batch.x)
    assert guide.encoder.calls[1] is None


def test_posteriors_are_the_distributions_that_are_sampled():
    data = data_of("genes")
    guide = FactorisedGuide({"z": 2}, {"y": 3}, encoder_of("genes"), data=data)
    batch = data.batch([0, 1, 2])
    found = guide.posteriors(batch.x, **batch.others)
    nodes = poutine.trace(guide).get_trace(batch.x, **batch.others).nodes
    assert list(found) == ["z", "y"]
    assert found["z"].base_dist.loc.equal(nodes["z"]["fn"].base_dist.loc)
    assert found["y"].logits.equal(nodes["y"]["fn"].logits)


def test_targets_are_not_looked_at():
    data = data_of("genes")
    guide = FactorisedGuide({"z": 2}, {"y": 3}, encoder_of("genes"), data=data)
    batch = data.batch([0, 1, 2])
    values = []
    for target in (None, batch.x + 1):
        pyro.set_rng_seed(0)
        values.append(poutine.trace(guide).get_trace(batch.x, target, **batch.others).nodes["z"]["value"])
    assert values[0].equal(values[1])


def test_a_structured_guide_of_any_data():
    data = data_of("series")
    guide = StructuredGuide({"z": 2}, {"y": 3}, {"z": "y"}, encoder_of("series"), data=data)
    model = StructuredModel(Mixture({"z": 2}, {"y": 3}, {"z": "y"}), Series(), data)
    batch = data.batch(torch.arange(6))
    terms = HierarchicalELBO(100, between=2.0).terms(model, guide, batch.x, **batch.others)
    assert all(value.isfinite() for value in terms.scalars().values())


def test_an_encoder_without_features():
    with pytest.raises(ValueError, match="^the encoder Identity must have its number of features as 'features'$"):
        FactorisedGuide({"z": 2}, {}, nn.Identity)
    with pytest.raises(ValueError, match=r"^the encoder must make a torch.nn.Module, got int$"):
        FactorisedGuide({"z": 2}, {}, lambda: 3)
