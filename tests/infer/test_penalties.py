"""Each penalty against closed forms, over shapes and kinds of latents."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.infer.dependence import read_dependence
from pyro_hfvae.infer.penalties import (
    DensityRatio,
    DiagonalCovariance,
    DiscriminatorAdam,
    MaximumMeanDiscrepancy,
    OffDiagonalCovariance,
    RadialKernel,
    ZhaoKernel,
)
from pyro_hfvae.infer.sample import read_sample


def latents(loc=None, scale=None, logits=None, prior=None):
    """A guide and a model whose latent sites are as given."""

    def sites(normal, concrete, x, observed=False):
        with pyro.plate("data", len(x), dim=-1):
            if loc is not None:
                pyro.sample("z", normal.to_event(1))
            if logits is not None:
                pyro.sample("y", Concrete(0.5, logits=concrete).to_event(logits.dim() - 2))
            if observed:
                pyro.sample("x", dist.Normal(x, 1.0), obs=x)

    def guide(x):
        sites(None if loc is None else dist.Normal(loc, scale), logits, x)

    def model(x):
        uniform = None if logits is None else (torch.zeros_like(logits) if prior is None else prior)
        sites(None if loc is None else dist.Normal(torch.zeros_like(loc), 1.0), uniform, x, observed=True)

    return model, guide


def sample_of(batch, **given):
    model, guide = latents(**given)
    x = torch.zeros(batch, dtype=next(iter(given.values())).dtype)
    guide_trace = poutine.trace(guide).get_trace(x)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    dependence, *_ = read_dependence(model, guide, (x,), {})
    return read_sample(model, guide, (x,), {}, model_trace, guide_trace, dependence)


def mean_mmd(times, batch, penalty, **given):
    torch.manual_seed(0)
    return torch.stack([penalty([sample_of(batch, **given)], None) for _ in range(times)])


@pytest.mark.parametrize(("variables", "shift", "scale"), [(1, 1.0, 0.5), (2, 0.7, 1.0), (20, 0.5, 0.8)])
@pytest.mark.parametrize("kernel", [RadialKernel(), RadialKernel(0.5), ZhaoKernel()])
def test_mmd_of_gaussians_has_its_closed_form_in_the_mean(variables, shift, scale, kernel):
    h = variables**2 if isinstance(kernel, ZhaoKernel) else 2 * variables * kernel.bandwidth**2

    def expected(mean, variance):
        """E[exp(-d²/h)] for d ~ N(mean, variance) in each variable."""
        one = math.sqrt(h / (h + 2 * variance)) * math.exp(-(mean**2) / (h + 2 * variance))
        return one**variables

    exact = expected(0, 2 * scale**2) + expected(0, 2) - 2 * expected(shift, scale**2 + 1)
    loc = torch.full((40, variables), shift, dtype=torch.float64)
    draws = mean_mmd(200, 40, MaximumMeanDiscrepancy(kernel=kernel), loc=loc, scale=torch.full_like(loc, scale))
    error = draws.std().item() / math.sqrt(len(draws))
    assert abs(draws.mean().item() - exact) < 4 * error
    assert 4 * error < 0.25 * exact


def test_mmd_of_the_prior_is_nothing_in_the_mean():
    loc = torch.zeros(10, 3, dtype=torch.float64)
    draws = mean_mmd(400, 10, MaximumMeanDiscrepancy(), loc=loc, scale=torch.ones_like(loc))
    assert abs(draws.mean().item()) < 4 * draws.std().item() / 20
    assert draws.min() < 0


def test_the_default_kernel_does_not_saturate_with_the_number_of_variables_and_zhaos_does():
    """The same shift of every variable; Zhao's MMD² fades with D."""
    values = {}
    for kernel in (RadialKernel(), ZhaoKernel()):
        for variables in (2, 200):
            loc = torch.full((100, variables), 1.0, dtype=torch.float64)
            draws = mean_mmd(5, 100, MaximumMeanDiscrepancy(kernel=kernel), loc=loc, scale=torch.ones_like(loc))
            values[type(kernel), variables] = draws.mean().item()
    assert values[RadialKernel, 200] > 0.8 * values[RadialKernel, 2]
    assert values[ZhaoKernel, 200] < 0.05 * values[ZhaoKernel, 2]


