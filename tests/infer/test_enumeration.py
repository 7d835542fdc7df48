"""Discrete sites without relaxation: against Pyro's enumeration and sums by hand, values and gradients in float64."""

import itertools
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Memory
from pyro_hfvae.infer.penalties import DensityRatio
from pyro_hfvae.metrics import encode
from pyro_hfvae.models import CorrelatedModel, HierarchicalModel, ImageModel, MixtureModel, MLPDecoder
from pyro_hfvae.paint import decode, posterior_modes

VECTORISED = {"num_particles": 3, "vectorize_particles": True}


pytestmark = pytest.mark.usefixtures("double_precision")


class Guide(nn.Module):
    """z is drawn first, so that Pyro's enumeration, which draws nothing else, has the same."""

    def __init__(self, sizes, binary=False):
        super().__init__()
        self.sizes, self.binary = sizes, binary
        self.heads = nn.Linear(4, 4 + sum(sizes.values()) + binary)

    def forward(self, x):
        loc, scale, *logits = self.heads(x).split([2, 2, *self.sizes.values(), *[1] * self.binary], -1)
        enumerate_all = {"enumerate": "parallel"}
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))
            for name, part in zip(self.sizes, logits, strict=False):
                pyro.sample(name, dist.OneHotCategorical(logits=2 * part), infer=enumerate_all)
            if self.binary:
                pyro.sample("b", dist.Bernoulli(logits=logits[-1][..., 0]), infer=enumerate_all)


class Model(nn.Module):
    """z's prior is a mixture over the first discrete site, if it depends on any."""

    def __init__(self, sizes, binary=False, mixture=False):
        super().__init__()
        self.sizes, self.binary, self.mixture = sizes, binary, mixture
        self.logits = nn.ParameterDict({name: nn.Parameter(torch.randn(size)) for name, size in sizes.items()})
        self.means = nn.Parameter(torch.randn(next(iter(sizes.values()), 1), 2))
        self.layers = nn.ModuleDict({name: nn.Linear(size, 8) for name, size in {**sizes, "z": 2, "b": 1}.items()})
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            values = {name: pyro.sample(name, dist.OneHotCategorical(logits=self.logits[name])) for name in self.sizes}
            if self.binary:
                values["b"] = pyro.sample("b", dist.Bernoulli(torch.tensor(0.3)))[..., None]
            loc = values[next(iter(self.sizes))] @ self.means if self.mixture else torch.zeros(2)
            values["z"] = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            hidden = sum(self.layers[name](value) for name, value in values.items())
            pyro.sample("x", dist.Normal(self.out(hidden.tanh()), 0.5).to_event(1), obs=x)


