"""The aggregate against a direct sum, term by term, in float64."""

import itertools
import math

import pytest
import torch
from aggregates import Batch, Group, draw_batch, estimated
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.infer import Minibatch, pairwise


def by_hand(batch, group, data_size):
    """E[log q̂(z_G)], with a Python loop for each sum: no logsumexp, no broadcasting."""
    particles, size = batch.value.shape[:2]
    log_mass = batch.log_mass
    rows = []
    for s in range(particles):
        row = []
        for b in range(size):
            expected = torch.zeros((), dtype=torch.float64)
            for choice in itertools.product(*(range(log_mass[v].shape[-1]) for v in group.discrete)):
                own, mixture = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
                for v, k in zip(group.discrete, choice, strict=True):
                    own = own * log_mass[v][s, b, k].exp()
                for other in range(size):
                    if size == 1:
                        weight = 1.0
                    elif other == b:
                        weight = 1 / data_size
                    else:
                        weight = (data_size - 1) / (data_size * (size - 1))
                    density = torch.ones((), dtype=torch.float64)
                    for d in group.normal:
                        scale = batch.scale[s, other, d]
                        deviation = (batch.value[s, b, d] - batch.loc[s, other, d]) / scale
                        density = density * torch.exp(-(deviation**2) / 2) / (scale * math.sqrt(2 * math.pi))
                    for v, k in zip(group.discrete, choice, strict=True):
                        density = density * log_mass[v][s, other, k].exp()
                    mixture = mixture + weight * density
                expected = expected + own * mixture.log()
            row.append(expected)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@settings(max_examples=80, deadline=None)
@given(
    particles=st.integers(1, 2),
    size=st.integers(1, 5),
    normal=st.integers(0, 3),
    categories=st.lists(st.integers(1, 3), max_size=2),
    surplus=st.integers(0, 20),
    chunk=st.sampled_from([1, 20, 2**22]),
    data=st.data(),
)
def test_value_and_gradient_against_direct_sums(particles, size, normal, categories, surplus, chunk, data):
    if not normal and not categories:
        return  # no site
    batch = draw_batch(particles, size, normal, categories).leaf()
    group = Group(
        tuple(data.draw(st.lists(st.integers(0, normal - 1), unique=True))) if normal else (),
        tuple(range(len(categories)))[: data.draw(st.integers(0, len(categories)))],
    )
    data_size = 1 if size == 1 else size + surplus
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, "CHUNK_NUMBERS", chunk)
        (found,) = estimated(Minibatch(), batch, [group], data_size)
    expected = by_hand(batch, group, data_size)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weights = torch.linspace(0.5, 2.0, found.numel(), dtype=torch.float64).view(found.shape)
    if not (group.normal or group.discrete):
        return  # a constant has no gradient
    kwargs = {"allow_unused": True, "materialize_grads": True}
    ours = torch.autograd.grad((weights * found).sum(), batch.leaves, **kwargs)
    theirs = torch.autograd.grad((weights * expected).sum(), batch.leaves, **kwargs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.usefixtures("ways_of_comparing")
def test_several_groups_at_once_are_those_one_by_one():
    batch = draw_batch(1, 6, 4, [3, 2]).leaf()
    groups = [Group((0, 1, 2, 3), (0, 1)), Group((0, 2)), Group((1, 3), (1,)), Group((), (0,)), Group((3,))]
    groups += [Group((0, 2), (1,)), Group((0, 2), (0, 1)), Group((3,), (0,))]  # of the same densities as others
    together = estimated(Minibatch(), batch, groups, 50)
    for group, found in zip(groups, together, strict=True):
        (alone,) = estimated(Minibatch(), batch, [group], 50)
        torch.testing.assert_close(found, alone)
        options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
        ours, theirs = (torch.autograd.grad(value.square().sum(), batch.leaves, **options) for value in (found, alone))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("ways_of_comparing")
def test_far_apart_posteriors_stay_finite():
    loc = torch.tensor([[[0.0], [1e4]]])
    (found,) = estimated(Minibatch(), Batch(loc, loc, torch.full((1, 2, 1), 1e-3)), [Group((0,))], 2)
    # Each sample is at the mean of its own posterior and infinitely far from the other: log(1/2) + log N(0; 0, 1e-3).
    expected = -math.log(2) + math.log(1e3) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.float(), torch.full((1, 2), expected))
