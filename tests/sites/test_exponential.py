"""Densities as products: precision, and variables that are taken apart."""

import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.sites import DirichletSite, NormalSite, Site, Univariate, read_site


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
def test_the_product_of_a_normal_density_is_good_to_1e_6_nats_in_float64(scale):
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(50, 3, generator=generator).double()
    value = loc + scale * torch.randn(50, 3, generator=generator).double()
    site = read_site("z", dist.Normal(loc, scale).to_event(1), value)
    (features, base), (coefficients, constant) = site.features(range(3)), site.coefficients(range(3))
    found = (features * coefficients).sum(-1) + constant + base
    torch.testing.assert_close(found, site.fn.log_prob(value), rtol=0, atol=1e-6)


def test_some_variables_by_slices_and_by_lists():
    torch.manual_seed(0)
    fn = dist.Beta(1 + torch.rand(4, 5).double(), 2.0).to_event(1)
    site = read_site("z", fn, fn.sample())
    for indices in ([1, 2, 3], [0, 4], [4, 0], [2]):
        (features, base), (coefficients, constant) = site.features(indices), site.coefficients(indices)
        expected = fn.base_dist.log_prob(site.value)[:, indices].sum(-1)
        torch.testing.assert_close((features * coefficients).sum(-1) + constant + base, expected)


def test_points_on_simplices_are_one_variable_each():
    torch.manual_seed(0)
    fn = dist.Dirichlet(1 + torch.rand(4, 3, 2, 5).double()).to_event(2)
    site = read_site("z", fn, fn.sample())
    assert isinstance(site, DirichletSite)
    assert site.variables == 6
    for indices in ([0], [1, 4], range(6)):
        (features, base), (coefficients, constant) = site.features(indices), site.coefficients(indices)
        expected = fn.base_dist.log_prob(site.value).flatten(1)[:, list(indices)].sum(-1)
        torch.testing.assert_close(site.log_prob(indices), expected)
        torch.testing.assert_close((features * coefficients).sum(-1) + constant + base, expected)


def test_means():
    """Of what is transformed, the transformed mean of what is not: the median."""
    loc, scale = torch.randn(4, 3), torch.rand(4, 3) + 0.5
    value = torch.zeros(4, 3) + 0.5
    assert torch.equal(read_site("z", dist.Normal(loc, scale).to_event(1), value).mean, loc)
    torch.testing.assert_close(read_site("z", dist.LogNormal(loc, scale).to_event(1), value).mean, loc.exp())
    torch.testing.assert_close(read_site("z", dist.Gamma(scale, 2.0).to_event(1), value).mean, scale / 2)


def test_what_is_a_product_and_what_is_not():
    loc, value = torch.zeros(4, 3), torch.full((4, 3), 0.5)
    affine, one_for_each = (dist.transforms.AffineTransform(shift, 2.0) for shift in (1.0, torch.arange(4.0)[:, None]))
    kinds = {
        NormalSite: dist.Normal(loc, 1.0),
        Univariate: dist.TransformedDistribution(dist.Normal(loc, 1.0), [affine]),
        Site: dist.TransformedDistribution(dist.Normal(loc, 1.0), [one_for_each]),
    }
    for kind, fn in kinds.items():
        assert type(read_site("z", fn.to_event(1), value)) is kind
