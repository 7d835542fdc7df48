"""Sums over references where rounding, or the size of a piece, could spoil them."""

import math

import pytest
import torch

from pyro_hfvae.infer import pairwise
from pyro_hfvae.infer.pairwise import Normals, Pairs, log_sums

S, B, M, V, FIRST = 2, 3, 5, 2, 1
GENERATOR = torch.Generator()
SUMS = [[0, 1], [3, 4, 5], []]
"""Of columns 0 and 1, which are normal, 2 and 3, which are products, and 4, which is given."""


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=GENERATOR, dtype=dtype)


@pytest.mark.parametrize("further", [False, True], ids=["own", "weights"])
@pytest.mark.parametrize("chunk", [1, 40, 2**40])
def test_every_way_to_make_columns_and_sums(further, chunk, monkeypatch):
    """Samples 1 to 3 against five references: values and gradients against plain log-sum-exps."""
    monkeypatch.setattr(pairwise, "CHUNK_NUMBERS", chunk)
    GENERATOR.manual_seed(0)
    leaves = [draw(S, B, V), draw(S, M, V), draw(S, M, V).exp(), draw(S, B, 3), draw(S, M, 3), draw(S, B, 1)]
    leaves += [draw(S, M, 1), draw(1, S, B, M), draw(S, M, 4).exp()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    value, loc, scale, f, g, f_more, g_more, given, masses = leaves
    options = {"weights": draw(1, M)} if further else {"own": -1.5, "first": FIRST}
    pairs = Pairs(
        shape=(S, B, M),
        device=torch.device("cpu"),
        normals=Normals(value, loc, scale),
        products=[(f, g), (f_more, g_more)],
        given=[(1, lambda piece: given[:, *piece])],
        **options,
    )
    lines, (with_masses,) = log_sums(pairs, SUMS, [([6, 7, 2], masses)], torch.float64)
    normal = torch.distributions.Normal(loc[:, None], scale[:, None]).log_prob(value[:, :, None]).permute(3, 0, 1, 2)
    columns = torch.cat([normal, torch.stack([f @ g.mT, f_more @ g_more.mT]), given])
    sums = [columns[:2].sum(0), columns[3:].sum(0) + columns[:2].sum(0), torch.zeros(S, B, M, dtype=torch.float64)]
    every = torch.cat([columns, torch.stack(sums)])
    own = torch.eye(B, M, dtype=torch.float64).roll(FIRST, 1)
    every = every + options["weights"] if further else every - 1.5 * own
    expected = every.logsumexp(-1)
    expected_with_masses = (every[[6, 7, 2]][..., None] + masses.log()[:, None]).logsumexp(-2)
    torch.testing.assert_close(lines, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(with_masses, expected_with_masses, rtol=1e-9, atol=1e-9)
    weights = draw(*expected.shape), draw(*expected_with_masses.shape)
    ours = torch.autograd.grad((weights[0] * lines).sum() + (weights[1] * with_masses).sum(), leaves)
    plain = (weights[0] * expected).sum() + (weights[1] * expected_with_masses).sum()
    for a, b in zip(ours, torch.autograd.grad(plain, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 2**40])
def test_float32_is_enough_for_narrow_posteriors_far_apart(chunk, monkeypatch):
    """Means 100 apart, scales of 1e-4, two of them near each other: values to 1e-6, gradients to 1e-4, relative.

    A product of features and parameters would be off by 1e-7 · 100² / 1e-8, which is 1e5 nats.
    """
    monkeypatch.setattr(pairwise, "CHUNK_NUMBERS", chunk)
    GENERATOR.manual_seed(0)
    loc = 100 * draw(1, 40, V, dtype=torch.float32)
    loc[:, 1::2] = loc[:, ::2] + 1e-4 * draw(1, 20, V, dtype=torch.float32)
    scale = torch.full_like(loc, 1e-4)
    value = loc + scale * draw(1, 40, V, dtype=torch.float32)

    def log_aggregates(dtype):
        leaves = [part.to(dtype).requires_grad_() for part in (value, loc, scale)]
        pairs = Pairs((1, 40, 40), torch.device("cpu"), Normals(*leaves), own=-math.log(10.0))
        lines, _ = log_sums(pairs, [[0, 1]], [], dtype)
        return lines, torch.autograd.grad(lines.mean((1, 2)) @ torch.tensor([1.0, 2.0, -3.0], dtype=dtype), leaves)

    (found, gradients), (expected, exact) = map(log_aggregates, (torch.float32, torch.float64))
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=2e-6)
    for a, b in zip(gradients, exact, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm()


def test_masses_alone_do_not_cancel():
    """The own mass of a category may be 1 and all others' together 1e-30, which 1 + 1e-30 - 1 would lose."""
    masses = torch.tensor([1e-31, 1.0, 9e-31], dtype=torch.float64)[None, :, None]
    pairs = Pairs((1, 3, 3), torch.device("cpu"), None, own=-200.0)
    _, (found,) = log_sums(pairs, [[]], [([0], masses)], torch.float64)
    expected = torch.tensor([1.0, 1e-30, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found.exp().flatten(), expected, rtol=1e-12, atol=0)


def test_a_gradient_of_a_gradient_is_refused():
    loc = torch.zeros(1, 3, 1, requires_grad=True)
    pairs = Pairs((1, 3, 3), torch.device("cpu"), Normals(loc + 1, loc, torch.ones_like(loc)), own=0.0)
    total = log_sums(pairs, [], [], torch.float32)[0].square().sum()
    (gradient,) = torch.autograd.grad(total, [loc], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_gradients_by_functions():
    """``torch.func.grad`` finds what ``backward`` does."""
    loc = torch.linspace(-1, 1, 3)[None, :, None]

    def total(value):
        pairs = Pairs((1, 3, 3), torch.device("cpu"), Normals(value + 1, value.square(), value.exp()), own=-1.0)
        return log_sums(pairs, [], [], torch.float32)[0].sum()

    leaf = loc.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(leaf), [leaf])
    torch.testing.assert_close(torch.func.grad(total)(loc), expected)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 900, 1000, 1400, 10**6])
def test_pieces_are_equal_parts_about_as_large_as_asked(count, size, monkeypatch):
    monkeypatch.setattr(pairwise, "CHUNK_NUMBERS", 1000)
    share = pairwise._share(count, size, torch.device("cpu"))
    assert 1 <= share <= count
    assert share == 1 or share * size <= 1500
    assert share == count or share * size >= 500
