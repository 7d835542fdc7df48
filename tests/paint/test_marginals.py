"""The aggregate posterior and the prior of single variables, against sums over the data."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from painting import X, guide, model

from pyro_hfvae import Concrete
from pyro_hfvae.paint import read_marginals


def density(points, loc, scale):
    return np.exp(-0.5 * ((points - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


def test_the_aggregate_is_the_mean_of_the_posteriors():
    torch.manual_seed(0)
    found = read_marginals(model, guide, [X[:5], X[5:]])
    assert list(found) == ["z[0]", "z[1]", "w", "kind"]
    for place, name in enumerate(["z[0]", "z[1]", "w"]):
        marginal = found[name]
        assert not marginal.discrete
        assert (np.diff(marginal.points) > 0).all()
        expected = sum(density(marginal.points, X[n, 0, 0, place].item(), 3.0) for n in range(7)) / 7
        np.testing.assert_allclose(marginal.posterior, expected, rtol=1e-5)  # float32
        np.testing.assert_allclose(marginal.prior, density(marginal.points, 0.0, 1.0), rtol=1e-5, atol=1e-9)
    kind = found["kind"]
    assert kind.discrete
    assert kind.points.tolist() == [0, 1, 2]
    np.testing.assert_allclose(kind.posterior, sum(X[n, 0, 1].softmax(-1).numpy() for n in range(7)) / 7, rtol=1e-6)
    np.testing.assert_allclose(kind.prior, 1 / 3, rtol=1e-6)


def test_blocks_give_the_order():
    layout = {"b": ["kind", "z[1]"], "a": ["w", "z[0]"]}
    assert list(read_marginals(model, guide, [X], layout)) == ["kind", "z[1]", "w", "z[0]"]


def test_the_points_span_draws_of_both():
    """q(z) at 100 and p(z) at 0: each within some standard deviations of the ends."""

    def far(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(100 + 0 * x, 2.0))

    def near(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    torch.manual_seed(0)
    points = read_marginals(near, far, [torch.zeros(1000)])["z"].points
    assert -4.5 < points[0] < -2
    assert 104 < points[-1] < 109


def test_correlated_and_positive_variables():
    loc = torch.tensor([1.0, -1.0])
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]])

    def program(x, observe=True):
        pyro.sample("z", dist.MultivariateNormal(loc, covariance).expand([len(x)]))
        pyro.sample("rate", dist.Gamma(torch.full((len(x), 1), 3.0), 2.0).to_event(1))
        pyro.sample("share", dist.Dirichlet(torch.ones(3)).expand([len(x)]))
        if observe:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    torch.manual_seed(0)
    found = read_marginals(program, lambda x: program(x, observe=False), [torch.zeros(50)])
    assert list(found) == ["z[0]", "z[1]", "rate"]  # a simplex has no density on a line
    for name, mean, variance in (("z[0]", 1.0, 2.0), ("z[1]", -1.0, 1.0)):
        np.testing.assert_allclose(
            found[name].posterior, density(found[name].points, mean, math.sqrt(variance)), rtol=1e-4
        )
    rate = found["rate"]
    expected = 2**3 / math.gamma(3) * rate.points**2 * np.exp(-2 * rate.points)
    np.testing.assert_allclose(rate.posterior, expected, rtol=1e-4)
    np.testing.assert_allclose(rate.prior, expected, rtol=1e-4)
    assert rate.divergence() == pytest.approx(0, abs=1e-6)


def test_a_prior_not_expanded_to_the_data_and_one_that_depends_on_another_site():
    def prior(x):
        kind = pyro.sample("kind", dist.OneHotCategorical(torch.tensor([0.25, 0.75])))
        kind = kind.expand(len(x), 2)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(torch.tensor([0.25, 0.75])))
            z = pyro.sample("z", dist.Normal(4 * y[..., 1], 1.0))
            pyro.sample("x", dist.Normal(z + kind[:, 0], 1.0), obs=x)

    def posterior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("kind", Concrete(logits=torch.zeros(2)))
            pyro.sample("y", Concrete(logits=torch.zeros(2)))
            pyro.sample("z", dist.Normal(x, 1.0))

    torch.manual_seed(0)
    found = read_marginals(prior, posterior, [torch.zeros(4000)])
    np.testing.assert_allclose(found["kind"].prior, [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(found["kind"].posterior, [0.5, 0.5], rtol=1e-6)
    z = found["z"]
    mixture = 0.25 * density(z.points, 0, 1) + 0.75 * density(z.points, 4, 1)
    # The share of y = 1 among 4,000 draws of the prior has a standard error of .007, and a component reaches .4.
    np.testing.assert_allclose(z.prior, mixture, atol=4 * 0.007 * 0.4)


def test_no_batch():
    with pytest.raises(ValueError, match="no batch was given"):
        read_marginals(model, guide, [])
