"""Multivariate normals and mixtures: sub-vectors, several cells, and draws given some variables."""

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Size
from torch.distributions import Categorical, MultivariateNormal

from pyro_hfvae.sites import CorrelatedSite, MixtureSite, Site, read_site


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
    site = read_site("z", fn, value)
    assert isinstance(site, CorrelatedSite)
    found = site.log_prob(some)
    assert found.shape == (particles, batch)
    torch.testing.assert_close(found, expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2), st.integers(2, 5), st.integers(1, 4))
def test_a_correlated_gaussian_with_a_diagonal_covariance_is_independent(particles, batch, variables):
    generator = torch.Generator().manual_seed(0)
    loc, value = (torch.randn(particles, batch, variables, generator=generator).double() for _ in range(2))
    scale = 0.1 + torch.rand(particles, batch, variables, generator=generator).double()
    site = read_site("z", dist.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale)), value)
    indices = range(0, variables, 2)
    expected = dist.Normal(loc, scale).log_prob(value)[..., list(indices)].sum(-1)
    torch.testing.assert_close(site.log_prob(indices), expected)
    (features, base), (coefficients, constant) = site.features(indices), site.coefficients(indices)
    torch.testing.assert_close((features * coefficients).sum(-1) + constant + base, expected)


@pytest.mark.parametrize("mixed", [False, True])
def test_several_vectors_in_one_site(mixed):
    """Two cells of three dependent variables: a group is a sub-vector of each cell."""
    torch.manual_seed(0)
    if mixed:
        logits, loc = torch.randn(4, 2, 2).double(), torch.randn(4, 2, 2, 3).double()
        fn = dist.MixtureSameFamily(Categorical(logits=logits), dist.Normal(loc, 0.7).to_event(1)).to_event(1)

        def part(cell, some):
            component = dist.Normal(loc[:, cell][..., some], 0.7).to_event(1)
            return dist.MixtureSameFamily(Categorical(logits=logits[:, cell]), component)
    else:
        loc, matrix = torch.randn(4, 2, 3).double(), covariance(3, 4, 2)
        fn = dist.MultivariateNormal(loc, matrix).to_event(1)

        def part(cell, some):
            return MultivariateNormal(loc[:, cell][..., some], matrix[:, cell][..., some, :][..., some])

    value = fn.sample()
    site = read_site("z", fn, value)
    assert site.variables == 6
    for indices in ([0], [4], [0, 2], [0, 3], [1, 2, 4], [0, 1, 3, 4], [2, 3, 4, 5], range(6)):
        expected = 0
        for cell in range(2):
            if some := [index % 3 for index in indices if index // 3 == cell]:
                expected = expected + part(cell, some).log_prob(value[:, cell, some])
        torch.testing.assert_close(site.log_prob(indices), expected)
    assert site.features([0]) is None
    assert site.coefficients([0]) is None
    with pytest.raises(NotImplementedError, match="^site 'z' " + ("is a mixture" if mixed else "has several multi")):
        site.draw(Size([4]), [0])


def test_mixtures_of_what_has_no_marginals_are_one_variable():
    torch.manual_seed(0)
    component = dist.Dirichlet(1 + torch.rand(4, 2, 3))
    fn = dist.MixtureSameFamily(Categorical(logits=torch.randn(4, 2)), component)
    site = read_site("z", fn, fn.sample())
    assert type(site) is Site
    assert site.variables == 1
    torch.testing.assert_close(site.log_prob([0]), fn.log_prob(site.value))
    pair = dist.MixtureSameFamily(
        Categorical(logits=torch.randn(4, 2)), dist.Normal(torch.randn(4, 2, 3), 1.0).to_event(1)
    )
    assert isinstance(read_site("z", pair, pair.sample()), MixtureSite)


def test_draws_given_some_variables_of_a_multivariate_normal():
    """Mean Σ_ag Σ_gg⁻¹ z_g and covariance of the Schur complement; 200,000 draws, so about 3e-3 of standard error."""
    torch.manual_seed(0)
    matrix = torch.tensor([[2.0, 0.8, -0.5], [0.8, 1.0, 0.3], [-0.5, 0.3, 1.5]])
    fn = dist.MultivariateNormal(torch.tensor([1.0, -1.0, 0.5]), matrix).expand([2])
    value = torch.tensor([[[0.3, 9.0, 9.0], [-2.0, 9.0, 9.0]]])
    draws = read_site("z", fn, value).draw(Size([1, 200_000, 1, 2]), [0])[0, :, 0]  # [P, B, V]
    assert (draws[..., 0] == value[0, :, 0]).all()
    gain = matrix[1:, 0] / matrix[0, 0]
    for b in range(2):
        mean = fn.loc[b, 1:] + gain * (value[0, b, 0] - 1.0)
        torch.testing.assert_close(draws[:, b, 1:].mean(0), mean, atol=0.015, rtol=0)
        expected = matrix[1:, 1:] - gain[:, None] * matrix[0, 1:]
        torch.testing.assert_close(draws[:, b, 1:].T.cov(), expected, atol=0.02, rtol=0)
