"""Concrete: what torch's relaxed categorical gets wrong, and ours must not."""

import math

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from pyro_hfvae import Concrete
from pyro_hfvae.distributions import log_mass, nearest_category

LOGITS = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.0, 5.0]], dtype=torch.float64)


def test_mass_is_that_of_the_categories():
    torch.testing.assert_close(Concrete(0.5, logits=LOGITS).log_mass, LOGITS.log_softmax(-1))
    probs = torch.tensor([0.2, 0.3, 0.5])
    torch.testing.assert_close(Concrete(probs=probs).log_mass.exp(), probs)


def test_arg_max_of_a_sample_has_the_mass_of_the_category():
    """The Gumbel-max property: the largest coordinate is a draw of the categorical, at any temperature."""
    torch.manual_seed(0)
    fn = Concrete(0.66, logits=torch.tensor([0.3, -1.0, 2.0]))
    n = 40_000
    found = fn.rsample((n,)).argmax(-1).bincount(minlength=3) / n
    # five standard errors of a proportion
    assert (found - fn.log_mass.exp()).abs().max() < 5 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("temperature", [0.66, 0.3, 0.1, 0.01])
def test_samples_pass_their_own_check_at_any_temperature(temperature):
    """Torch's own class refuses its samples at random for temperatures of .2 and less."""
    torch.manual_seed(0)
    fn = Concrete(temperature, logits=torch.randn(100, 10), validate_args=True)
    for _ in range(20):
        value = fn.rsample()
        assert fn.log_prob(value).isfinite().all()
        assert (value > 0).all()


def test_density_is_that_of_torch():
    ours = Concrete(0.7, logits=LOGITS)
    theirs = dist.RelaxedOneHotCategorical(torch.tensor(0.7, dtype=torch.float64), logits=LOGITS)
    value = theirs.sample()
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))


def test_gradient_of_a_sample_reaches_logits():
    logits = LOGITS.clone().requires_grad_()
    torch.manual_seed(0)
    Concrete(logits=logits).rsample()[..., 0].sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any()


def test_one_hot_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="an exact one-hot, perhaps.*use log_mass"):
        Concrete(logits=LOGITS, validate_args=True).log_prob(torch.eye(3, dtype=torch.float64)[:2])


def test_value_off_the_simplex_is_refused():
    with pytest.raises(ValueError, match="must sum to 1"):
        Concrete(logits=LOGITS, validate_args=True).log_prob(torch.full((2, 3), 0.5, dtype=torch.float64))


def test_bad_arguments():
    with pytest.raises(ValueError, match="temperature must be above 0, got -1"):
        Concrete(-1.0, logits=LOGITS)
    with pytest.raises(ValueError, match="one temperature for all, got the shape \\(2,\\)"):
        Concrete(torch.ones(2), logits=LOGITS)
    with pytest.raises(ValueError, match="either probs or logits"):
        Concrete(0.5)


def test_kl_is_exact_and_of_the_categories():
    p, q = LOGITS.softmax(-1), torch.full((3,), 1 / 3, dtype=torch.float64)
    by_hand = torch.stack([sum(p[i, k] * (p[i, k] / q[k]).log() for k in range(3)) for i in range(2)])
    ours, prior = Concrete(logits=LOGITS), Concrete(0.9, probs=q)
    torch.testing.assert_close(kl_divergence(ours, prior), by_hand)
    pyro_prior = dist.RelaxedOneHotCategorical(torch.tensor(0.9), probs=q)
    torch.testing.assert_close(kl_divergence(ours, pyro_prior), by_hand)
    torch.testing.assert_close(kl_divergence(ours, dist.OneHotCategorical(probs=q)), by_hand)


def test_mass_of_an_impossible_category_gives_no_nan():
    logits = torch.tensor([0.0, -math.inf, 1.0], requires_grad=True)
    mass = log_mass(Concrete(logits=logits, validate_args=False))
    entropy = -(mass.exp() * mass).sum()
    entropy.backward()
    assert entropy.isfinite()
    assert logits.grad is not None
    assert logits.grad[[0, 2]].isfinite().all()


def test_under_bf16_autocast_a_sample_is_float32_and_on_the_simplex():
    layer = torch.nn.Linear(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fn = Concrete(0.3, logits=layer(torch.randn(64, 4)), validate_args=True)
        value = fn.rsample()
        assert value.dtype == torch.float32
        assert fn.log_prob(value).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    categories=st.integers(2, 6),
    extra=st.lists(st.integers(1, 3), max_size=2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_shapes(batch, categories, extra, dtype):
    fn = Concrete(logits=torch.zeros(*batch, categories, dtype=dtype)).expand([*extra, *batch])
    assert isinstance(fn, Concrete)
    assert fn.rsample((2,)).shape == (2, *extra, *batch, categories)
    assert fn.rsample().dtype == dtype
    assert fn.log_mass.shape == (*extra, *batch, categories)
    assert fn.to_event(fn.batch_shape.__len__()).event_shape == (*extra, *batch, categories)


def test_the_nearest_category_is_one_hot_to_the_bit_and_has_the_gradient_of_the_sample():
    value = Concrete(0.5, logits=torch.randn(200, 7)).rsample().requires_grad_()
    vertex = nearest_category(value)
    assert ((vertex == 0) | (vertex == 1)).all()
    assert (vertex.sum(-1) == 1).all()
    assert (vertex.argmax(-1) == value.argmax(-1)).all()
    weight = torch.randn(200, 7)
    (gradient,) = torch.autograd.grad((weight * vertex).sum(), value)
    torch.testing.assert_close(gradient, weight)


def test_the_nearest_category_is_distributed_as_the_categorical():
    """Gumbel-max, at any temperature: 100,000 draws, within 4 standard errors (.0016 at most each)."""
    logits = torch.tensor([0.0, 1.0, -1.0])
    for temperature in (0.3, 2.0):
        torch.manual_seed(0)
        sample = Concrete(temperature, logits=logits).rsample((100_000,))
        assert (nearest_category(sample).mean(0) - logits.softmax(-1)).abs().max() < 4 * 0.0016
