"""Masses and values of discrete sites."""

import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.distributions import Concrete, ConcreteDensity, StraightThroughConcrete
from pyro_hfvae.sites import DiscreteSite, read_site

B, V, K = 4, 2, 3
LOGITS = torch.randn(B, V, K, generator=torch.Generator().manual_seed(0)).double()
ODDS = LOGITS[..., 0]
TEMPERATURE = torch.tensor(0.7).double()
OF_CATEGORIES = {
    "Concrete": Concrete(0.7, logits=LOGITS),
    "StraightThroughConcrete": StraightThroughConcrete(0.7, logits=LOGITS),
    "RelaxedOneHotCategorical": dist.RelaxedOneHotCategorical(TEMPERATURE, logits=LOGITS),
    "OneHotCategorical": dist.OneHotCategorical(logits=LOGITS),
    "Categorical": dist.Categorical(logits=LOGITS),
}
BINARY = {
    "Bernoulli": dist.Bernoulli(logits=ODDS),
    "RelaxedBernoulli": dist.RelaxedBernoulli(TEMPERATURE, logits=ODDS),
}


@pytest.mark.parametrize("name", [*OF_CATEGORIES, *BINARY])
def test_masses_values_and_parameters(name):
    torch.manual_seed(0)
    fn = (OF_CATEGORIES | BINARY)[name].to_event(1)
    site = read_site("y", fn, fn.sample())
    assert isinstance(site, DiscreteSite)
    expected = LOGITS.softmax(-1) if name in OF_CATEGORIES else torch.stack([1 - ODDS.sigmoid(), ODDS.sigmoid()], -1)
    assert (site.variables, site.categories) == (V, expected.shape[-1])
    assert (site.binary, site.relaxed) == (
        name in BINARY,
        name not in ("OneHotCategorical", "Categorical", "Bernoulli"),
    )
    torch.testing.assert_close(site.log_mass.exp(), expected)
    torch.testing.assert_close(site.mean, expected)
    again = read_site("y", site.with_parameters(site.parameters(), fn.batch_shape), site.value)
    torch.testing.assert_close(again.log_mass, site.log_mass)
    assert type(again.base) is type(site.base)
    for category in range(site.categories):
        one_hot = torch.nn.functional.one_hot(torch.full((B, V), category), site.categories).double()
        vertex = site.vertex(one_hot)
        assert vertex.shape == fn.batch_shape + fn.event_shape
        if name in ("OneHotCategorical", "Categorical", "Bernoulli"):
            torch.testing.assert_close(fn.base_dist.log_prob(vertex), site.log_mass[..., category])


@pytest.mark.parametrize("name", ["Concrete", "RelaxedBernoulli"])
def test_the_nearest_category_has_the_gradient_of_the_value(name):
    torch.manual_seed(0)
    fn = (OF_CATEGORIES | BINARY)[name].to_event(1)
    value = fn.sample().requires_grad_()
    nearest = read_site("y", fn, value).nearest
    assert ((nearest == 0) | (nearest == 1)).all()
    weights = torch.arange(float(nearest.numel())).view(nearest.shape).double()
    torch.testing.assert_close(torch.autograd.grad((weights * nearest).sum(), value)[0], weights)


def test_a_category_without_mass_is_finite_and_has_a_gradient():
    logits = torch.tensor([[[0.0, 1.0, -torch.inf]]], requires_grad=True)
    site = read_site("y", Concrete(logits=logits, validate_args=False).to_event(1), torch.ones(1, 1, 3) / 3)
    assert site.log_mass.isfinite().all()
    (site.log_mass.exp() * site.log_mass).sum().backward()
    assert logits.grad[..., :2].isfinite().all()


def test_masses_are_float32_at_least_and_there_is_no_density():
    site = read_site("y", dist.Bernoulli(logits=ODDS.bfloat16()).to_event(1), torch.zeros(B, V))
    assert site.log_mass.dtype == torch.float32
    with pytest.raises(TypeError, match="^site 'y' is discrete: it has masses, and no density$"):
        site.log_prob([0])
    density = read_site("y", ConcreteDensity(0.7, logits=LOGITS).to_event(1), torch.full((B, V, K), 1 / K).double())
    assert not density.discrete
    assert density.variables == V
