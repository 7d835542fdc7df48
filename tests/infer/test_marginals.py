"""The inference marginal against a direct sum, term by term, in float64."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.infer import Full, Memory, Stratified, Weighted, mixture
from pyro_hfvae.infer.marginals import Group, Posteriors, expected_log_marginals


def make(particles, batch, normal, categories, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return Posteriors(
        value=draw(particles, batch, normal),
        loc=draw(particles, batch, normal),
        scale=(draw(particles, batch, normal).detach().abs() + 0.1).requires_grad_(),
        log_mass=tuple(draw(particles, batch, k).detach().log_softmax(-1).requires_grad_() for k in categories),
    )


def stratified(posteriors, groups, data_size):
    return expected_log_marginals(posteriors, groups, Stratified().references(posteriors, data_size))


def by_hand(posteriors, group, data_size):
    """E[log q̂(z_G)], with a Python loop for each sum: no logsumexp, no broadcasting."""
    particles, batch = posteriors.value.shape[:2]
    rows = []
    for s in range(particles):
        row = []
        for b in range(batch):
            expected = torch.zeros((), dtype=torch.float64)
            for choice in itertools.product(*(range(posteriors.log_mass[v].shape[-1]) for v in group.discrete)):
                own, mixture = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
                for v, k in zip(group.discrete, choice, strict=True):
                    own = own * posteriors.log_mass[v][s, b, k].exp()
                for other in range(batch):
                    if batch == 1:
                        weight = 1.0
                    elif other == b:
                        weight = 1 / data_size
                    else:
                        weight = (data_size - 1) / (data_size * (batch - 1))
                    density = torch.ones((), dtype=torch.float64)
                    for d in group.normal:
                        scale = posteriors.scale[s, other, d]
                        deviation = (posteriors.value[s, b, d] - posteriors.loc[s, other, d]) / scale
                        density = density * torch.exp(-(deviation**2) / 2) / (scale * math.sqrt(2 * math.pi))
                    for v, k in zip(group.discrete, choice, strict=True):
                        density = density * posteriors.log_mass[v][s, other, k].exp()
                    mixture = mixture + weight * density
                expected = expected + own * mixture.log()
            row.append(expected)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@settings(max_examples=40, deadline=None)
@given(
    particles=st.integers(1, 2),
    batch=st.integers(1, 5),
    normal=st.integers(0, 3),
    categories=st.lists(st.integers(1, 3), max_size=2),
    surplus=st.integers(0, 20),
    chunk=st.sampled_from([1, 20, 2**22]),
    kept=st.sampled_from([0, 2**22]),
    data=st.data(),
)
def test_value_and_gradient_against_direct_sums(particles, batch, normal, categories, surplus, chunk, kept, data):
    posteriors = make(particles, batch, normal, categories)
    group = Group(
        tuple(data.draw(st.lists(st.integers(0, normal - 1), unique=True))) if normal else (),
        tuple(range(len(categories)))[: data.draw(st.integers(0, len(categories)))],
    )
    data_size = 1 if batch == 1 else batch + surplus
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "CHUNK_ELEMENTS", chunk)
        patch.setattr(mixture, "KEPT_ELEMENTS", kept)
        (found,) = stratified(posteriors, [group], data_size)
    expected = by_hand(posteriors, group, data_size)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    inputs = [posteriors.value, posteriors.loc, posteriors.scale, *posteriors.log_mass]
    weights = torch.linspace(0.5, 2.0, found.numel(), dtype=torch.float64).view(found.shape)
    if not (group.normal or group.discrete):
        return  # a constant has no gradient
    kwargs = {"allow_unused": True, "materialize_grads": True}
    ours = torch.autograd.grad((weights * found).sum(), inputs, **kwargs)
    theirs = torch.autograd.grad((weights * expected).sum(), inputs, **kwargs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def test_several_groups_at_once_are_those_one_by_one():
    posteriors = make(1, 6, 4, [3, 2])
    groups = [Group((0, 1, 2, 3), (0, 1)), Group((0, 2)), Group((1, 3), (1,)), Group((), (0,)), Group((3,))]
    groups += [Group((0, 2), (1,)), Group((0, 2), (0, 1)), Group((3,), (0,))]  # of the same densities as others
    inputs = [posteriors.value, posteriors.loc, posteriors.scale, *posteriors.log_mass]
    together = stratified(posteriors, groups, 50)
    for group, found in zip(groups, together, strict=True):
        (alone,) = stratified(posteriors, [group], 50)
        torch.testing.assert_close(found, alone)
        options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
        ours, theirs = (torch.autograd.grad(value.square().sum(), inputs, **options) for value in (found, alone))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


def weights_of(estimator, batch, data_size):
    """The weights [B, B] of the references, read off log q̂ at samples that only one posterior reaches."""
    weights = torch.empty(batch, batch, dtype=torch.float64)
    for reference in range(batch):
        loc = torch.full((1, batch, 1), 1e3, dtype=torch.float64)
        loc[0, reference] = 0.0
        posteriors = Posteriors(torch.zeros_like(loc), loc, torch.ones_like(loc), ())
        (found,) = expected_log_marginals(posteriors, [Group((0,))], estimator.references(posteriors, data_size))
        weights[:, reference] = (found[0] + 0.5 * math.log(2 * math.pi)).exp()
    return weights


def test_own_weight_is_on_the_diagonal_and_not_in_column_0():
    """Regression: three popular repositories put 1/N into column 0, which makes it a plain batch mean."""
    expected = torch.full((4, 4), 99 / 300, dtype=torch.float64).fill_diagonal_(1 / 100)
    torch.testing.assert_close(weights_of(Stratified(), 4, 100), expected)


@settings(deadline=None)
@given(batch=st.integers(2, 12), surplus=st.integers(0, 10**6))
def test_weights_sum_to_one_for_every_batch_size(batch, surplus):
    weights = weights_of(Stratified(), batch, batch + surplus)
    torch.testing.assert_close(weights.sum(1), torch.ones(batch, dtype=torch.float64))


@pytest.mark.parametrize("estimator", [Stratified(), Full()])
def test_a_batch_of_all_data_is_the_exact_mixture(estimator):
    torch.testing.assert_close(weights_of(estimator, 8, 8), torch.full((8, 8), 1 / 8, dtype=torch.float64))


def test_minibatch_weighted_sampling_has_the_same_small_weight_for_all():
    torch.testing.assert_close(weights_of(Weighted(), 4, 50), torch.full((4, 4), 1 / 200, dtype=torch.float64))


def test_batches_without_a_marginal_are_refused():
    for estimator in (Stratified(), Weighted(), Memory(5)):
        with pytest.raises(ValueError, match="a batch of 9 data is larger than data_size=8"):
            estimator.references(make(1, 9, 1, []), 8)
    for estimator in (Stratified(), Memory(5)):
        with pytest.raises(ValueError, match="a batch of one datum cannot estimate .* data_size=8 .* give two or more"):
            estimator.references(make(1, 1, 1, []), 8)
    with pytest.raises(ValueError, match="a batch of 7 data is not all of data_size=8, which the estimator Full needs"):
        Full().references(make(1, 7, 1, []), 8)


def test_far_apart_posteriors_stay_finite():
    posteriors = Posteriors(
        torch.tensor([[[0.0], [1e4]]]), torch.tensor([[[0.0], [1e4]]]), torch.full((1, 2, 1), 1e-3), ()
    )
    (found,) = stratified(posteriors, [Group((0,))], 2)
    # Each sample is at the mean of its own posterior and infinitely far from the other: log(1/2) + log N(0; 0, 1e-3).
    expected = -math.log(2) + math.log(1e3) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found, torch.full((1, 2), expected))


def test_masses_alone_do_not_cancel():
    """The own mass of a category may be 1 and all others' together 1e-30, which 1 + 1e-30 - 1 would lose."""
    masses = torch.tensor([1e-31, 1.0, 9e-31], dtype=torch.float64)[:, None]
    found = mixture.log_sum_of_other_masses(masses)[:, 0]
    torch.testing.assert_close(found.exp(), torch.tensor([1.0, 1e-30, 1.0], dtype=torch.float64), rtol=1e-12, atol=0)
    more = torch.tensor([[3e-30], [0.0]], dtype=torch.float64)
    found = mixture.log_sum_of_other_masses(masses, more)[:, 0]
    torch.testing.assert_close(found[1].exp(), torch.tensor(4e-30, dtype=torch.float64), rtol=1e-12, atol=0)
    assert mixture.log_sum_of_other_masses(masses[:1]).item() == mixture.NOTHING


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 900, 1000, 1400, 10**6])
def test_pieces_are_equal_parts_about_as_large_as_asked(count, size, monkeypatch):
    monkeypatch.setattr(mixture, "CHUNK_ELEMENTS", 1000)
    share = mixture._share(count, size)
    assert 1 <= share <= count
    assert share == 1 or share * size <= 1500
    assert share == count or share * size >= 500
