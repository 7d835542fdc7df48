"""Gated distributions: the same numbers to the bit, gradients of the open rows and columns only; over all families."""

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions import transforms
from torch.distributions import kl_divergence

from pyro_hfvae import Concrete
from pyro_hfvae.poutine.gated_distribution import gate_distribution, gate_tensor

V = 3


def lower(h):
    return 0.3 * h.unflatten(-1, (V, V)).tril(-1) + torch.diag_embed(0.3 + h[..., :V].sigmoid())


def positive(h):
    return lower(h) @ lower(h).mT


def two(h):
    return h[..., :V], 0.1 + h[..., V : 2 * V].sigmoid()


def behind(*parts):
    return lambda h: dist.TransformedDistribution(dist.Normal(*two(h)), list(parts)).to_event(1)


def affine(h):
    shift = h[..., 2 * V :]
    parts = [transforms.AffineTransform(shift, (0.1 * shift).exp()), transforms.ExpTransform()]
    return dist.TransformedDistribution(dist.Normal(*two(h)), transforms.ComposeTransform(parts)).to_event(1)


# Of numbers h [B, V²]; V variables each, that are independent.
INDEPENDENT = {
    "Normal": lambda h: dist.Normal(*two(h)).to_event(1),
    "masked Normal": lambda h: dist.Normal(*two(h)).mask(torch.ones(len(h), 1).bool()).to_event(1),
    "LogNormal": lambda h: dist.LogNormal(*two(h)).to_event(1),
    "logistic normal": behind(transforms.AffineTransform(0.5, 2.0), transforms.SigmoidTransform()),
    "affine with parameters": affine,
    "Gamma": lambda h: dist.Gamma(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1),
    "Beta": lambda h: dist.Beta(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1),
    "StudentT": lambda h: dist.StudentT(3 + h[..., :V].exp(), *two(h)).to_event(1),
    "Laplace": lambda h: dist.Laplace(*two(h)).to_event(1),
    "RelaxedBernoulli": lambda h: dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=h[..., :V]).to_event(1),
    "RelaxedBernoulli of probs": lambda h: dist.RelaxedBernoulli(
        torch.tensor(0.7).double(), probs=h[..., :V].sigmoid()
    ).to_event(1),
    "Delta": lambda h: dist.Delta(h[..., :V]).to_event(1),
    "categoricals": lambda h: Concrete(0.7, logits=h.unflatten(-1, (V, V))).to_event(1),
    "Dirichlets": lambda h: dist.Dirichlet(1 + h.unflatten(-1, (V, V)).exp()).to_event(1),
}
# Only the whole can be gated.
DEPENDENT = {
    "scale_tril": lambda h: dist.MultivariateNormal(h[..., :V], scale_tril=lower(h)),
    "covariance": lambda h: dist.MultivariateNormal(h[..., :V], positive(h)),
    "precision": lambda h: dist.MultivariateNormal(h[..., :V], precision_matrix=positive(h)),
    "low rank": lambda h: dist.LowRankMultivariateNormal(
        h[..., :V], h[..., V : 2 * V, None], 0.2 + h[..., :V].sigmoid()
    ),
    "stick breaking": lambda h: dist.TransformedDistribution(
        dist.Normal(*two(h)).to_event(1), [transforms.StickBreakingTransform()]
    ),
    "Delta of a vector": lambda h: dist.Delta(h[..., :V], event_dim=1),
}
# One variable each.
CATEGORICAL = {
    "Concrete": lambda h: Concrete(0.7, logits=h),
    "Concrete of probs": lambda h: Concrete(0.7, probs=h.softmax(-1)),
    "relaxed": lambda h: dist.RelaxedOneHotCategorical(torch.tensor(0.7).double(), logits=h),
    "straight-through": lambda h: dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7).double(), logits=h),
    "one-hot": lambda h: dist.OneHotCategorical(logits=h),
    "Dirichlet": lambda h: dist.Dirichlet(1 + h.exp()),
}
FAMILIES = INDEPENDENT | DEPENDENT | CATEGORICAL


def numbers(batch, seed=0):
    return torch.randn(batch, V * V, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def random(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(7)).double()


def draw(fn, shape=()):
    torch.manual_seed(3)
    return fn.rsample(shape) if fn.has_rsample else fn.sample(shape)


def gradient(value, h):
    """Of a random combination of the numbers; 0 where no graph leads to h."""
    if not value.requires_grad:
        return torch.zeros_like(h)
    return torch.autograd.grad((value * random(value.shape)).sum(), h, retain_graph=True)[0]


def whole(mask, fn):
    return mask.reshape(mask.shape + (1,) * len(fn.event_shape))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=5, deadline=None)
@given(rows=st.lists(st.booleans(), min_size=1, max_size=4))
def test_rows(name, rows):
    h, mask = numbers(len(rows)), torch.tensor(rows)
    plain = FAMILIES[name](h)
    gated = gate_distribution(plain, whole(mask, plain))
    assert type(gated) is type(plain)
    assert gated.shape() == plain.shape()
    value = draw(plain)
    assert torch.equal(draw(gated), value)
    assert torch.equal(draw(gated, (2,)), draw(plain, (2,)))
    assert torch.equal(gradient(draw(gated), h), torch.where(mask[:, None], gradient(value, h), 0.0))
    assert value.grad_fn is None or gradient(value, h).count_nonzero() > 0
    # The density's own dependence on the parameters, at the soft value where there is one.
    fixed = getattr(value, "_unquantize", value).detach()
    assert torch.equal(gated.log_prob(fixed), plain.log_prob(fixed))
    expected = gradient(plain.log_prob(fixed), h)
    assert "Delta" in name or expected.count_nonzero() > 0
    assert torch.equal(gradient(gated.log_prob(fixed), h), torch.where(mask[:, None], expected, 0.0))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_columns(name):
    """Variable v of datum b is open or not: what it is made of gets its gradient or none."""
    h = numbers(4)
    plain = FAMILIES[name](h)
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).bool()
    event = mask if len(plain.event_shape) == 1 else mask[..., None]
    gated = gate_distribution(plain, event)
    assert torch.equal(draw(gated), draw(plain))
    made_of = mask.repeat_interleave(V, 1) if len(plain.event_shape) == 2 else mask.repeat(1, V)
    expected = torch.where(made_of, gradient(draw(plain), h), 0.0)
    assert torch.equal(gradient(draw(gated), h), expected)


