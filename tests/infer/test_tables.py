"""The tables of structured priors: the telescoping sum, hand enumeration, and where every term is exactly 0."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.infer.dependence import read_dependence

WEIGHTS = ("mutual_information", "between", "within", "dimension")


pytestmark = pytest.mark.usefixtures("double_precision")


class Guide(nn.Module):
    """Normal sites u and z of V variables, and y of K categories where K > 0."""

    def __init__(self, size=2, categories=0):
        super().__init__()
        self.sizes = [size] * 4 + [categories]
        self.heads = nn.Linear(5, sum(self.sizes)).double()

    def forward(self, x):
        u, z, log_u, log_z, logits = self.heads(x).split(self.sizes, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("u", dist.Normal(u, log_u.exp()).to_event(1))
            pyro.sample("z", dist.Normal(z, log_z.exp()).to_event(1))
            if self.sizes[-1]:
                pyro.sample("y", Concrete(0.7, logits=logits))


class Model(nn.Module):
    """What is shared: parameters and a likelihood of all latents."""

    def __init__(self, size=2, categories=0):
        super().__init__()
        self.size, self.categories = size, categories
        self.decoder = nn.Linear(2 * size + categories, 5).double()
        self.weight = nn.Parameter(torch.randn(size, size, dtype=torch.float64))
        self.scale = nn.Parameter(torch.rand(size, dtype=torch.float64) + 0.5)
        self.means = nn.Parameter(torch.randn(max(categories, 1), size, dtype=torch.float64))
        self.logits = nn.Parameter(torch.randn(max(categories, 1), dtype=torch.float64))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            values = torch.cat(self.latents(), -1)
            pyro.sample("x", dist.Normal(self.decoder(values), 1.0).to_event(1), obs=x)


class Hierarchy(Model):
    def latents(self):
        u = pyro.sample("u", dist.Normal(self.means[0], 1.0).to_event(1))
        return [u, pyro.sample("z", dist.Normal(u @ self.weight, self.scale).to_event(1))]


class Correlated(Model):
    def latents(self):
        tril = (self.weight.tril(-1) + self.scale.diag()) if self.size > 1 else self.scale[:, None]
        u = pyro.sample("u", dist.MultivariateNormal(self.means[0], scale_tril=tril))
        factor = dist.LowRankMultivariateNormal(self.means[0], self.weight, self.scale)
        return [u, pyro.sample("z", factor)]


class CorrelatedHierarchy(Model):
    def latents(self):
        tril = (self.weight.tril(-1) + self.scale.diag()) if self.size > 1 else self.scale[:, None]
        u = pyro.sample("u", dist.MultivariateNormal(self.means[0], scale_tril=tril))
        return [u, pyro.sample("z", dist.MultivariateNormal((u @ self.weight).tanh(), scale_tril=tril))]


class Mixture(Model):
    def latents(self):
        y = pyro.sample("y", Concrete(0.7, logits=self.logits))
        u = pyro.sample("u", dist.Normal(y @ self.means, 0.8).to_event(1))
        return [y, u, pyro.sample("z", dist.Normal(u @ self.weight + y @ self.means, self.scale).to_event(1))]


def batch(size=3):
    return torch.rand(size, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def gradient(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if part is None else part).flatten() for p, part in zip(parameters, parts, strict=True)]
    )


LAYOUTS = [
    None,
    {"a": ["u[0]", "z"], "b": ["u[1:]"]},
    {"all": ["z", "u"]},
    {"g": {"a": ["u[0]"], "b": ["z[0]"]}, "c": ["u[1:]", "z[1:]"]},
]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([Hierarchy, Correlated, CorrelatedHierarchy]),
    st.sampled_from(LAYOUTS),
    st.integers(2, 3),
    st.integers(2, 3),
    st.sampled_from([{}, {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}]),
)
def test_weights_of_one_are_the_ordinary_elbo_whatever_the_prior(program, layout, size, data, particles):
    """The marginals of the prior cancel, sampled or not: with 3 samples too, values and gradients to rounding."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model, guide, x = program(size), Guide(size), batch(data)
    torch.manual_seed(1)
    theirs = Trace_ELBO(**particles).differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    elbo = HierarchicalELBO(100, blocks=layout, prior_samples=3, **particles)
    ours = elbo.differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient(ours, model, guide), gradient(theirs, model, guide), rtol=1e-7, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 3),
    st.integers(2, 4),
    st.sampled_from([None, {"a": ["y", "z"], "b": ["u"]}, {"a": ["z[0]", "u"], "b": ["y", "z[1:]"]}]),
    st.sampled_from([1, 2]),
)
def test_a_discrete_parent_enters_by_its_categories(size, data, categories, layout, particles):
    """E log q(z, u, y|x) - Σ_k q(k|x) log p(k) p(u|k) p(z|u, k), with p given one-hot vectors."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    if layout and size == 1:
        layout = {"a": ["y", "z"], "b": ["u"]}
    model, guide, x = Mixture(size, categories), Guide(size, categories), batch(data)
    options = {"num_particles": particles, "vectorize_particles": True, "max_plate_nesting": 1} if particles > 1 else {}
    torch.manual_seed(1)
    elbo = HierarchicalELBO(100, blocks=layout, mutual_information=1.0, prior_samples=3, **options)
    ours = elbo.differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    model_trace, guide_trace = next(Trace_ELBO(**options)._get_traces(model, guide, (x,), {}))
    u, z, y = (guide_trace.nodes[name] for name in "uzy")
    mass = y["fn"].logits.softmax(-1)
    expected = u["fn"].log_prob(u["value"]) + z["fn"].log_prob(z["value"]) + (mass * mass.log()).sum(-1)
    for k in range(categories):
        log_p = model.logits.log_softmax(-1)[k]
        log_p = log_p + dist.Normal(model.means[k], 0.8).log_prob(u["value"]).sum(-1)
        log_p = log_p + dist.Normal(u["value"] @ model.weight + model.means[k], model.scale).log_prob(z["value"]).sum(
            -1
        )
        expected = expected - mass[..., k] * log_p
    expected = (expected - model_trace.nodes["x"]["fn"].log_prob(x)).sum() / particles
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient(ours, model, guide), gradient(expected, model, guide), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("program", [Hierarchy, CorrelatedHierarchy, Mixture])
def test_gradients_of_the_prior_against_finite_differences(program):
    """With all weights different, through the joint and the sampled marginals; the ancestors move with parameters."""
    categories = 3 if program is Mixture else 0
    model, guide, x = program(2, categories), Guide(2, categories), batch()
    elbo = HierarchicalELBO(10, mutual_information=0.5, between=3.0, within=2.0, dimension=1.5, prior_samples=20)

    def loss():
        torch.manual_seed(3)
        return elbo.differentiable_loss(model, guide, x)

    loss()  # the check of the programs draws from the stream once
    parameters = [model.weight, model.scale, model.means, *guide.parameters()]
    found = torch.autograd.grad(loss(), parameters)
    for parameter, gradients in zip(parameters, found, strict=True):
        assert gradients.any()
        flat, step = parameter.data.view(-1), 1e-5
        for place in range(min(6, len(flat))):
            kept = flat[place].item()
            flat[place] = kept + step
            above = loss().item()
            flat[place] = kept - step
            below = loss().item()
            flat[place] = kept
            assert gradients.flatten()[place].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("layout", [None, {"a": ["y", "z"], "b": ["u"]}])
def test_a_dependent_prior_of_any_density_enters_by_its_categories(layout):
    """z ~ Student t about the category's mean, one variable: E log p(z, y) by a sum over the categories."""
    means, guide, x = torch.randn(3, 2), Guide(2, 3), batch()

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=torch.arange(3.0)))
            pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("z", dist.MultivariateStudentT(5.0, y @ means, torch.eye(2)))
            pyro.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1), obs=x)

    torch.manual_seed(1)
    terms = HierarchicalELBO(100, blocks=layout).terms(model, guide, x)
    torch.manual_seed(1)
    nodes = poutine.trace(guide).get_trace(x).nodes
    u, z, y = (nodes[name] for name in "uzy")
    mass = y["fn"].logits.softmax(-1)
    divergence = u["fn"].log_prob(u["value"]) - dist.Normal(0.0, 1.0).log_prob(u["value"]).sum(-1)
    divergence = divergence + z["fn"].log_prob(z["value"]) + (mass * mass.log()).sum(-1)
    for k in range(3):
        log_p = torch.arange(3.0).log_softmax(-1)[k]
        log_p = log_p + dist.MultivariateStudentT(5.0, means[k], torch.eye(2)).log_prob(z["value"])
        divergence = divergence - mass[:, k] * log_p
    torch.testing.assert_close(terms.reconstruction - terms.elbo, divergence.mean())
    assert list(terms.blocks["a" if layout else "z"].variables)[-1] == "z"  # of one density


