"""The aggregate posterior against the prior, block by block."""

import linear_gaussian as lg
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.posterior import aggregate_against_prior, classifier_two_sample


def compare(guide, size=1000, blocks=None, model=lg.model):
    torch.manual_seed(0)
    return aggregate_against_prior(model, guide, [(part,) for part in lg.data(size).split(300)], blocks)


def test_exact_guide_is_no_different_from_the_prior():
    found = compare(lg.Guide())
    assert list(found) == ["a", "b", "all blocks"]
    assert min(outcome.p_value for outcome in found.values()) > 0.01 / 3
    assert found["a"].held_out == 1000


@pytest.mark.parametrize("guide", [lg.Guide(scale=0.3), lg.Guide(shift=0.5)])
def test_wrong_guides_differ(guide):
    assert compare(guide, 2000)["all blocks"].p_value < 0.001


def test_dependence_between_blocks_shows_in_all_blocks_only():
    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("b", dist.Normal(0.9 * a[:, :1], 0.19**0.5).to_event(1))

    found = compare(guide)
    assert found["all blocks"].p_value < 0.001
    assert min(found["a"].p_value, found["b"].p_value) > 0.001


def test_blocks_of_parts_of_sites():
    found = compare(lg.Guide(shift=1.0), 100, {"first": ["a[0]"], "rest": ["a[1]", "b"]})
    assert list(found) == ["first", "rest", "all blocks"]
    assert list(compare(lg.Guide(), 100, {"one": ["a", "b"]})) == ["one"]


@pytest.mark.slow
def test_false_alarms_of_the_two_sample_test():
    random = np.random.default_rng(0)
    same = [classifier_two_sample(random.normal(size=(60, 2)), random.normal(size=(60, 2))).p_value for _ in range(60)]
    # A binomial p-value is conservative; 5 % of 60 is 3, and 9 is beyond 3 standard errors.
    assert sum(p <= 0.05 for p in same) < 9


def test_more_than_mean_and_covariance_counts():
    random = np.random.default_rng(0)
    ring = random.normal(size=(800, 2))
    ring /= np.linalg.norm(ring, axis=1, keepdims=True) / 2**0.5  # mean and covariance of a normal
    assert classifier_two_sample(ring, random.normal(size=(800, 2))).p_value < 1e-6


def test_same_seed_same_outcome():
    first, second = np.random.default_rng(0).normal(size=(2, 50, 3))
    assert classifier_two_sample(first, second, 3) == classifier_two_sample(first, second, 3)


def test_refusals():
    with pytest.raises(ValueError, match="a two-sample test needs 20 draws of each kind or more, got 19"):
        compare(lg.Guide(), 19)
    with pytest.raises(ValueError, match=r"of one shape are compared, got \(30, 2\) and \(30, 3\)"):
        classifier_two_sample(np.zeros((30, 2)), np.zeros((30, 3)))
    with pytest.raises(ValueError, match="no batch was given"):
        aggregate_against_prior(lg.model, lg.Guide(), [])
    with pytest.raises(ValueError, match="a block is named 'all blocks'"):
        compare(lg.Guide(), 30, {"all blocks": ["a"], "b": ["b"]})
