"""The weights of the references."""

import math

import pytest
import torch
from aggregates import Batch, Group, draw_batch, estimated, sample_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.infer import Exact, Memory, Minibatch, MinibatchWeighted


def weights_of(estimator, batch, data_size):
    """The weights [B, B] of the references, read off log q̂ at samples that only one posterior reaches."""
    weights = torch.empty(batch, batch, dtype=torch.float64)
    for reference in range(batch):
        loc = torch.full((1, batch, 1), 1e3, dtype=torch.float64)
        loc[0, reference] = 0.0
        (found,) = estimated(
            estimator, Batch(torch.zeros_like(loc), loc, torch.ones_like(loc)), [Group((0,))], data_size
        )
        weights[:, reference] = (found[0] + 0.5 * math.log(2 * math.pi)).exp()
    return weights


def test_own_weight_is_on_the_diagonal_and_not_in_column_0():
    """Regression: three popular repositories put 1/N into column 0, which makes it a plain batch mean."""
    expected = torch.full((4, 4), 99 / 300, dtype=torch.float64).fill_diagonal_(1 / 100)
    torch.testing.assert_close(weights_of(Minibatch(), 4, 100), expected)


@settings(deadline=None)
@given(batch=st.integers(2, 12), surplus=st.integers(0, 10**6))
def test_weights_sum_to_one_for_every_batch_size(batch, surplus):
    weights = weights_of(Minibatch(), batch, batch + surplus)
    torch.testing.assert_close(weights.sum(1), torch.ones(batch, dtype=torch.float64))


@pytest.mark.parametrize("estimator", [Minibatch(), Exact()])
def test_a_batch_of_all_data_is_the_exact_mixture(estimator):
    torch.testing.assert_close(weights_of(estimator, 8, 8), torch.full((8, 8), 1 / 8, dtype=torch.float64))


def test_minibatch_weighted_sampling_has_the_same_small_weight_for_all():
    torch.testing.assert_close(weights_of(MinibatchWeighted(), 4, 50), torch.full((4, 4), 1 / 200, dtype=torch.float64))


def test_batches_without_a_marginal_are_refused():
    def batch_of(size):
        return sample_of(draw_batch(1, size, 1, []))

    for estimator in (Minibatch(), MinibatchWeighted(), Memory(5)):
        with pytest.raises(ValueError, match="a batch of 9 data is larger than data_size=8"):
            estimator.references(batch_of(9), 8)
    for estimator in (Minibatch(), Memory(5)):
        with pytest.raises(ValueError, match="a batch of one datum cannot estimate .* data_size=8 .* give two or more"):
            estimator.references(batch_of(1), 8)
    with pytest.raises(
        ValueError, match="a batch of 7 data is not all of data_size=8, which the estimator Exact needs"
    ):
        Exact().references(batch_of(7), 8)