def test_everything_is_0_where_the_aggregate_is_the_mixture_prior():
    """Each of K data has one category and its component as posterior: q(y, z) is p(y, z), so A = i = ii = 0 exactly.

    Blocks and variables are all dependent in q. Against a standard normal prior, A and i are not 0.
    """
    means, scales = 2 * torch.randn(4, 3), torch.rand(4, 3) + 0.3
    x = torch.eye(4)

    def guide(x):
        pyro.sample("y", Concrete(0.7, logits=1e4 * x))
        pyro.sample("z", dist.Normal(means, scales).to_event(1))

    def model(x, structured=True):
        with pyro.plate("data", 4):
            y = pyro.sample("y", Concrete(0.7, logits=torch.zeros(4)))
            moments = (y @ means, y @ scales) if structured else (torch.zeros(3), torch.ones(3))
            pyro.sample("z", dist.Normal(*moments).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1), obs=x)

    for layout in (None, {"a": ["z[0:2]"], "b": ["z[2]", "y"]}):
        terms = HierarchicalELBO(4, blocks=layout).terms(model, guide, x)
        for name in ("between", "within", "dimension"):
            assert getattr(terms, name).abs() < 1e-12, name
        assert terms.mutual_information.item() == pytest.approx(math.log(4))
        flat = HierarchicalELBO(4, blocks=layout).terms(lambda x: model(x, structured=False), guide, x)
        assert flat.between > 0.1
        assert flat.within > 0.1