def gradient(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("particles", [{}, VECTORISED])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize(("sizes", "binary"), [({"y": 3}, False), ({"y": 2, "w": 5}, True), ({"y": 1}, False)])
def test_weights_of_one_are_pyros_enumerated_elbo(sizes, binary, mixture, particles):
    if binary and mixture:
        sizes, binary = {"y": 2, "w": 5}, False  # a Bernoulli beside a mixture is fine, but Pyro's takes long
    model, guide, x = Model(sizes, binary, mixture), Guide(sizes, binary), torch.randn(5, 4)
    torch.manual_seed(1)
    theirs = TraceEnum_ELBO(max_plate_nesting=1, **particles).differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    elbo = HierarchicalELBO(50, mutual_information=1.0, max_plate_nesting=1, **particles)
    ours = elbo.differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    expected = gradient(theirs, model, guide)
    torch.testing.assert_close(gradient(ours, model, guide), expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_reconstruction_by_hand(batch, first, second, count):
    """A site of several categoricals beside another of one; a loop over data and combinations."""
    logits_y, logits_w = torch.randn(batch, first), torch.randn(batch, count, second)
    a, c = torch.randn(first, 3), torch.randn(count, second, 3)

    def guide(x):
        with pyro.plate("data", batch):
            pyro.sample("y", dist.OneHotCategorical(logits=logits_y))
            pyro.sample("w", dist.OneHotCategorical(logits=logits_w).to_event(1))

    def model(x):
        with pyro.plate("data", batch):
            y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(first)))
            w = pyro.sample("w", dist.OneHotCategorical(logits=torch.zeros(count, second)).to_event(1))
            loc = (y @ a) * torch.einsum("...vk,vkd->...d", w, c)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    x = torch.randn(batch, 3)
    found = HierarchicalELBO(batch).terms(model, guide, x).reconstruction
    expected = torch.zeros(())
    for b in range(batch):
        for k in range(first):
            for choice in itertools.product(range(second), repeat=count):
                probability = logits_y[b].softmax(-1)[k]
                total = torch.zeros(3)
                for v, j in enumerate(choice):
                    probability = probability * logits_w[b, v].softmax(-1)[j]
                    total = total + c[v, j]
                expected = expected + probability * dist.Normal(a[k] * total, 1.0).log_prob(x[b]).sum() / batch
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def small(name):
    def decoder(size):
        return MLPDecoder(size, (1, 4, 4), (6,))

    gaussian, discrete = {"pose": 2, "style": 2}, {"shape": 3, "colour": 2}
    model = {
        "image": lambda: ImageModel(gaussian, discrete, decoder, relaxation=None),
        "mixture": lambda: MixtureModel(gaussian, discrete, {"pose": "shape"}, decoder, relaxation=None),
        "hierarchy": lambda: HierarchicalModel(gaussian, discrete, decoder, relaxation=None),
        "correlated": lambda: CorrelatedModel(gaussian, discrete, decoder, relaxation=None),
    }[name]()
    guide = ImageGuide(gaussian, discrete, lambda: MLPEncoder((1, 4, 4), (8,)), relaxation=None)
    return model, guide, torch.rand(5, 1, 4, 4)


SHIPPED = ["image", "mixture", "hierarchy", "correlated"]


@pytest.mark.parametrize("particles", [{}, {**VECTORISED, "max_plate_nesting": 1}])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_programs_train_every_parameter(name, particles):
    model, guide, x = small(name)
    elbo = HierarchicalELBO(100, 0.5, 3.0, 2.0, 1.5, marginal=Memory(20), **particles)
    loss = elbo(model, guide)
    loss(x).backward()
    for part in (model, guide):
        for key, parameter in part.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key
    assert loss(x[:2]).isfinite()
    assert all(value.isfinite() for value in elbo.aggregate_terms(model, guide, [(x,), (x[:1],)]).scalars().values())
    assert SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=HierarchicalELBO(100)).step(x) < float("inf")


def test_no_noise_comes_from_the_categories():
    """Programs of discrete sites only: the same loss and gradient whatever is drawn, in half precision too."""
    model = ImageModel({}, {"y": 3, "w": 2}, lambda size: MLPDecoder(size, (1, 4, 4), (6,)), relaxation=None)
    guide = ImageGuide({}, {"y": 3, "w": 2}, lambda: MLPEncoder((1, 4, 4), (8,)), relaxation=None)
    x, found = torch.rand(6, 1, 4, 4), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        loss = HierarchicalELBO(50).differentiable_loss(model, guide, x)
        found.append(torch.cat([loss[None], gradient(loss, model, guide)]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    model, guide, x = model.float(), guide.float(), x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = HierarchicalELBO(50).differentiable_loss(model, guide, x)
    assert half.item() == pytest.approx(found[0][0].item(), rel=0.02)  # the networks have 8 bits


def test_what_reads_the_programs_takes_them():
    model, guide, x = small("image")
    modes = posterior_modes(guide, x)
    assert {name for name, width in modes.widths.items() if width > 1} == {"shape", "colour"}
    assert decode(model, modes.values, x).shape == x.shape
    assert encode(guide, [(x,)]).columns.shape == (5, 2 + 2 + 3 + 2)


def test_dropout_and_batch_statistics_are_no_reason_to_refuse():
    guide, x = Guide({"y": 3}), torch.randn(6, 4)
    model = Model({"y": 3})
    model.out = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5))
    assert HierarchicalELBO(50).terms(model, guide, x).elbo.isfinite()
    assert model.out.training
    assert model.out[1].training