def test_mmd_of_categoricals_is_exact():
    torch.manual_seed(1)
    logits, prior = torch.randn(6, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    sample = sample_of(6, logits=logits, prior=prior.expand(6, 4))
    mass, p = logits.softmax(-1), prior.softmax(-1)
    unbiased = (mass.sum(0).square().sum() - mass.square().sum()) / 30
    expected = unbiased + p.square().sum() - 2 * (mass.mean(0) * p).sum()
    torch.testing.assert_close(MaximumMeanDiscrepancy()([sample], None), expected)


def test_mmd_sees_the_dependence_of_continuous_on_discrete():
    """Both marginals are those of the prior, roughly; the joint is not."""
    torch.manual_seed(0)
    y = torch.arange(400) % 2
    z = torch.where(y == 0, 0.8, -0.8).double()[:, None]
    scale = torch.full_like(z, 0.6)  # .8² + .6² = 1
    logits = 20 * torch.nn.functional.one_hot(y, 2).double()
    joint = MaximumMeanDiscrepancy()([sample_of(400, loc=z, scale=scale, logits=logits)], None)
    apart = MaximumMeanDiscrepancy()([sample_of(400, loc=z, scale=scale, logits=logits[torch.randperm(400)])], None)
    assert joint > 0.05
    assert apart.abs() < 0.02


def test_mmd_of_one_datum_is_refused():
    with pytest.raises(ValueError, match="a batch of one datum has no maximum mean discrepancy"):
        MaximumMeanDiscrepancy()([sample_of(1, loc=torch.zeros(1, 2), scale=torch.ones(1, 2))], None)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan")])
def test_bandwidths_are_checked(bandwidth):
    with pytest.raises(ValueError, match="the bandwidth must be above 0 and finite, got"):
        RadialKernel(bandwidth)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(2, 6), normal=st.integers(0, 4), discrete=st.integers(0, 2), k=st.integers(2, 4),
    wide=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_shape_of_latents(batch, normal, discrete, k, wide, seed):
    torch.manual_seed(seed)
    dtype = torch.float64 if wide else torch.float32
    given = {}
    if normal:
        loc = torch.randn(batch, normal, dtype=dtype, requires_grad=True)
        given |= {"loc": loc, "scale": torch.rand(batch, normal, dtype=dtype) + 0.1}
    if discrete or not normal:
        logits = torch.randn(batch, discrete or 1, k, dtype=dtype, requires_grad=True)
        given |= {"logits": logits}
    sample = sample_of(batch, **given)
    ratio = DensityRatio(hidden=[3])
    penalties = [MaximumMeanDiscrepancy(), ratio]
    if normal:
        penalties += [OffDiagonalCovariance(), DiagonalCovariance(), DiagonalCovariance(of_samples=True)]
    for penalty in penalties:
        value = penalty([sample], None)
        assert value.shape == ()
        assert value.dtype is dtype
        assert value.isfinite()
    leaves = [tensor for name, tensor in given.items() if name != "scale"]
    gradients = torch.autograd.grad(sum(penalty([sample], None) for penalty in penalties), leaves)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)
    assert ratio.network[0].weight.shape == (3, normal + (discrete or (not normal)) * k)
    assert ratio.learn(sample).isfinite()


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 8), variables=st.integers(1, 5), seed=st.integers(0, 99))
def test_covariance_of_any_batch(batch, variables, seed):
    torch.manual_seed(seed)
    loc, scale = torch.randn(2, batch, variables, dtype=torch.float64)
    scale = scale.exp()
    sample = sample_of(batch, loc=loc, scale=scale)
    means = torch.from_numpy(np.cov(loc.T, bias=True)).reshape(variables, variables)
    off = means.square().sum() - means.diagonal().square().sum()
    torch.testing.assert_close(OffDiagonalCovariance()([sample], None), off)
    torch.testing.assert_close(DiagonalCovariance()([sample], None), (means.diagonal() - 1).square().sum())
    total = means.diagonal() + scale.square().mean(0)
    torch.testing.assert_close(DiagonalCovariance(of_samples=True)([sample], None), (total - 1).square().sum())


def test_covariance_of_discrete_sites_is_refused_by_name():
    sample = sample_of(3, logits=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="needs normal variables, .* the guide has none among its sites: 'y'$"):
        OffDiagonalCovariance()([sample], None)