def test_everything_is_0_where_categories_depend_on_one_another_as_in_the_prior():
    """p(y1, y2) of counts out of 8; one datum for each count."""
    counts = torch.tensor([[3, 1, 0], [0, 2, 2]])
    pairs = [(a, b) for a in range(2) for b in range(3) for _ in range(counts[a, b])]
    first, second = (torch.tensor(column) for column in zip(*pairs, strict=True))
    conditional = (counts / counts.sum(1, keepdim=True)).log().clamp_min(-1e30)

    def guide(x):
        pyro.sample("y1", Concrete(0.7, logits=1e4 * torch.eye(2)[first]))
        pyro.sample("y2", Concrete(0.7, logits=1e4 * torch.eye(3)[second]))

    def model(x):
        with pyro.plate("data", 8):
            y1 = pyro.sample("y1", Concrete(0.7, logits=torch.zeros(2)))
            pyro.sample("y2", Concrete(0.7, logits=(y1[..., None] * conditional).sum(-2)))
            pyro.sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1), obs=x)

    for layout in (None, {"all": ["y1", "y2"]}):
        terms = HierarchicalELBO(8, blocks=layout).terms(model, guide, torch.zeros(8, 1))
        for name in ("between", "within", "dimension"):
            assert getattr(terms, name).abs() < 1e-12, name


@pytest.mark.parametrize("structured", [True, False])
def test_an_aggregate_that_has_the_correlation_of_the_prior(structured):
    """4,000 posteriors N(μ_n, s²) with μ_n ~ N(0, Σ - s²): q(z) = N(0, Σ). Standard errors about .01."""
    s, n = 0.5, 4000
    matrix = torch.tensor([[1, 0.6, 0.3], [0.6, 1, 0.4], [0.3, 0.4, 1]])
    loc = torch.randn(n, 3) @ torch.linalg.cholesky(matrix - s * s * torch.eye(3)).T

    def guide(loc):
        pyro.sample("z", dist.Normal(loc, s).to_event(1))

    def model(loc):
        with pyro.plate("data", len(loc)):
            pyro.sample("z", dist.MultivariateNormal(torch.zeros(3), matrix if structured else torch.eye(3)))
            pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=loc)

    elbo = HierarchicalELBO(n, blocks={"a": ["z[0:2]"], "b": ["z[2]"]})
    terms = elbo.aggregate_terms(model, guide, [(part,) for part in loc.split(1000)])
    within = 0.0 if structured else -0.5 * math.log(1 - 0.36)
    between = 0.0 if structured else -0.5 * (matrix.logdet() - matrix[:2, :2].logdet()).item()
    assert terms.within.item() == pytest.approx(within, abs=0.04)
    assert terms.between.item() == pytest.approx(between, abs=0.04)
    assert abs(terms.dimension) < 0.04


