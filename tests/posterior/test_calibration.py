"""Simulation-based calibration and its test of uniform ranks."""

from itertools import pairwise

import linear_gaussian as lg
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest

from pyro_hfvae.posterior import ecdf_band, simulation_based_calibration, uniformity_p_value

QUANTITIES = {"a[0]", "a[1]", "b", "log-likelihood"}


def calibrate(guide, size=200, seed=0, model=lg.model):
    torch.manual_seed(seed)
    return simulation_based_calibration(model, guide, lg.data(size), draws=49).p_values()


def test_exact_guide_is_calibrated():
    p_values = calibrate(lg.Guide())
    assert p_values.keys() == QUANTITIES
    assert min(p_values.values()) > 0.01 / 4


@pytest.mark.parametrize("guide", [lg.Guide(scale=0.3), lg.Guide(scale=2.5), lg.Guide(shift=0.5)])
def test_wrong_guide_is_off_in_every_variable(guide):
    assert max(calibrate(guide).values()) < 0.001


def test_ignored_block_is_off_in_the_log_likelihood_alone():
    # Drawn from its prior, the block has uniform ranks; that is why the log-likelihood is looked at.
    p_values = calibrate(lg.Guide(ignored="b"))
    assert p_values.pop("log-likelihood") < 0.001
    assert min(p_values.values()) > 0.001


def test_rank_by_hand():
    """A guide of constants: the number of draws below the truth is known."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(x.new_zeros(()), 1e-9))

    found = simulation_based_calibration(model, guide, torch.zeros(50), draws=9)
    assert (found.ranks["z"] >= 0.9).all()  # all nine below
    assert (found.ranks["z"] <= 1.0).all()


def mixture(masses, chosen):
    """A category y and x ~ N(2y, 1) in the two categories, with the posterior's odds multiplied."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", chosen(torch.tensor(masses).double()))
            value = y.double() if y.dim() == 1 else y[:, 1]
            pyro.sample("x", dist.Normal(2 * value, 1.0), obs=x)

    def guide(x, power=1.0):
        logits = torch.tensor(masses).double().log() + dist.Normal(torch.tensor([0.0, 2.0]).double(), 1.0).log_prob(
            x[:, None]
        )
        with pyro.plate("data", len(x)):
            pyro.sample("y", chosen(((power * logits).log_softmax(-1)).exp()))

    return model, guide


@pytest.mark.parametrize("family", [dist.Categorical, dist.OneHotCategorical])
def test_categories(family):
    model, guide = mixture([0.4, 0.6], lambda probs: family(probs=probs))
    x = torch.zeros(300).double()
    torch.manual_seed(0)
    right = simulation_based_calibration(model, guide, x, draws=49).p_values()
    assert right.keys() == {"y = 0", "y = 1", "log-likelihood"}
    assert min(right.values()) > 0.01 / 3
    wrong = simulation_based_calibration(model, lambda data: guide(data, power=4.0), x, draws=49).p_values()
    assert min(wrong["y = 0"], wrong["y = 1"]) < 0.001  # far too sure


def test_bernoulli_ties_are_broken_at_random():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(x.new_full((), 0.3)))
            pyro.sample("x", dist.Normal(0 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(x.new_full((), 0.3)))

    torch.manual_seed(0)
    found = simulation_based_calibration(model, guide, torch.zeros(400).double(), draws=3)
    assert kstest(found.ranks["z"], "uniform").pvalue > 0.01
    assert kstest(found.ranks["log-likelihood"], "uniform").pvalue > 0.01  # all draws tie


def test_simulated_data_take_the_place_of_the_argument():
    seen = []

    def model(labels, flat):
        x = flat.reshape(len(flat), -1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample(
                "x", dist.Normal(z[:, None] + 100 * labels[:, None], 1e-3).expand([len(x), 4]).to_event(1), obs=x
            )

    def guide(labels, flat):
        seen.append((labels, flat))
        with pyro.plate("data", len(flat)):
            pyro.sample("z", dist.Normal(flat.new_zeros(()), 1.0))

    labels = torch.tensor([0.0, 1.0, 2.0])
    simulation_based_calibration(model, guide, labels, torch.zeros(3, 2, 2), draws=2)
    for given_labels, given in seen:
        assert given_labels.equal(labels)
        assert given.shape == (3, 2, 2)
        assert ((given.mean((1, 2)) - 100 * labels).abs() < 10).all()


def test_refusals():
    def doubled(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=2 * x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    with pytest.raises(ValueError, match="the data of the observed site 'x' are none of the model's arguments"):
        simulation_based_calibration(doubled, guide, torch.ones(2))
    with pytest.raises(ValueError, match="the model observes nothing"):
        simulation_based_calibration(guide, guide, torch.ones(2))
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        uniformity_p_value(np.zeros(0))
    with pytest.raises(ValueError, match="numbers in"):
        uniformity_p_value(np.array([1.5]))


@pytest.mark.parametrize("count", [1, 2, 10, 200])
def test_p_values_of_uniform_numbers(count):
    values = np.random.default_rng(1).uniform(size=(400, count))
    p_values = np.array([uniformity_p_value(row) for row in values])
    for level in (0.05, 0.2):
        # The p-value is conservative where counts tie; 3 standard errors of a share of 400 above the level.
        assert (p_values <= level).mean() <= level + 3 * (level * (1 - level) / 400) ** 0.5
    if count == 200:
        assert (p_values <= 0.2).mean() >= 0.2 - 3 * (0.16 / 400) ** 0.5


def test_p_value_of_numbers_that_are_not_uniform():
    values = np.random.default_rng(0).beta(0.6, 0.6, size=200)
    assert uniformity_p_value(values) < 0.01
    assert uniformity_p_value(np.full(30, 0.5)) < 1e-6


@pytest.mark.parametrize("count", [5, 60, 250])
def test_band_and_test_agree(count):
    grid, lower, upper = ecdf_band(count, 0.95)
    values = np.random.default_rng(2).uniform(size=(300, count)) ** 1.1
    outside = 0
    for row in values:
        ecdf = (row[:, None] <= grid).mean(0)
        leaves = bool(((ecdf < lower - 1e-12) | (ecdf > upper + 1e-12)).any())
        outside += leaves
        assert leaves == (uniformity_p_value(row) <= 0.05)
    assert 0 < outside < 300 or count == 5  # five numbers seldom leave any band
    assert all(a <= b for a, b in pairwise(lower))


def test_hundreds_of_quantities_can_be_rejected_together():
    """Beyond the simulated samples the p-value is bounded, and the band is that of the bound."""
    p = uniformity_p_value(np.full(200, 0.99))
    assert 0 < p < 1e-100
    grid, lower, upper = ecdf_band(30, 1 - 1e-6)
    assert (lower <= grid).all()
    assert (grid <= upper).all()
    wider, narrower = ecdf_band(30, 1 - 1e-8), ecdf_band(30, 0.999)
    assert (wider[1] <= lower).all()
    assert (lower <= narrower[1]).all()
    assert (narrower[2] <= upper).all()
    rng = np.random.default_rng(0)
    for row in rng.uniform(size=(40, 30)) ** rng.uniform(1, 6, (40, 1)):
        ecdf = (row[:, None] <= grid).mean(0)
        outside = ((ecdf < lower - 1e-12) | (ecdf > upper + 1e-12)).any()
        assert outside == (uniformity_p_value(row) <= 1e-6)
