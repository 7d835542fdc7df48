"""Densities of parts of a site, and draws given parts of it, against torch on sub-matrices."""

import math

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from pyro_hfvae.infer import densities


def covariance(size, *batch):
    root = torch.randn(*batch, size, size + 1, dtype=torch.float64)
    return root @ root.mT


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.booleans(), st.data())
def test_slices_of_a_multivariate_normal(particles, batch, size, shared, low_rank, data):
    torch.manual_seed(0)
    lead = () if shared else (batch,)
    loc = torch.randn(*lead, size, dtype=torch.float64)
    if low_rank:
        factor, diagonal = torch.randn(*lead, size, 2).double(), torch.rand(*lead, size).double() + 0.1
        fn = dist.LowRankMultivariateNormal(loc, factor, diagonal).expand([batch])
    else:
        fn = dist.MultivariateNormal(loc, covariance_matrix=covariance(size, *lead)).expand([batch])
    value = torch.randn(particles, batch, size, dtype=torch.float64)
    some = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    matrix = fn.covariance_matrix[..., some, :][..., some]
    expected = MultivariateNormal(fn.loc[..., some], matrix).log_prob(value[..., some])
    found = densities.SiteDensity(fn, value)(some)
    assert found.shape == (particles, batch)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", [dist.Laplace, dist.Normal])
def test_variables_of_an_event_of_two_dimensions_in_c_order(family):
    fn = family(torch.arange(6.0).reshape(2, 3), 1.0).expand([4, 2, 3]).to_event(2)
    value = torch.randn(1, 4, 6)
    found = densities.SiteDensity(fn, value)([1, 5])
    expected = family(torch.tensor([1.0, 5.0]), 1.0).log_prob(value[..., [1, 5]]).sum(-1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (5, 4, 2, 3), (5, 4, 1, 3), (5, 1, 1, 1)])
@pytest.mark.parametrize("event", [(), (2,), (2, 2)])
def test_normal_variables_of_any_batch_shape(shape, event):
    loc = torch.randn(torch.Size([*shape, *event]))
    fn = dist.Normal(loc, torch.rand(torch.Size(event)) + 0.5).to_event(len(event))
    value = torch.randn(2, 3, math.prod(event))
    expected = fn.log_prob(value.reshape(2, 3, *event)).expand(torch.broadcast_shapes(shape, (2, 3)))
    found = densities.SiteDensity(fn, value)(range(value.shape[-1]))
    torch.testing.assert_close(found.expand(expected.shape), expected)


def test_draws_given_some_variables_of_a_multivariate_normal():
    """Mean Σ_ag Σ_gg⁻¹ z_g and covariance of the Schur complement; 200,000 draws, so about 3e-3 of standard error."""
    torch.manual_seed(0)
    matrix = torch.tensor([[2.0, 0.8, -0.5], [0.8, 1.0, 0.3], [-0.5, 0.3, 1.5]])
    fn = dist.MultivariateNormal(torch.tensor([1.0, -1.0, 0.5]), matrix).expand([2])
    value = torch.tensor([[[0.3, 9.0, 9.0], [-2.0, 9.0, 9.0]]])
    draws = densities.draw_given(fn, [0], value, torch.Size([1, 200_000, 1, 2]))[0, :, 0]  # [P, B, V]
    assert (draws[..., 0] == value[0, :, 0]).all()
    gain = matrix[1:, 0] / matrix[0, 0]
    for b in range(2):
        mean = fn.loc[b, 1:] + gain * (value[0, b, 0] - 1.0)
        torch.testing.assert_close(draws[:, b, 1:].mean(0), mean, atol=0.015, rtol=0)
        expected = matrix[1:, 1:] - gain[:, None] * matrix[0, 1:]
        torch.testing.assert_close(draws[:, b, 1:].T.cov(), expected, atol=0.02, rtol=0)


def test_one_ancestor_for_all_data_is_drawn_from_the_same_distribution():
    torch.manual_seed(0)
    for fn in (
        dist.Normal(torch.tensor([1.0, -2.0]), 0.5).to_event(1),
        dist.Normal(1.0, 0.5).expand([7, 2]).to_event(1),
    ):
        draws = densities.draw(fn, torch.Size([3, 10_001, 1, 1]))
        assert draws.shape == (3, 10_001, 1, 1, 2)
        assert draws.unique().numel() > 0.99 * draws.numel()  # float32 repeats a few by chance
        assert (draws.flatten(0, 3).std(0) - 0.5).abs().max() < 0.01
        assert (draws.flatten(0, 3)[:, 0].mean() - 1).abs() < 0.02


LOC = torch.tensor([[1.0], [2.0]])


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (dist.Normal(torch.zeros(3), 1.0).expand([2, 3]).to_event(1), False),
        (dist.Normal(torch.zeros(2, 3), 1.0).to_event(1), False),
        (dist.Normal(LOC, 1.0).to_event(1), True),
        (dist.Normal(torch.zeros(5, 1, 3), LOC).to_event(1), True),
        (dist.Normal(torch.zeros(5, 1, 3), torch.ones(3)).expand([5, 2, 3]).to_event(1), False),
        (dist.MultivariateNormal(torch.zeros(2), torch.eye(2)).expand([2]), False),
        (dist.MultivariateNormal(torch.zeros(2), torch.stack([torch.eye(2), 2 * torch.eye(2)])), True),
        (dist.OneHotCategorical(logits=torch.zeros(2, 3)), False),
        (dist.RelaxedOneHotCategorical(torch.tensor(1.0), logits=LOC * torch.tensor([0.0, 1.0])), True),
        (dist.Normal(torch.zeros(3), 1.0).to_event(1), False),
    ],
)
def test_whether_a_prior_differs_between_data(fn, expected):
    assert densities.varies(fn) is expected
