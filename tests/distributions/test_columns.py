"""A likelihood for each column of a table, against the densities of SciPy, cell by cell."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from scipy import stats

from pyro_hfvae.distributions import ColumnLikelihoods
from pyro_hfvae.infer.traces import DataPlate, log_likelihood

D = 7


def parameters(*batch, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator).double()

    return {
        "loc": normal(2),
        "scale": normal(2).exp(),
        "df": 2 + normal(1).exp(),
        "at": normal(1),
        "logit": normal(1),
        "codes": normal(1, 4),
        "rate": normal(1).exp(),
        "total": normal(1).exp(),
        "odds": normal(1),
    }


def likelihoods(p, **options):
    """Columns 0 and 4 normal, 1 categorical, 2 Bernoulli, 3 Student t, 5 Poisson, 6 negative binomial."""
    parts = [
        ([4, 0], dist.Normal(p["loc"], p["scale"])),
        ([3], dist.StudentT(p["df"], p["at"], 0.5)),
        ([6], dist.NegativeBinomial(p["total"], logits=p["odds"])),
        ([2], dist.Bernoulli(logits=p["logit"])),
        ([1], dist.Categorical(logits=p["codes"])),
        ([5], dist.Poisson(p["rate"])),
    ]
    return ColumnLikelihoods(parts, **options)


def by_scipy(p, row, x):
    """log p of each cell of one row, from one row of parameters; 0 where missing."""
    q = {name: value[row].numpy() for name, value in p.items()}
    softmax = np.exp(q["codes"][0]) / np.exp(q["codes"][0]).sum()
    each = [
        lambda v: stats.norm.logpdf(v, q["loc"][1], q["scale"][1]),
        lambda v: np.log(softmax[int(v)]),
        lambda v: stats.bernoulli.logpmf(v, 1 / (1 + np.exp(-q["logit"][0]))),
        lambda v: stats.t.logpdf(v, q["df"][0], q["at"][0], 0.5),
        lambda v: stats.norm.logpdf(v, q["loc"][0], q["scale"][0]),
        lambda v: stats.poisson.logpmf(v, q["rate"][0]),
        lambda v: stats.nbinom.logpmf(v, q["total"][0], 1 / (1 + np.exp(q["odds"][0]))),
    ]
    return [0.0 if math.isnan(v) else float(f(v)) for f, v in zip(each, x, strict=True)]


def rows(size, seed=0, missing=0.3):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(size, D, generator=generator).double()
    counts = plain[:, 5:].abs().mul(3).round()
    codes = [torch.arange(size) % 4, torch.arange(size) % 2]
    whole = torch.stack([plain[:, 0], *codes, plain[:, 3], plain[:, 4], *counts.unbind(1)], 1)
    return whole.masked_fill(torch.rand(size, D, generator=generator) < missing, torch.nan)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 6), seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.3, 1.0]))
def test_cells_have_the_densities_of_scipy(size, seed, missing):
    p, x = parameters(size, seed=seed), rows(size, seed, missing)
    fn = likelihoods(p, validate_args=True)
    assert (fn.batch_shape, fn.event_shape) == ((size,), (D,))
    expected = torch.tensor([by_scipy(p, row, x[row].numpy()) for row in range(size)], dtype=torch.float64)
    torch.testing.assert_close(fn.cell_log_prob(x), expected, rtol=1e-9, atol=1e-9)  # of float64, twice
    torch.testing.assert_close(fn.log_prob(x), expected.sum(1), rtol=1e-9, atol=1e-9)


def test_particles_are_kept_in_front():
    p, x = parameters(3, 5), rows(5)
    fn = likelihoods(p)
    assert (fn.batch_shape, fn.event_shape) == ((3, 5), (D,))
    for particle in range(3):
        one = likelihoods({name: value[particle] for name, value in p.items()})
        torch.testing.assert_close(fn.log_prob(x)[particle], one.log_prob(x))
        torch.testing.assert_close(fn.feature_means[particle], one.feature_means)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (4, 1, 5)])
def test_expanding_repeats(shape):
    fn, x = likelihoods(parameters(5)), rows(5)
    wide = fn.expand(shape)
    assert (wide.batch_shape, wide.event_shape) == (shape, (D,))
    assert wide.log_prob(x).equal(fn.log_prob(x).expand(shape))
    assert wide.mean.shape == wide.sample().shape == (*shape, D)


def test_gradients_of_rows_with_missing_cells_are_finite_and_0_where_all_are_missing():
    p = {name: value.requires_grad_() for name, value in parameters(4).items()}
    x = rows(4)
    x[1] = torch.nan
    likelihoods(p).log_prob(x).sum().backward()
    for name, value in p.items():
        assert value.grad.isfinite().all(), name
        assert not value.grad[1].any(), name
        assert value.grad.any(), name


def test_means_and_features():
    p = parameters(5)
    fn = likelihoods(p)
    means, features = fn.mean, fn.feature_means
    probabilities = p["codes"].softmax(-1)[:, 0]
    assert (means.shape, features.shape) == ((5, D), (5, D + 3))
    assert means[:, [0, 4]].equal(p["loc"][:, [1, 0]])
    assert means[:, 1].equal(p["codes"][:, 0].argmax(-1).double())
    torch.testing.assert_close(features[:, 1:5], probabilities)
    torch.testing.assert_close(means[:, 2:], features[:, 5:])
    torch.testing.assert_close(means[:, 2], p["logit"][:, 0].sigmoid())
    torch.testing.assert_close(means[:, 6], (p["total"] * p["odds"].exp())[:, 0])


def test_draws_are_whole_rows_with_the_moments_of_the_distribution():
    torch.manual_seed(0)
    fn = likelihoods(parameters(2))
    x = fn.sample((40_000,))
    assert x.shape == (40_000, 2, D)
    assert fn.support.check(x).all()
    assert not x.isnan().any()
    numbers = [0, 2, 3, 4, 5, 6]
    error = x.std(0) / 200
    assert ((x.mean(0) - fn.mean).abs() < 5 * error)[:, numbers].all()  # five standard errors
    shares = torch.nn.functional.one_hot(x[..., 1].long(), 4).double().mean(0)
    assert ((shares - fn.feature_means[:, 1:5]).abs() < 5 * 0.5 / 200).all()


@pytest.mark.parametrize(("column", "value"), [(1, 4.0), (1, 0.5), (2, 2.0), (5, -1.0), (5, 1.5), (6, -2.0)])
def test_the_support_allows_nan_and_nothing_that_is_no_value(column, value):
    fn, x = likelihoods(parameters(3), validate_args=True), rows(3)
    assert fn.support.check(x).tolist() == [True] * 3
    x[1, column] = value
    assert fn.support.check(x).tolist() == [True, False, True]
    assert "NaN where missing" in str(fn.support)
    with pytest.raises(ValueError, match=r"to be within the support"):
        fn.log_prob(x)


def test_other_families_whose_support_lacks_0():
    fn = ColumnLikelihoods(
        [([0], dist.Gamma(torch.full((2, 1), 2.0), 1.0)), ([1], dist.LogNormal(torch.zeros(2, 1), 1.0))]
    )
    found = fn.log_prob(torch.tensor([[torch.nan, 2.0], [3.0, torch.nan]]))
    assert found.tolist() == pytest.approx([stats.lognorm.logpdf(2, 1), stats.gamma.logpdf(3, 2)], rel=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "the parts must be for each column from 0 once, got columns none"),
        (
            [([0, 2], dist.Normal(torch.zeros(3, 2), 1.0))],
            "the parts must be for each column from 0 once, got columns 0, 2",
        ),
        (
            [([0, 1], dist.Normal(torch.zeros(3, 4), 1.0))],
            r"the distribution of columns 0, 1 must be univariate, with 2 as its last batch dimension, got the batch "
            r"shape \(3, 4\) and the event shape \(\)",
        ),
        (
            [([0], dist.Normal(torch.zeros(3, 1), 1.0)), ([1], dist.Normal(torch.zeros(2, 1), 1.0))],
            r"the distributions of the columns have different batch shapes: \(2,\) and \(3,\)",
        ),
    ],
)
def test_parts_that_make_no_row(parts, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ColumnLikelihoods(parts)


def test_a_program_observes_a_table_at_one_site():
    p, x = parameters(5), rows(5)

    def model():
        with pyro.plate("data", 5):
            pyro.sample("x", likelihoods(p), obs=x)

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].equal(likelihoods(p).log_prob(x))
    assert log_likelihood(trace, torch.Size([1, 5]), DataPlate.of(trace, trace)).shape == (1, 5)


def test_the_most_probable_row_of_averaged_features():
    fns = [likelihoods(parameters(5, seed=seed)) for seed in (0, 1)]
    features = (fns[0].feature_means + fns[1].feature_means) / 2
    rows = fns[0].most_probable(features)
    assert rows[:, 1].equal(features[:, 1:5].argmax(-1).double())
    assert rows[:, 2].equal((features[:, 5] > 0.5).double())
    assert rows[:, [0, 3, 4, 5, 6]].equal(features[:, [0, 6, 7, 8, 9]])
