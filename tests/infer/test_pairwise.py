"""Sums over references where rounding, or the size of a piece, could spoil them."""

import pytest
import torch

from pyro_hfvae.infer import pairwise
from pyro_hfvae.sites import NOTHING


def test_masses_alone_do_not_cancel():
    """The own mass of a category may be 1 and all others' together 1e-30, which 1 + 1e-30 - 1 would lose."""
    masses = torch.tensor([1e-31, 1.0, 9e-31], dtype=torch.float64)[:, None]
    found = pairwise.log_sum_of_other_masses(masses)[:, 0]
    torch.testing.assert_close(found.exp(), torch.tensor([1.0, 1e-30, 1.0], dtype=torch.float64), rtol=1e-12, atol=0)
    more = torch.tensor([[3e-30], [0.0]], dtype=torch.float64)
    found = pairwise.log_sum_of_other_masses(masses, more=more)[:, 0]
    torch.testing.assert_close(found[1].exp(), torch.tensor(4e-30, dtype=torch.float64), rtol=1e-12, atol=0)
    assert pairwise.log_sum_of_other_masses(masses[:1]).item() == NOTHING


def test_masses_of_some_samples_against_those_of_all_references():
    """Samples 2 and 3 of six: the sum is over the other five, whichever of them come before and after."""
    masses = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = pairwise.log_sum_of_other_masses(masses, first=2, count=2)
    expected = torch.stack([masses[[0, 1, 3, 4, 5]].sum(0), masses[[0, 1, 2, 4, 5]].sum(0)]).log()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("further", [False, True])
def test_sums_from_products_are_those_from_all_pairs(weighted, graded, further):
    """Of samples 1 to 3 against five references and two more: values and gradients, the latter not of the two."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    features, parameters = draw(2, 3, 4).requires_grad_(), draw(2, 5, 4).requires_grad_()
    masses = draw(2, 5, 3).exp().requires_grad_(graded) if weighted else None
    more = draw(2, 4, 2) if further else None
    of_more = draw(2, 2, 3).exp() if further and weighted else None
    found = pairwise.log_sum_of_others(features, parameters, 1, masses, more, of_more)
    every = parameters.mT if more is None else torch.cat([parameters.mT, more], -1)
    weights = masses if of_more is None else torch.cat([masses, of_more], 1)
    pairs = features @ every
    pairs.diagonal(1, -2, -1).fill_(-torch.inf)  # sample r and its own reference, number 1 + r
    expected = pairwise.log_sum_of_pairs(pairs, torch.ones_like(every[:, :1].mT) if weights is None else weights)
    assert found.shape == (2, 3, 3 if weighted else 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    leaves = [features, parameters, *([masses] if weighted and graded else [])]
    ours, theirs = (torch.autograd.grad(value.square().sum(), leaves) for value in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 900, 1000, 1400, 10**6])
def test_pieces_are_equal_parts_about_as_large_as_asked(count, size, monkeypatch):
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 1000)
    share = pairwise._share(count, size)
    assert 1 <= share <= count
    assert share == 1 or share * size <= 1500
    assert share == count or share * size >= 500
