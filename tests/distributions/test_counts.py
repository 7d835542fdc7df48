"""Multinomials with a total for each datum, against those of SciPy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyro_hfvae.distributions import MultinomialCounts


def counts(size, kinds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, kinds, generator=generator).double()
    return torch.randint(4, (size, kinds), generator=generator).double(), logits


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 5), kinds=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_density_is_that_of_scipy(size, kinds, seed):
    x, logits = counts(size, kinds, seed)
    found = MultinomialCounts(x.sum(-1), logits, validate_args=True).log_prob(x)
    probs = logits.softmax(-1).numpy()
    expected = [
        float(stats.multinomial.logpmf(row.numpy(), row.sum().item(), p)) for row, p in zip(x, probs, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_draws_have_their_totals_and_moments():
    torch.manual_seed(0)
    _, logits = counts(4, 5)
    total = torch.tensor([0.0, 1.0, 7.0, 300.0]).double()
    fn = MultinomialCounts(total, logits)
    x = fn.sample((20_000,))
    assert x.shape == (20_000, 4, 5)
    assert x.sum(-1).equal(total.expand(20_000, 4))
    assert fn.support.check(x).all()
    assert ((x.mean(0) - fn.mean).abs() <= 5 * (fn.variance / 20_000).sqrt()).all()  # five standard errors
    torch.testing.assert_close(x.var(0), fn.variance, rtol=0.1, atol=1e-3)  # 10 of its standard errors
    torch.testing.assert_close(fn.variance[3], torch.distributions.Multinomial(300, logits=logits[3]).variance)


def test_a_kind_of_probability_0():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    fn = MultinomialCounts(torch.tensor([2.0]), logits)
    assert fn.log_prob(torch.tensor([[1.0, 0.0, 1.0]])).item() == pytest.approx(torch.tensor(0.5).log().item())
    assert fn.log_prob(torch.tensor([[1.0, 1.0, 0.0]])).item() == -torch.inf
    assert fn.sample((50,))[..., 1].eq(0).all()


def test_particles_and_expanding():
    x, logits = counts(3, 4)
    fn = MultinomialCounts(x.sum(-1), torch.stack([logits, -logits]))
    assert (fn.batch_shape, fn.event_shape) == ((2, 3), (4,))
    torch.testing.assert_close(fn.log_prob(x)[1], MultinomialCounts(x.sum(-1), -logits).log_prob(x))
    one = MultinomialCounts(x.sum(-1), logits)
    wide = one.expand((5, 3))
    assert wide.log_prob(x).equal(one.log_prob(x).expand(5, 3))
    assert wide.mean.shape == wide.sample().shape == (5, 3, 4)


def test_what_is_no_count_is_refused():
    x, logits = counts(3, 4)
    fn = MultinomialCounts(x.sum(-1), logits, validate_args=True)
    with pytest.raises(ValueError, match="to be within the support"):
        fn.log_prob(x - 0.5)