def discrete(decode, size=3, prior=None):
    def guide(x):
        with pyro.plate("data", 4):
            pyro.sample("y", dist.OneHotCategorical(logits=torch.arange(4.0)[:, None] * torch.ones(size).cumsum(0)))

    def model(x):
        with pyro.plate("data", 4):
            y = pyro.sample("y", prior or dist.OneHotCategorical(logits=torch.zeros(size)))
            pyro.sample("x", dist.Normal(decode(y), 1.0).to_event(1), obs=x)

    return model, guide


def test_a_relaxed_prior_stands_for_its_categories():
    x = torch.randn(4, 3)
    one = HierarchicalELBO(9).terms(*discrete(lambda y: y), x)
    other = HierarchicalELBO(9).terms(*discrete(lambda y: y, prior=Concrete(logits=torch.zeros(3))), x)
    for name, value in one.scalars().items():
        torch.testing.assert_close(value, other.scalars()[name])


KEEP = (
    "ith the sites 'y' summed over, the model is run with leading dimensions before that of the data, which it must "
    "keep (write y[..., 0] for y[:, 0], flatten nothing)"
)


def test_a_decoder_must_keep_leading_dimensions():
    model, guide = discrete(lambda y: y.flip(0))
    message = f"the likelihood changes where the latents get leading dimensions: w{KEEP}"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        HierarchicalELBO(9).terms(model, guide, torch.randn(4, 3))


def test_what_fails_with_leading_dimensions_says_so():
    model, guide = discrete(lambda y: y[:, [2, 0, 1]])
    with pytest.raises(IndexError) as caught:
        HierarchicalELBO(9).terms(model, guide, torch.randn(4, 3))
    assert caught.value.__notes__ == [f"W{KEEP}."]


def test_too_many_categories_are_refused_by_name():
    model, guide = discrete(lambda y: y[..., :3], size=1025)
    message = (
        "the sites 'y' of the guide are not relaxed and have 1,025 combinations of categories, on each of which the "
        "model is run; at most 1,024 can be: use Concrete for some of them"
    )
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        HierarchicalELBO(9).terms(model, guide, torch.randn(4, 3))


def test_a_discriminator_has_no_gradient_from_a_draw():
    model, guide = discrete(lambda y: y)
    message = "site 'y' of the guide is not relaxed: its sample has no gradient, which the discriminator needs"
    with pytest.raises(NotImplementedError, match=f"^{message}"):
        HierarchicalELBO(9, penalties={"tc": DensityRatio(1.0, hidden=[4])}).terms(model, guide, torch.randn(4, 3))


def test_a_bernoulli_that_a_prior_depends_on_is_summed_over():
    """E log p(z, b) and E log p(z_e) by sums over its two values."""
    mean, x = torch.tensor([1.0, -2.0, 0.5]), torch.randn(4, 3)

    def guide(x):
        with pyro.plate("data", 4):
            pyro.sample("b", dist.Bernoulli(logits=x[:, 0]))
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    def model(x):
        with pyro.plate("data", 4):
            b = pyro.sample("b", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Normal(b[..., None] * mean, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    torch.manual_seed(1)
    terms = HierarchicalELBO(4).terms(model, guide, x)
    torch.manual_seed(1)
    z = poutine.trace(guide).get_trace(x).nodes["z"]["value"]
    mass = torch.stack([1 - x[:, 0].sigmoid(), x[:, 0].sigmoid()], -1)
    log_prior = torch.tensor([0.7, 0.3]).log()
    log_p = torch.stack([dist.Normal(k * mean, 1.0).log_prob(z) for k in range(2)], 1)  # [B, K, V]
    joint = (mass * (log_prior + log_p.sum(-1))).sum(-1).mean()
    log_q = (mass * mass.log()).sum(-1).mean() + dist.Normal(x, 1.0).log_prob(z).sum(-1).mean()
    torch.testing.assert_close(terms.reconstruction - terms.elbo, log_q - joint)
    marginal = (log_prior[:, None] + log_p).logsumexp(1).mean(0)  # [V]
    q = dist.Normal(x, 1.0).log_prob(z[:, None]).logsumexp(1).mean(0) - torch.tensor(4.0).log()
    for e in range(3):
        torch.testing.assert_close(terms.blocks["z"].variables[f"z[{e}]"].dimension, q[e] - marginal[e])