def test_the_discriminator_learns_the_total_correlation_of_gaussians():
    """Two standard normal variables with correlation .8: -log(1 - .64) / 2 = .51 nats."""
    torch.manual_seed(0)
    ratio = DensityRatio(hidden=[32, 32], optimizer=lambda parameters: DiscriminatorAdam(parameters, lr=3e-3))
    values = []
    for step in range(700):
        common = torch.randn(256, 1)
        loc = math.sqrt(0.8) * common.expand(-1, 2)
        sample = sample_of(256, loc=loc, scale=torch.full((256, 2), math.sqrt(0.2)))
        value = ratio([sample], None)
        ratio.learn(sample)
        if step >= 500:
            values.append(value.item())
    assert sum(values) / len(values) == pytest.approx(-math.log(1 - 0.64) / 2, abs=0.06)


def test_the_loss_of_the_discriminator_is_that_of_the_paper():
    torch.manual_seed(0)
    loc = torch.randn(6, 2, dtype=torch.float64)
    logits = torch.randn(6, 3, dtype=torch.float64)
    sample = sample_of(6, loc=loc, scale=torch.ones_like(loc), logits=logits)
    ratio = DensityRatio(hidden=[4])
    ratio([sample], None)
    torch.manual_seed(7)
    loss = ratio.network_loss(sample)
    torch.manual_seed(7)
    z, y = (sample.guide.trace.nodes[name]["value"] for name in "zy")
    parts = [z[:, :1], z[:, 1:], y]
    permuted = [part[torch.randperm(6)] for part in parts]
    joint, product = (ratio.network(torch.cat(rows, -1)).sigmoid()[:, 0] for rows in (parts, permuted))
    expected = -sum(joint[b].log() + (1 - product[b]).log() for b in range(6)) / 12
    torch.testing.assert_close(loss, expected)
    # A categorical is moved as a whole, and every variable on its own.
    assert any(not row.equal(other) for row, other in zip(permuted[2], y, strict=True))
    assert all(any(row.equal(other) for other in y) for row in permuted[2])


def test_gradients_stay_on_their_side():
    loc = torch.randn(5, 2, requires_grad=True)
    sample = sample_of(5, loc=loc, scale=torch.ones(5, 2))
    ratio = DensityRatio(hidden=[4])
    ratio([sample], None).backward()
    assert loc.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in ratio.network.parameters())
    loc.grad = None
    ratio.network_loss(sample).backward()
    assert loc.grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in ratio.network.parameters())


def test_the_discriminator_does_not_learn_from_validation_or_from_nothing():
    model, guide = latents(loc=torch.randn(5, 2, requires_grad=True), scale=torch.ones(5, 2))
    module = HierarchicalELBO(9, penalties={"tc": DensityRatio(hidden=[4])})(model, guide)
    module.terms(torch.zeros(5))  # the discriminator is made
    before = [parameter.detach().clone() for parameter in module.penalties.parameters()]
    assert module.step() == {}
    with torch.no_grad():
        module(torch.zeros(5))
    module.eval()(torch.zeros(5))
    assert module.step() == {}
    assert all(a.equal(b) for a, b in zip(module.penalties.parameters(), before, strict=True))
    ratio = DensityRatio(hidden=[4])
    with pytest.raises(ValueError, match="a batch of one datum cannot be permuted"):
        ratio.network_loss(sample_of(1, loc=torch.zeros(1, 2), scale=torch.ones(1, 2)))


@pytest.mark.parametrize("hidden", [[], [3, 0]])
def test_a_discriminator_without_units_is_refused(hidden):
    with pytest.raises(ValueError, match="needs one hidden layer or more, of 1 unit or more, got"):
        DensityRatio(hidden=hidden)


def test_the_discriminator_is_that_of_the_paper_by_default():
    ratio = DensityRatio()
    sizes = [layer.out_features for layer in ratio.network if isinstance(layer, nn.Linear)]
    assert sizes == [1000] * 6 + [1]
    (group,) = ratio.optimizer([nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["betas"]) == (1e-4, (0.5, 0.9))


def test_an_own_loop_trains_the_discriminator_by_a_step():
    model, guide = latents(loc=torch.randn(5, 2, requires_grad=True), scale=torch.ones(5, 2))
    elbo = HierarchicalELBO(9, penalties={"tc": DensityRatio(hidden=[4])})
    module = elbo(model, guide)
    module(torch.zeros(5)).backward()
    before = [parameter.detach().clone() for parameter in module.penalties["tc"].network.parameters()]
    assert list(module.step()) == ["tc"]
    after = list(module.penalties["tc"].network.parameters())
    assert all((a != b).any() for a, b in zip(after, before, strict=True))
