"""Responses of features and exchanges, of programs whose features are known functions of their latents."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import Concrete
from pyro_hfvae.batch import Batch
from pyro_hfvae.blocks import resolve_blocks
from pyro_hfvae.paint import FeatureReader, LatentValues, exchanger, like, observed_features, respond

GENERATOR = torch.Generator().manual_seed(0)
Z, KIND = torch.randn(7, 2, generator=GENERATOR), torch.eye(3)[torch.arange(7) % 3]
X = torch.randn(7, 2, generator=GENERATOR)
LATENTS = LatentValues({"z": Z, "kind": KIND}, {"z": 1, "kind": 3})
BLOCKS = resolve_blocks({"a": ["z[0]", "kind"], "b": ["z[1]"]}, {"z": (2,), "kind": ()}).blocks
FIRST, KINDS, SECOND = (*BLOCKS["a"], *BLOCKS["b"])


class Unit:
    """A column that was standardised."""

    def __init__(self, name, mean, scale):
        self.name, self.mean, self.scale = name, mean, scale


def model(x, total):
    """The first number is total · z₀ + the category, the second z₁."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        kind = pyro.sample("kind", Concrete(logits=torch.zeros(3)))
        mean = torch.stack([total * z[:, 0] + kind @ torch.arange(3.0), z[:, 1]], 1)
        pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


DATA = Batch(x=X, total=torch.tensor([5.0, 1, 7, 2, 6, 3, 4]))
READER = FeatureReader(model, DATA.rows(slice(1)), ("a", "b"))


def test_all_are_decoded_with_the_covariates_of_one():
    expected = torch.stack([5 * Z[:, 0] + KIND.argmax(1), Z[:, 1]], 1)
    found = READER.decoded(LATENTS)
    torch.testing.assert_close(found.values, expected)
    assert found.names == ("a", "b")


def test_data_are_rebuilt_with_covariates_of_their_own():
    expected = torch.stack([DATA["total"] * Z[:, 0] + KIND.argmax(1), Z[:, 1]], 1)
    torch.testing.assert_close(READER.rebuilt(LATENTS, DATA).values, expected)
    assert READER.observed(DATA).values.equal(X)


def test_batches_change_nothing(monkeypatch):
    whole = READER.decoded(LATENTS).values
    monkeypatch.setattr("pyro_hfvae.paint.responses.BATCH", 3)
    assert READER.decoded(LATENTS).values.equal(whole)


def test_everything_is_in_the_units_of_the_columns():
    reader = FeatureReader(model, READER.one, ("a", "b"), [Unit("b", 100.0, 10.0)])
    torch.testing.assert_close(reader.decoded(LATENTS).values[:, 1], (100 + 10 * Z[:, 1]).double())
    torch.testing.assert_close(reader.observed(DATA).values[:, 1], (100 + 10 * X[:, 1]).double())
    (found,) = respond(reader, LATENTS.rows(torch.tensor([0])), reader.observed(DATA), [SECOND], {SECOND: (-1, 1)}, 3)
    assert found.features[1].values[:, 0].tolist() == [90, 100, 110]
    low, high = X[:, 1].double().quantile(torch.tensor([0.05, 0.95]).double()).tolist()
    assert found.features[1].spread == pytest.approx(10 * (high - low), rel=1e-5)


def test_what_each_variable_does():
    start = LATENTS.rows(torch.tensor([2]))
    continuous, discrete = respond(READER, start, READER.observed(DATA), [FIRST, KINDS], {FIRST: (-2.0, 2.0)}, 5)
    assert continuous.variable == "z[0]"
    assert continuous.points.tolist() == [-2, -1, 0, 1, 2]
    assert not continuous.discrete
    np.testing.assert_allclose(continuous.features[0].values[:, 0], 5 * continuous.points + 2)  # its category
    np.testing.assert_allclose(continuous.features[1].values[:, 0], float(Z[2, 1]))
    assert continuous.features[0].usual == pytest.approx(X[:, 0].double().quantile(torch.tensor([0.05, 0.95]).double()))
    assert discrete.discrete
    assert discrete.points.tolist() == [0, 1, 2]
    np.testing.assert_allclose(discrete.features[0].values[:, 0], 5 * float(Z[2, 0]) + np.arange(3), rtol=1e-6)


def test_what_is_missing_does_not_count():
    x = X.clone()
    x[:3, 0] = math.nan
    x[:, 1] = math.nan

    def other(x):
        known = x.isfinite()
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("kind", Concrete(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(z, 1.0).mask(known).to_event(1), obs=x.nan_to_num())

    reader = FeatureReader(other, Batch(x=x).rows(slice(1)))
    (found,) = respond(
        reader, LATENTS.rows(torch.tensor([0])), observed_features(other, x), [FIRST], {FIRST: (0, 1)}, 2
    )
    low, high = x[3:, 0].double().quantile(torch.tensor([0.05, 0.95]).double()).tolist()
    assert found.features[0].spread == pytest.approx(high - low)
    assert (found.features[1].spread, found.features[1].usual) == (0, None)


def test_counts_that_are_0_nearly_always():
    """Nine tenths of the data are 0: as wide as a normal distribution of the same spread, 3.29 standard deviations."""
    counts = torch.zeros(100, 2)
    counts[:3] = 4.0
    found = respond(
        READER, LATENTS.rows(torch.tensor([0])), READER.observed(Batch(x=counts, total=torch.ones(100))), [FIRST],
        {FIRST: (0, 1)}, 2,
    )  # fmt: skip
    assert found[0].features[0].spread == pytest.approx(3.29 * float(counts[:, 0].std(correction=0)), rel=1e-3)


def test_exchanges():
    rest, giving = np.array([0, 5, 2, 6]), np.array([3, 1, 4, 0])
    exchange = exchanger(READER, LATENTS, BLOCKS)
    for variables in ([], ["z[0]"], ["z[1]", "kind"]):
        z0, z1, kind = (
            value[giving if name in variables else rest]
            for name, value in (("z[0]", Z[:, 0]), ("z[1]", Z[:, 1]), ("kind", KIND.argmax(1)))
        )
        expected = torch.stack([5 * z0 + kind, z1], 1)
        np.testing.assert_allclose(exchange(variables, giving, rest), expected, rtol=1e-6)


def test_a_datum_whose_covariates_stand_for_all():
    assert like(DATA).x.equal(X[6:7])  # of total 4, the median
    assert like(Batch(x=X, lengths=torch.tensor([1, 5, 9, 2, 2, 2, 2]), total=DATA["total"])).x.equal(X[2:3])
    assert like(Batch(x=X, group=torch.eye(7))).x.equal(X[:1])
    assert like(Batch(x=X)).x.equal(X[:1])
