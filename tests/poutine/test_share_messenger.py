"""Shared posteriors: against loops over densities on a grid, and the closed forms of a pair."""

import doctest

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from support import numbers
from torch.distributions import kl_divergence

from pyro_hfvae import Concrete
from pyro_hfvae.infer import VAE
from pyro_hfvae.poutine import gate, share_group, share_messenger, share_pairs


def guide_of(loc, scale, logits=None):
    def guide(*_):
        with pyro.plate("data", loc.shape[-2]):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            if logits is not None:
                pyro.sample("y", Concrete(0.7, logits=logits))

    return guide


def posterior(handler, guide, site="z"):
    with handler:
        return poutine.trace(guide).get_trace().nodes[site]["fn"]


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist, "share_group": share_group}
    results = doctest.testmod(share_messenger, extraglobs=names)
    assert results.attempted == 4
    assert results.failed == 0


@settings(max_examples=8, deadline=None)
@given(groups=st.lists(st.integers(-2, 2), min_size=1, max_size=6))
def test_groups_against_loops(groups):
    """Any groups, of one member too: the normalised product of the densities, and the mean of means and variances."""
    n = len(groups)
    loc, scale, logits = numbers(n, 2), 0.5 + numbers(n, 2, seed=1).sigmoid(), numbers(n, 3, seed=2)
    guide, index = guide_of(loc, scale, logits), torch.tensor(groups)
    grid = torch.linspace(-12, 12, 1001).double()
    for row, group in enumerate(groups):
        members = [other for other in range(n) if groups[other] == group]
        product = posterior(share_group(["z", "y"], index), guide)
        for variable in range(2):
            log_density = sum(dist.Normal(loc[m, variable], scale[m, variable]).log_prob(grid) for m in members)
            density = log_density.softmax(0)
            mean = (density * grid).sum()
            variance = (density * (grid - mean).square()).sum()
            # The trapezoid rule is exact to rounding for what vanishes at both ends.
            torch.testing.assert_close(product.base_dist.loc[row, variable], mean)
            torch.testing.assert_close(product.base_dist.scale[row, variable].square(), variance)
        average = posterior(share_group(["z"], index, "average"), guide).base_dist
        torch.testing.assert_close(average.loc[row], sum(loc[m] for m in members) / len(members))
        torch.testing.assert_close(average.variance[row], sum(scale[m] ** 2 for m in members) / len(members))
        masses = [logits[m].softmax(-1) for m in members]
        together = torch.stack(masses).prod(0)
        shared = posterior(share_group(["y"], index), guide, "y")
        torch.testing.assert_close(shared.log_mass[row].exp(), together / together.sum())
        shared = posterior(share_group(["y"], index, "average"), guide, "y")
        torch.testing.assert_close(shared.log_mass[row].exp(), sum(masses) / len(masses))
        assert type(shared) is Concrete


def test_variance_of_a_product_is_not_doubled():
    """For a pair σ₁²σ₂² / (σ₁² + σ₂²); code in circulation has twice that."""
    loc, scale = torch.tensor([[1.0], [4.0]]).double(), torch.tensor([[2.0], [1.0]]).double()
    shared = posterior(share_group(["z"], torch.tensor([0, 0])), guide_of(loc, scale)).base_dist
    torch.testing.assert_close(shared.variance[:, 0], torch.tensor([0.8, 0.8]).double())
    torch.testing.assert_close(shared.loc[:, 0], torch.tensor([3.4, 3.4]).double())


def test_gradients_of_groups():
    """Every member's numbers learn from every member's likelihood, and no other group's."""
    loc, scale = numbers(4, 2), 0.5 + numbers(4, 2, seed=1).sigmoid()
    index = torch.tensor([0, 1, 0, 2])

    def shared(loc, scale, how):
        fn = posterior(share_group(["z"], index, how), guide_of(loc, scale)).base_dist
        return fn.loc, fn.scale

    for how in ("product", "average"):
        inputs = (loc.clone().requires_grad_(), scale.clone().requires_grad_())
        assert torch.autograd.gradcheck(lambda a, b, how=how: shared(a, b, how), inputs)
        first = shared(*inputs, how)[0][0].sum()
        rows = torch.autograd.grad(first, inputs[0])[0].count_nonzero(1)
        assert rows.tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("how", ["average", "product"])
@pytest.mark.parametrize("pairs", [1, 3])
def test_pairs_against_loops(pairs, how):
    loc, scale = numbers(2 * pairs, 5), 0.5 + numbers(2 * pairs, 5, seed=1).sigmoid()
    result = posterior(share_pairs(["z"], how), guide_of(loc, scale)).base_dist
    some_shared = 0
    for one in range(pairs):
        other = one + pairs
        each = [
            kl_divergence(dist.Normal(loc[one, j], scale[one, j]), dist.Normal(loc[other, j], scale[other, j]))
            for j in range(5)
        ]
        threshold = (max(each) + min(each)) / 2
        for j in range(5):
            v1, v2 = scale[one, j] ** 2, scale[other, j] ** 2
            m1, m2 = loc[one, j], loc[other, j]
            if each[j] < threshold:
                some_shared += 1
                mean, variance = (m1 + m2) / 2, (v1 + v2) / 2
                if how == "product":
                    mean, variance = (m1 * v2 + m2 * v1) / (v1 + v2), v1 * v2 / (v1 + v2)
                expected = [(mean, variance), (mean, variance)]
            else:
                expected = [(m1, v1), (m2, v2)]
            for row, (mean, variance) in zip((one, other), expected, strict=True):
                torch.testing.assert_close(result.loc[row, j], mean)
                torch.testing.assert_close(result.variance[row, j], variance)
    assert 0 < some_shared < 5 * pairs


