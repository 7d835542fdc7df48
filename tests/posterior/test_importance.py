"""Importance weights, bounds and k̂ against a model whose evidence is known."""

import math

import linear_gaussian as lg
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae import Concrete
from pyro_hfvae.posterior import draw_guide, draw_log_weights, guide_quality, importance_bounds


@pytest.mark.parametrize("size", [1, 2, 7])
def test_weights_of_the_exact_guide_are_the_evidence(size):
    torch.manual_seed(0)
    x = lg.data(size)
    draw = draw_guide(lg.model, lg.Guide(), x)
    torch.testing.assert_close(draw.log_weight, lg.evidence(x))
    assert draw.log_weight.shape == (size,)


def test_each_density_against_one_written_out():
    torch.manual_seed(0)
    x = lg.data(3)
    draw = draw_guide(lg.model, lg.Guide(scale=0.7, shift=0.2), x)
    z = torch.cat([draw.values["a"], draw.values["b"]], -1)
    loc, scale = lg.posterior(x)

    def normal(value, mean, spread):
        return (-((value - mean) ** 2) / (2 * spread**2) - spread.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    torch.testing.assert_close(draw.log_q, normal(z, loc + 0.2, 0.7 * scale))
    torch.testing.assert_close(draw.log_prior, normal(z, torch.zeros(3), torch.ones(3).double()))
    torch.testing.assert_close(draw.log_likelihood, normal(x, z @ lg.LOADINGS.mT, torch.tensor(lg.NOISE).double()))


@pytest.mark.parametrize("draws", [25, 100])
def test_exact_guide_has_no_gap(draws):
    x = lg.data(4)
    quality = guide_quality(lg.model, lg.Guide(), x, draws=draws)
    assert quality.gap == pytest.approx(np.zeros(4), abs=1e-12)
    for bound in quality.bounds:
        assert bound == pytest.approx(lg.evidence(x).numpy(), abs=1e-12)
    assert (quality.pareto_k == 0).all()
    assert quality.counts[-1] == draws


def test_bounds_of_a_wrong_guide_rise_to_the_evidence():
    torch.manual_seed(0)
    x = lg.data(3)
    weights = torch.stack(list(draw_log_weights(lg.model, lg.Guide(scale=1.3), x, draws=1000)))
    bounds = importance_bounds(weights, [1, 3, 10, 100, 500])
    # KL of normals, closed form: 3 variables of scale 1.3. Standard error of the mean of 1,000 weights below .04.
    kl = 3 * (0.5 * 1.3**2 - 0.5 - math.log(1.3))
    torch.testing.assert_close(bounds[0], lg.evidence(x) - kl, atol=0.12, rtol=0)
    torch.testing.assert_close(bounds[-1], lg.evidence(x), atol=0.05, rtol=0)
    assert (bounds.mean(1).diff() > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.data())
def test_bounds_against_a_loop(draws, size, data):
    counts = data.draw(st.lists(st.integers(1, draws), min_size=1, max_size=3))
    weights = torch.randn(draws, size, dtype=torch.float64) * 3
    found = importance_bounds(iter(weights), counts)
    for place, count in enumerate(counts):
        for n in range(size):
            groups = [weights[start : start + count, n].exp().mean().log() for start in range(0, draws, count)]
            full = groups[: draws // count]
            assert found[place, n].item() == pytest.approx(sum(full).item() / len(full))


def test_bounds_do_not_overflow():
    assert importance_bounds(torch.full((4, 1), -5000.0), [4]).item() == pytest.approx(-5000)


def test_narrow_guide_has_a_high_k():
    torch.manual_seed(0)
    quality = guide_quality(lg.model, lg.Guide(scale=0.3), lg.data(20), draws=500)
    assert (quality.pareto_k > 0.7).mean() > 0.6
    # An unbiased bound never exceeds the evidence by much: log-mean of weights, whose mean is p(x).
    assert (quality.gap > 0.3).all()


def test_concrete_weights_are_those_of_the_relaxed_values():
    logits = torch.tensor([[1.0, -1.0, 0.3], [0.0, 2.0, 0.0]])

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.8, logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(y[:, 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", Concrete(0.5, logits=logits))

    torch.manual_seed(0)
    draw = draw_guide(model, guide, torch.zeros(2))
    y = draw.values["y"].double()

    def density(value, weights, temperature):
        # Maddison et al. 2017, eq. of the Concrete density
        k = value.shape[-1]
        log_alpha = weights.double()
        parts = log_alpha - (temperature + 1) * value.log()
        scale = math.lgamma(k) + (k - 1) * math.log(temperature)
        return scale + parts.sum(-1) - k * (log_alpha - temperature * value.log()).logsumexp(-1)

    torch.testing.assert_close(draw.log_q, density(y, logits, 0.5), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(draw.log_prior, density(y, torch.zeros(3), 0.8), atol=1e-4, rtol=1e-4)


def test_scale_of_a_plate_does_not_enter_and_masks_do():
    x = lg.data(4)
    seen = torch.tensor([True, False, True, True])

    def model(data):
        with pyro.plate("data", 400, subsample_size=4), pyro.poutine.mask(mask=seen):
            pyro.sample("x", dist.Normal(torch.zeros(4, 4).double(), 1.0).to_event(1), obs=data)
        with pyro.plate("latent", 4):
            pyro.sample("z", dist.Normal(torch.zeros(4).double(), 1.0))

    def guide(data):
        with pyro.plate("latent", 4):
            pyro.sample("z", dist.Normal(torch.zeros(4).double(), 1.0))

    draw = draw_guide(model, guide, x)
    expected = dist.Normal(0.0, 1.0).log_prob(x).sum(-1) * seen
    torch.testing.assert_close(draw.log_likelihood, expected)
    torch.testing.assert_close(draw.log_weight, expected)


def test_refusals():
    x = lg.data(2)

    def no_b(data):
        with pyro.plate("data", len(data)):
            pyro.sample("a", dist.Normal(data.new_zeros(2), 1.0).to_event(1))

    def more(data):
        lg.Guide()(data)
        with pyro.plate("more", len(data)):
            pyro.sample("c", dist.Normal(0.0, 1.0))

    def once(data):
        pyro.sample("a", dist.Normal(data.new_zeros(2), 1.0).to_event(1))
        pyro.sample("b", dist.Normal(data.new_zeros(1), 1.0).to_event(1))

    with pytest.raises(ValueError, match="the model samples site 'b', which the guide does not; .* samples: 'a'"):
        draw_guide(lg.model, no_b, x)
    with pytest.raises(ValueError, match="the guide samples site 'c', which the model does not; .*: 'a', 'b'"):
        draw_guide(lg.model, more, x)
    with pytest.raises(ValueError, match=r"site 'a' has the batch shape \(\) in the guide; it must be \(B,\)"):
        draw_guide(lg.model, once, x)
    with pytest.raises(ValueError, match="PSIS needs 25 draws or more, got 24"):
        guide_quality(lg.model, lg.Guide(), x, draws=24)
    with pytest.raises(ValueError, match="a bound with K = 5 needs as many draws, got 4"):
        importance_bounds(torch.zeros(4, 1), [5])
    with pytest.raises(ValueError, match="must be 1 or more, got"):
        importance_bounds(torch.zeros(4, 1), [0])
    with pytest.raises(ValueError, match="the number of draws must be 1 or more, got 0"):
        draw_log_weights(lg.model, lg.Guide(), x, draws=0)
    with (
        pyro.validation_enabled(False),
        pytest.raises(ValueError, match="importance weights of 2 of the 2 data are not finite"),
    ):
        guide_quality(lg.model, lg.Guide(shift=math.inf), x, draws=25)
