"""PSIS k̂ and the diagnostics of chains, in either ArviZ."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.posterior import guide_quality, pareto_k
from pyro_hfvae.posterior.inference_data import convergence

RANDOM = np.random.default_rng(0)


def test_k_of_a_known_tail():
    # Weights u^-k of uniform u are generalised Pareto of shape k; standard error of k̂ at 4,000 draws near .1.
    u = RANDOM.uniform(size=(4000, 20))
    for k in (0.3, 0.9):
        assert pareto_k(-k * np.log(u)).mean() == pytest.approx(k, abs=0.1)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-6, 1e-3])
def test_weights_that_are_nearly_equal_have_k_zero(noise):
    assert (pareto_k(-100 + noise * RANDOM.uniform(size=(500, 4))) == 0).all()


@pytest.mark.parametrize("atoms", [2, 5, 20])
def test_no_k_of_weights_that_tie(atoms):
    values = RANDOM.normal(size=atoms)
    assert np.isnan(pareto_k(values[RANDOM.integers(atoms, size=(1000, 3))])).all()


@pytest.mark.parametrize("spread", [0.03, 1.0, 10.0, 300.0])
def test_a_k_of_weights_that_do_not(spread):
    assert np.isfinite(pareto_k(-1000 + spread * RANDOM.normal(size=(1000, 3)))).all()


def discrete(probs):
    """Two categories, x ~ N(4y, 1), and a guide of fixed probabilities."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5]).double()))
            pyro.sample("x", dist.Normal(4.0 * y, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(torch.tensor(probs).double()))

    return model, guide


@pytest.mark.parametrize("probs", [[0.5, 0.5], [0.9, 0.1], [1 - 1e-12, 1e-12]])
def test_discrete_latents_have_no_k(probs):
    """The last guide draws one category only, with equal weights: they must not pass for those of an exact guide."""
    torch.manual_seed(0)
    quality = guide_quality(*discrete(probs), torch.tensor([0.0, 2.0, 4.0]).double(), draws=300)
    assert np.isnan(quality.pareto_k).all()


def test_discrete_beside_continuous():
    """The continuous latent is exact given the category, so that the weights take two values: no k̂."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(x.new_full((), 0.5)))
            z = pyro.sample("z", dist.Normal(2 * y, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, scale=0.5**0.5):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(x.new_full((), 0.3)))
            pyro.sample("z", dist.Normal((x + 2 * y) / 2, scale))

    torch.manual_seed(0)
    x = torch.zeros(3)
    quality = guide_quality(model, guide, x, draws=250)
    assert np.isnan(quality.pareto_k).all()
    exact = math.log(0.5) + torch.stack([dist.Normal(m, 2**0.5).log_prob(x) for m in (0.0, 2.0)]).logsumexp(0)
    assert quality.bounds[-1] == pytest.approx(exact.numpy(), abs=0.15)
    assert np.isfinite(guide_quality(model, lambda data: guide(data, 0.3), x, draws=250).pareto_k).all()


def test_convergence():
    met = RANDOM.normal(size=(4, 200, 2))
    apart = met + 3 * np.arange(4)[:, None, None] * np.array([0, 1])
    r_hat, effective = convergence({"met": met, "apart": apart})
    assert r_hat["met"] == pytest.approx(1.0, abs=0.03)
    assert 500 < effective["met"] < 1200
    assert r_hat["apart"] > 1.5  # the larger of the two numbers
    assert effective["apart"] < 20