@pytest.mark.parametrize("name", DEPENDENT)
def test_columns_of_dependent_variables(name):
    fn = FAMILIES[name](numbers(2))
    with pytest.raises(NotImplementedError, match="depend on one another, and only all of them can be gated together"):
        gate_distribution(fn, torch.tensor([[True, False, True]]).expand(2, V))


@pytest.mark.parametrize("name", ["Normal", "Gamma", "Concrete", "scale_tril", "covariance", "low rank"])
def test_divergence(name):
    h, mask = numbers(3), torch.tensor([True, False, True])
    plain, prior = FAMILIES[name](h), FAMILIES[name](numbers(3, 5).detach())
    gated = gate_distribution(plain, whole(mask, plain))
    assert torch.equal(kl_divergence(gated, prior), kl_divergence(plain, prior))
    expected = torch.where(mask[:, None], gradient(kl_divergence(plain, prior), h), 0.0)
    assert torch.equal(gradient(kl_divergence(gated, prior), h), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_expanded_afterwards(name):
    h, mask = numbers(3), torch.tensor([True, False, True])
    plain = FAMILIES[name](h)
    gated = gate_distribution(plain, whole(mask, plain)).expand((5, 3))
    assert torch.equal(draw(gated), draw(plain.expand((5, 3))))
    assert gradient(draw(gated), h)[1].count_nonzero() == 0


@pytest.mark.parametrize("name", ["Normal", "Gamma", "Beta", "Dirichlet", "Concrete"])
def test_parameters_in_another_order_of_memory(name):
    """The order in which random numbers are used must not follow a copy's layout."""
    h = torch.randn(V * V, 5, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    plain = FAMILIES[name](h.mT)
    gated = gate_distribution(plain, whole(torch.tensor([True, False, True, True, False]), plain))
    assert torch.equal(draw(gated), draw(plain))


def test_parameters_that_all_data_share():
    loc, scale = torch.zeros(4, V, requires_grad=True), torch.ones((), requires_grad=True)
    gated = gate_distribution(dist.Normal(loc, scale), torch.tensor([[True], [False], [True], [False]]))
    torch.manual_seed(0)
    gated.rsample().sum().backward()
    torch.manual_seed(0)
    noise = torch.randn(4, V)
    torch.testing.assert_close(scale.grad, noise[::2].sum())
    factor = torch.eye(V).double().requires_grad_()  # one for all data: matrix products of another shape, so rounding
    plain = dist.MultivariateNormal(torch.zeros(2, V).double(), scale_tril=factor)
    gated = gate_distribution(plain, torch.tensor([[True], [False]]))
    torch.testing.assert_close(draw(gated), draw(plain))
    torch.testing.assert_close(
        torch.autograd.grad(draw(gated).sum(), factor)[0], torch.autograd.grad(draw(plain)[0].sum(), factor)[0]
    )


def test_lazily_made_parameters():
    """A covariance that somebody has looked at is made again, of gated parameters."""
    for name in ("scale_tril", "low rank"):
        h = numbers(2)
        plain = FAMILIES[name](h)
        assert plain.covariance_matrix.requires_grad
        gated = gate_distribution(plain, torch.tensor([[True], [False]]))
        expected = gradient(plain.covariance_matrix, h)
        assert expected[1].count_nonzero() > 0
        assert torch.equal(gradient(gated.covariance_matrix, h)[1], torch.zeros(V * V).double())
        torch.testing.assert_close(gradient(gated.covariance_matrix, h)[0], expected[0])


def test_gate_tensor():
    value = torch.tensor([1.0, float("nan"), float("inf"), -0.0], requires_grad=True)
    gated = gate_tensor(value, torch.tensor([True, False, False, True]))
    assert torch.equal(gated.view(torch.int32), value.view(torch.int32))
    (gated * torch.tensor([2.0, float("nan"), float("inf"), 3.0])).sum().backward()
    assert value.grad.tolist() == [2.0, 0.0, 0.0, 3.0]


class Custom(dist.TorchDistribution):
    arg_constraints = {}  # noqa: RUF012

    def __init__(self, **parts):
        vars(self).update(parts)
        super().__init__(torch.Size([2]))


def flow():
    return dist.TransformedDistribution(dist.Normal(torch.zeros(2, V), 1.0), [transforms.affine_coupling(V)])


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (
            Concrete(torch.tensor(0.7, requires_grad=True), logits=torch.zeros(2, 3)),
            "ExpRelaxedCategorical has a 'temperature' that learns and is no parameter per datum",
        ),
        (Custom(width=torch.ones(2, requires_grad=True)), "Custom has a 'width' that learns and is no parameter"),
        (Custom(network=lambda: 1), "Custom holds 'network', which may depend on parameters unseen"),
        (flow(), "the transform AffineCoupling may have parameters that all data share"),
    ],
    ids=["temperature", "unknown parameter", "function", "flow"],
)
def test_refusals(fn, text):
    with pytest.raises(NotImplementedError, match=text):
        gate_distribution(fn, whole(torch.ones(2, dtype=torch.bool), fn))