def test_threshold_is_half_way():
    """Divergences of 2, 3.2 and 4.5 nats: half-way is 3.25, half of the largest 2.25."""
    loc = torch.stack([torch.zeros(3), torch.tensor([4.0, 6.4, 9.0]).sqrt()]).double()
    shared = posterior(share_pairs(["z"]), guide_of(loc, torch.ones(2, 3).double())).base_dist.loc
    assert (shared[0] == shared[1]).tolist() == [True, True, False]


def test_pairs_of_categoricals():
    logits = numbers(2, 4, 3)

    def guide():
        with pyro.plate("data", 2):
            pyro.sample("y", Concrete(0.7, logits=logits).to_event(1))

    shared = posterior(share_pairs(["y"]), guide, "y").base_dist
    p, q = logits.softmax(-1)
    each = (p * (p / q).log()).sum(-1)
    close = each < (each.max() + each.min()) / 2
    assert 0 < close.sum() < 4
    expected = torch.stack([torch.where(close[:, None], (p + q) / 2, own) for own in (p, q)])
    torch.testing.assert_close(shared.log_mass.exp(), expected)


def test_equal_pairs_share_nothing_of_note():
    """Where the halves are the same, no divergence is below the threshold, and there is nothing to share."""
    loc, scale = numbers(1, 3).repeat(2, 1), torch.ones(2, 3).double()
    assert torch.equal(posterior(share_pairs(["z"]), guide_of(loc, scale)).base_dist.loc, loc)


def test_inside_an_objective():
    """The loss of a guide that shares is that of a guide with the shared posteriors; beside a gate, too."""
    loc, scale, logits = numbers(4, 2).requires_grad_(), 0.5 + numbers(4, 2, seed=1).sigmoid(), numbers(4, 3, seed=2)
    index, x = torch.tensor([0, 1, 0, 1]), numbers(4, 2, seed=4)

    def model(x):
        with pyro.plate("data", 4):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            y = pyro.sample("y", Concrete(0.7, logits=torch.zeros(3).double()))
            pyro.sample("x", dist.Normal(z + y[:, :2], 1.0).to_event(1), obs=x)

    def loss(guide, handler=None, outer=None):
        torch.manual_seed(0)
        with outer or poutine.scale(scale=1.0), handler or poutine.scale(scale=1.0):
            return VAE(9).differentiable_loss(model, guide, x)

    guide = guide_of(loc, scale, logits)
    fn = posterior(share_group(["z"], index), guide).base_dist
    shared = loss(guide, share_group(["z"], index))
    assert torch.equal(shared, loss(guide_of(fn.loc, fn.scale, logits)))
    assert shared != loss(guide)
    closed = {"z": torch.tensor([True, False, False, False])}
    for handler, outer, rows in (
        (share_group(["z"], index), gate(closed), [2, 0, 2, 0]),  # datum 0 teaches its whole group
        (gate(closed), share_group(["z"], index), [2, 0, 0, 0]),  # only datum 0 is taught
    ):
        gated = loss(guide, handler, outer)
        assert torch.equal(gated, shared)
        assert torch.autograd.grad(gated, loc)[0].count_nonzero(1).tolist() == rows


@pytest.mark.parametrize(
    ("handler", "error", "text"),
    [
        (lambda: share_group("z", torch.tensor([0, 0])), ValueError, "must be a list of names, got 'z'"),
        (
            lambda: share_group(["z"], torch.zeros(2)),
            ValueError,
            r"integers of shape \(B,\), got torch.float32 of shape",
        ),
        (lambda: share_group(["z"], torch.tensor([0]), "mean"), ValueError, "one of 'product', 'average', got 'mean'"),
        (
            lambda: share_group(["z"], torch.tensor([0, 0])),
            ValueError,
            r"groups of 2 data, but site 'z' has the batch shape \(3,\)",
        ),
        (lambda: share_pairs(["z"]), ValueError, r"site 'z' has the batch shape \(3,\), which is not two halves"),
        (lambda: share_pairs(["w"]), ValueError, "site 'w' is to be shared, but was not sampled"),
    ],
)
def test_refusals(handler, error, text):
    with pytest.raises(error, match=text), handler():
        guide_of(numbers(3, 2), torch.ones(3, 2).double())()


def test_other_distributions_are_refused():
    def guide():
        with pyro.plate("data", 2):
            pyro.sample("z", dist.Gamma(torch.ones(2), 1.0))

    with (
        pytest.raises(NotImplementedError, match="site 'z' is Gamma, whose posteriors are not combined here"),
        share_group(["z"], torch.tensor([0, 0])),
    ):
        guide()


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_groups_as_arrays_and_lists(kind):
    loc = torch.tensor([[1.0], [4.0], [9.0]]).double()
    shared = posterior(share_group(["z"], kind([5, 5, 2]), "average"), guide_of(loc, torch.ones(3, 1).double()))
    assert shared.base_dist.loc.squeeze(1).tolist() == [2.5, 2.5, 9.0]


def test_other_categoricals():
    """Of Bernoullis and of categories by number, too: the mean of the masses."""
    p = torch.tensor([0.2, 0.6, 0.9]).double()

    def guide():
        with pyro.plate("data", 3):
            pyro.sample("b", dist.Bernoulli(p))
            pyro.sample("c", dist.Categorical(torch.stack([1 - p, p], -1)))

    for site in ("b", "c"):
        fn = posterior(share_group([site], [0, 0, 1], "average"), guide, site)
        torch.testing.assert_close(fn.log_prob(torch.ones(3).double()).exp(), torch.tensor([0.4, 0.4, 0.9]).double())
