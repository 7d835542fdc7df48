"""Missing cells of a table, by programs whose posterior predictive distribution is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from any_data import COLUMNS, programs

from pyro_hfvae.distributions import ColumnLikelihoods
from pyro_hfvae.paint import impute

NAN = math.nan


def model(x):
    """Two numbers that are a standard normal cause and noise of variance .25, a flag, a category and a count of it."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
        parts = [
            ([0, 1], dist.Normal(z.expand(*z.shape[:-1], 2), 0.5)),
            ([2], dist.Bernoulli(logits=3 * z)),
            ([3], dist.Categorical(logits=z[..., None] * torch.tensor([-4.0, 0.0, 4.0]))),
            ([4], dist.Poisson(z.exp())),
        ]
        pyro.sample("x", ColumnLikelihoods(parts), obs=x)


def guide(x):
    """The exact posterior given the numbers that are known; the other columns are not looked at."""
    numbers = x[:, :2]
    precision = 1 + 4 * (~numbers.isnan()).sum(1, keepdim=True)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(4 * numbers.nansum(1, keepdim=True) / precision, precision.rsqrt()).to_event(1))


def test_missing_cells_are_expected_given_the_known_ones():
    torch.manual_seed(0)
    x = torch.tensor(
        [[2.0, NAN, NAN, NAN, NAN], [-2.0, NAN, NAN, NAN, 3.0], [NAN, NAN, 1.0, 2.0, NAN], [1.0, 2, 0, 1, 4]]
    )
    draws = 1_000
    filled = impute(model, guide, x, draws)
    known = ~x.isnan()
    assert filled[known].equal(x[known])
    mean, variance = 4 * 2 / 5, 1 / 5  # of z given x_0 = 2
    assert filled[:3, 1].tolist() == pytest.approx([mean, -mean, 0.0], abs=5 / draws**0.5)  # five standard errors
    assert filled[:2, 2:4].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    rate = math.exp(mean + variance / 2)
    assert filled[0, 4].item() == pytest.approx(rate, abs=5 * rate / draws**0.5)
    assert filled[2, 4].item() == pytest.approx(math.exp(0.5), abs=5 * 2.2 / draws**0.5)  # e^z has a spread of 2.2


def test_draws_have_the_spread_of_the_predictive_distribution():
    torch.manual_seed(0)
    x = torch.tensor([[2.0, NAN, NAN, NAN, 3.0]])
    drawn = impute(model, guide, x, 1_000, sample=True)
    assert drawn.shape == (1_000, 1, 5)
    assert drawn[..., [0, 4]].eq(x[:, [0, 4]]).all()
    assert drawn[..., 1].var().item() == pytest.approx(1 / 5 + 1 / 4, rel=0.23)  # 5 · √(2 / 1,000)
    assert set(drawn[..., 2].unique().tolist()) <= {0.0, 1.0}
    assert set(drawn[..., 3].unique().tolist()) <= {0.0, 1.0, 2.0}


@pytest.mark.parametrize("latents", ["independent", "conditional"])
def test_shipped_programs(latents):
    composed, encoder, batch = programs(latents, "columns")
    batch.x[0] = NAN
    before = batch.x.clone()
    filled = impute(composed, encoder, batch.x, 3, **batch.others)
    assert filled.shape == batch.x.shape
    assert filled.isfinite().all()
    assert filled[~batch.x.isnan()].equal(batch.x[~batch.x.isnan()])
    assert torch.allclose(batch.x, before, equal_nan=True)
    for place, column in enumerate(COLUMNS):
        if column.kind == "category":
            assert set(filled[:, place].tolist()) <= set(map(float, range(column.size)))
        if column.kind == "flag":
            assert set(filled[:, place].tolist()) <= {0.0, 1.0}
    assert impute(composed, encoder, batch.x, 3, sample=True, **batch.others).shape == (3, *batch.x.shape)


def test_what_cannot_be_imputed():
    composed, encoder, batch = programs("independent", "pixels")
    with pytest.raises(ValueError, match="^the model observes no table: impute needs one site of ColumnLikelihoods$"):
        impute(composed, encoder, batch.x, **batch.others)
    with pytest.raises(ValueError, match="^draws must be 1 or more, got 0$"):
        impute(model, guide, torch.zeros(1, 5), 0)