def test_aggregate_joins_the_batches_of_a_dependent_prior():
    model, guide, x = Hierarchy(), Guide(), batch(6)
    elbo = HierarchicalELBO(6, prior_samples=50)
    torch.manual_seed(1)
    whole = elbo.aggregate_terms(model, guide, [(x,)])
    torch.manual_seed(1)
    plain = elbo.terms(model, guide, x)
    parts = elbo.aggregate_terms(model, guide, [(x[:4],), (x[4:],)])
    for name, value in whole.scalars().items():
        torch.testing.assert_close(value, plain.scalars()[name].detach())
        assert parts.scalars()[name].isfinite()


def test_a_factorised_prior_costs_no_further_run():
    runs = []

    def model(x):
        runs.append(None)
        with pyro.plate("data", len(x)):
            pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
            pyro.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1), obs=x)

    elbo, guide = HierarchicalELBO(100), Guide()
    elbo.terms(model, guide, batch())
    runs.clear()
    elbo.terms(model, guide, batch())
    assert len(runs) == 1


def test_dependence_through_an_affine_transform_is_seen():
    """The parameters sit in a list of transforms, not in the distribution."""

    def model(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            shift = dist.transforms.AffineTransform(u, 1.0)
            moved = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).expand(u.shape), [shift])
            pyro.sample("z", moved.to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1), obs=x)

    elbo, guide = HierarchicalELBO(100, prior_samples=20_000), Guide()
    torch.manual_seed(1)
    terms = elbo.terms(model, guide, batch())
    assert read_dependence(model, guide, (batch(),), {})[0].model == {"u": frozenset(), "z": {"u"}}
    torch.manual_seed(1)
    value = poutine.trace(guide).get_trace(batch()).nodes["z"]["value"]
    marginal = dist.Normal(0.0, math.sqrt(2)).log_prob(value).mean(0)
    torch.manual_seed(1)
    plain = HierarchicalELBO(100).terms(_standard, guide, batch())
    for e, name in enumerate(("z[0]", "z[1]")):
        change = terms.blocks["z"].variables[name].dimension - plain.blocks["z"].variables[name].dimension
        expected = dist.Normal(0.0, 1.0).log_prob(value).mean(0)[e] - marginal[e]
        assert change.item() == pytest.approx(expected.item(), abs=0.03)


def test_the_plate_of_a_subsample_scales_the_loss_once_and_keeps_its_indices():
    """The runs for the marginals see the data that the model's own run drew."""
    shift = torch.arange(60.0)[:, None]
    seen = []

    def latents(x, model):
        with pyro.plate("data", 60, subsample_size=3) as indices:
            if model:
                seen.append(indices.tolist())
                u = pyro.sample("u", dist.Normal(shift[indices], 50.0).to_event(1))
                z = pyro.sample("z", dist.Normal(u, 20.0).to_event(1))
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[indices])
            else:
                pyro.sample("u", dist.Normal(torch.zeros(3, 1), 1.0).to_event(1))
                pyro.sample("z", dist.Normal(torch.ones(3, 1), 1.0).to_event(1))

    x = torch.zeros(60, 1)
    elbo = HierarchicalELBO(60, prior_samples=5000)
    torch.manual_seed(1)
    ours = elbo.differentiable_loss(lambda x: latents(x, True), lambda x: latents(x, False), x)
    assert all(indices == seen[-1] for indices in seen[-4:])
    torch.manual_seed(1)
    theirs = Trace_ELBO().differentiable_loss(lambda x: latents(x, True), lambda x: latents(x, False), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)


def test_autocast_leaves_the_marginals_of_the_prior_in_float32():
    torch.set_default_dtype(torch.float32)
    for program in (Hierarchy, CorrelatedHierarchy):
        torch.manual_seed(0)
        model, guide, x = program().float(), Guide().float(), batch().float()
        terms = []
        for enabled in (False, True):
            torch.manual_seed(1)
            elbo = HierarchicalELBO(100, blocks={"a": ["u[0]", "z"], "b": ["u[1]"]})
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                terms.append(elbo.terms(model, guide, x))
        assert terms[1].between.dtype == torch.float32
        assert terms[1].between.isfinite()
        assert abs(terms[1].between - terms[0].between) < 0.2


def _standard(x):
    with pyro.plate("data", len(x)):
        pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1), obs=x)
