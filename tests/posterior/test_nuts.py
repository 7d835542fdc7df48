"""The guide against NUTS, where the posterior is known."""

import linear_gaussian as lg
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import Concrete
from pyro_hfvae.posterior import compare_with_nuts


def compare(guide, **options):
    torch.manual_seed(0)
    pyro.set_rng_seed(0)
    return compare_with_nuts(lg.model, guide, lg.data(1), draws=60, warmup=60, **options)


def test_exact_guide_agrees():
    found = compare(lg.Guide())
    assert found.keys() == {"a", "b"}
    for part in found.values():
        # 120 draws of each: standard errors of about .13 of the shift and .09 of the ratio; 4 of them.
        assert abs(part.shift).max() < 0.5
        assert (abs(part.scale_ratio - 1) < 0.36).all()
        assert part.r_hat < 1.1
        assert part.effective_draws > 30
    assert found["a"].shift.shape == (2,)


@pytest.mark.slow
def test_narrow_and_shifted_guide_does_not():
    found = compare(lg.Guide(scale=0.3, shift=1.0))
    _, scale = lg.posterior(lg.data(1))
    assert abs(found["b"].scale_ratio - 0.3).max() < 0.15
    assert found["b"].shift[0] == pytest.approx(1 / scale[2].item(), abs=0.8)


@pytest.mark.slow
def test_concrete_site_is_sampled_in_its_own_coordinates():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(1.0, logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(y[:, 0], 10.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", Concrete(1.0, logits=x.new_zeros(3)))

    torch.manual_seed(0)
    found = compare_with_nuts(model, guide, torch.zeros(1).double(), draws=300, warmup=100)
    assert abs(found["y"].shift).max() < 0.3
    assert abs(found["y"].scale_ratio - 1).max() < 0.3


def test_refusals():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(x.new_full((), 0.5)))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(x.new_full((), 0.5)))

    with pytest.raises(NotImplementedError, match="NUTS needs continuous latents, and site 'y' is Bernoulli"):
        compare_with_nuts(model, guide, torch.zeros(1))
    with pytest.raises(ValueError, match="NUTS is run for one datum at a time, got a batch of 2"):
        compare_with_nuts(lg.model, lg.Guide(), lg.data(2))
    with pytest.raises(ValueError, match="two chains or more, got 1"):
        compare_with_nuts(lg.model, lg.Guide(), lg.data(1), chains=1)
