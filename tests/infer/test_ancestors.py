"""Marginals of dependent priors against explicit sums and closed forms, in float64."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import MultivariateNormal, Normal

from pyro_hfvae import Concrete
from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.dependence import components, read_dependence
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.programs import Run
from pyro_hfvae.infer.structured import whole

B = 3
X = torch.linspace(-1, 1, B, dtype=torch.float64)[:, None]


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def guide_of(normal, discrete=()):
    """A guide of sites of V variables, and of sites of K categories."""
    loc = {name: torch.randn(B, size) for name, size in dict(normal).items()}
    logits = {name: torch.randn(B, size) for name, size in dict(discrete).items()}

    def guide(x):
        with pyro.plate("data", len(x)):
            for name in loc:
                pyro.sample(name, dist.Normal(loc[name], 0.7).to_event(1))
            for name in logits:
                pyro.sample(name, Concrete(0.7, logits=logits[name]))

    return guide


def group(**indices):
    return frozenset(Variable(site, index, "") for site, some in indices.items() for index in some)


def marginals(model, guide, groups, prior_samples=10, seed=1):
    """E[log p(z_G)] by group, and the guide's sites."""
    dependence, *_ = read_dependence(model, guide, (X,), {})
    (component,) = components(dependence.model)
    torch.manual_seed(7)
    guide_trace = poutine.trace(guide).get_trace(X)
    trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(X)
    torch.manual_seed(seed)
    shape, plate = torch.Size([1, B]), dependence.plate
    sites = whole(posterior_sites(guide_trace, trace, plate), shape)
    run = Run(model, (X,), {}, trace, plate, "model")
    table = Ancestral(component, run, sites, shape, prior_samples, shared=not dependence.conditional)
    found = {}
    for some, log_density in table.log_densities(groups).items():
        assert log_density.shape[-2:] == (1, B)
        mass = torch.ones(1, B)
        for name, index in table.categoricals(some):
            mass = mass[..., None, :, :] * sites[name].mean.expand(1, B, -1, -1)[:, :, index].movedim(-1, 0)
        found[some] = (mass * log_density).reshape(-1, B).sum(0)
    return found, sites


def test_sites_that_depend_on_one_another_are_gathered():
    parents = {"a": "", "b": "", "c": "a", "e": "", "d": "bc", "f": "", "h": "e"}
    parts = components({name: frozenset(some) for name, some in parents.items()})
    assert [dict(part.descendants) for part in parts] == [
        {"a": {"c", "d"}, "b": {"d"}, "c": {"d"}, "d": frozenset()},
        {"e": {"h"}, "h": frozenset()},
    ]


def test_a_mixture_has_exact_marginals():
    """p(z_G) = Σ_k π_k Π_e N(z_e; μ_ke, σ_ke), by loops."""
    means, scales, logits = torch.randn(4, 3), torch.rand(4, 3) + 0.2, torch.randn(4)

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=logits))
            pyro.sample("z", dist.Normal(y @ means, y @ scales).to_event(1))

    groups = [group(z=some) for some in ([0], [2], [0, 1], [0, 1, 2])]
    groups += [group(y=[0]), group(z=[0, 2], y=[0]), group(z=[0, 1, 2], y=[0])]
    found, latents = marginals(model, guide_of({"z": 3}, {"y": 4}), groups)
    z, mass = latents["z"].value[0], latents["y"].log_mass[:, 0].exp()
    prior = logits.softmax(-1)
    for some in groups:
        for b in range(B):
            joint = torch.stack([prior[k] for k in range(4)])
            for variable in some:
                if variable.site == "z":
                    e = variable.index
                    joint = joint * Normal(means[:, e], scales[:, e]).log_prob(z[b, e]).exp()
            with_y = any(variable.site == "y" for variable in some)
            expected = (mass[b] * joint.log()).sum() if with_y else joint.sum().log()
            torch.testing.assert_close(found[some][b], expected)


def test_categories_without_mass_cost_nothing_where_the_guide_gives_them_none():
    logits, means = torch.tensor([0.0, -math.inf, 1.0]), torch.randn(3, 2)

    def model(x):
        y = pyro.sample("y", dist.OneHotCategorical(logits=logits.expand(B, 3)))
        pyro.sample("z", dist.Normal(y @ means, 1.0).to_event(1))

    def guide(x):
        pyro.sample("y", Concrete(0.7, logits=logits.expand(B, 3)))
        pyro.sample("z", dist.Normal(torch.zeros(B, 2), 1.0).to_event(1))

    found, _ = marginals(model, guide, [group(y=[0], z=[0]), group(z=[0])])
    assert all(value.isfinite().all() for value in found.values())


def chain():
    """z3 → z2 → z1, linear and Gaussian, z2 with correlated variables, and the covariance of (z3, z2, z1)."""
    a, b = torch.randn(2, 3), torch.randn(3, 2)
    tril = torch.tensor([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.6]])
    scale = torch.tensor([0.9, 1.1])

    def model(x):
        with pyro.plate("data", len(x)):
            z3 = pyro.sample("z3", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.MultivariateNormal(z3 @ a, scale_tril=tril))
            pyro.sample("z1", dist.Normal(z2 @ b, scale).to_event(1))

    two = a.T @ a + tril @ tril.T
    one = b.T @ two @ b + scale.square().diag()
    rows = [[torch.eye(2), a, a @ b], [a.T, two, two @ b], [(a @ b).T, b.T @ two, one]]
    return model, torch.cat([torch.cat(row, 1) for row in rows])


PLACE = {"z3": 0, "z2": 2, "z1": 5}
CHAIN = {
    "top": group(z3=[0, 1]),
    "joint": group(z3=[0, 1], z2=[0, 1, 2], z1=[0, 1]),
    "upper two": group(z3=[0, 1], z2=[0, 2]),
    "middle": group(z2=[1]),
    "bottom": group(z1=[0, 1]),
    "variable": group(z1=[1]),
    "gap": group(z3=[0, 1], z1=[0, 1]),
    "part of the top": group(z3=[1], z1=[0]),
    "part of the middle": group(z2=[0, 2], z1=[0, 1]),
    "parts of all": group(z3=[0], z2=[1], z1=[1]),
}


def closed_form(matrix, some, latents):
    pairs = sorted((PLACE[v.site] + v.index, v) for v in some)
    places = [place for place, _ in pairs]
    value = torch.stack([latents[v.site].value[0, :, v.index] for _, v in pairs], -1)
    return MultivariateNormal(torch.zeros(len(places)), matrix[places][:, places]).log_prob(value)


@pytest.mark.parametrize("name", CHAIN)
def test_a_linear_gaussian_hierarchy(name):
    """20,000 samples; the standard error of each log-density is below .03 here, exact cases are so to rounding."""
    model, matrix = chain()
    found, latents = marginals(model, guide_of({"z3": 2, "z2": 3, "z1": 2}), [CHAIN[name]], 20_000)
    exact = name in ("top", "joint", "upper two")
    expected = closed_form(matrix, CHAIN[name], latents)
    torch.testing.assert_close(found[CHAIN[name]], expected, rtol=1e-9 if exact else 0, atol=1e-9 if exact else 0.1)


def test_the_density_is_unbiased_and_its_logarithm_biased_by_one_over_the_samples():
    """Means over 400 seeds at P = 10, 100: the density within 4 standard errors, the log below, ten times less so."""
    model, matrix = chain()
    guide, some = guide_of({"z3": 2, "z2": 3, "z1": 2}), CHAIN["bottom"]
    bias = {}
    for samples in (10, 100):
        runs = torch.stack([marginals(model, guide, [some], samples, seed)[0][some] for seed in range(400)])
        latents = marginals(model, guide, [some], 1)[1]
        exact = closed_form(matrix, some, latents)
        ratio = (runs - exact).exp()  # p̂ / p
        assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / 20).all()
        bias[samples] = (runs - exact).mean(0)
    assert (bias[10] < -0.02).all()
    assert (bias[100].abs() < 0.3 * bias[10].abs()).all()


def test_a_discrete_child_of_a_continuous_parent():
    """p(y = k) = ∫ p(k|z) p(z) dz, by a fine grid; its expectation under q(y|x)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("y", Concrete(0.7, logits=z * torch.tensor([0.0, 1.0, -2.0])))

    both, alone, z_alone = group(z=[0], y=[0]), group(y=[0]), group(z=[0])
    found, latents = marginals(model, guide_of({"z": 1}, {"y": 3}), [both, alone, z_alone], 40_000)
    mass, z = latents["y"].log_mass[:, 0].exp(), latents["z"].value[0]
    grid = torch.linspace(-8, 8, 4001)[:, None]
    weight = Normal(0.0, 1.0).log_prob(grid).exp() * 16 / 4000
    marginal = (weight * (grid * torch.tensor([0.0, 1.0, -2.0])).softmax(-1)).sum(0)
    torch.testing.assert_close(found[alone], (mass * marginal.log()).sum(-1), atol=0.01, rtol=0)
    torch.testing.assert_close(found[z_alone], Normal(0.0, 1.0).log_prob(z[:, 0]))
    conditional = (z * torch.tensor([0.0, 1.0, -2.0])).log_softmax(-1)
    expected = Normal(0.0, 1.0).log_prob(z[:, 0]) + (mass * conditional).sum(-1)
    torch.testing.assert_close(found[both], expected)


def test_a_continuous_site_between_discrete_ones_and_two_parents():
    """y → z → w with w given v too: p(w, y) by a sum over v and a grid over z."""
    means, logits = torch.tensor([[-1.0], [2.0]]), torch.tensor([0.3, -0.2])

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=logits))
            v = pyro.sample("v", Concrete(0.7, logits=torch.zeros(3)))
            z = pyro.sample("z", dist.Normal(y @ means, 0.5).to_event(1))
            pyro.sample("w", dist.Normal(torch.cat([z, v], -1) @ torch.tensor([[1.0], [0], [1], [4]]), 0.8).to_event(1))

    some, alone = group(w=[0], y=[0]), group(w=[0])
    found, latents = marginals(model, guide_of({"z": 1, "w": 1}, {"y": 2, "v": 3}), [some, alone], 40_000)
    w, mass = latents["w"].value[0, :, 0], latents["y"].log_mass[:, 0].exp()
    scale = math.hypot(0.5, 0.8)
    joint = torch.stack(
        [sum(Normal(means[k, 0] + shift, scale).log_prob(w).exp() for shift in (0.0, 1.0, 4.0)) / 3 for k in range(2)],
        -1,
    ) * logits.softmax(-1)
    torch.testing.assert_close(found[some], (mass * joint.log()).sum(-1), atol=0.05, rtol=0)
    torch.testing.assert_close(found[alone], joint.sum(-1).log(), atol=0.05, rtol=0)


def test_a_prior_that_depends_on_the_datum():
    """z2 ~ N(3x, 1), z1 ~ N(z2 + x, 2): each datum has ancestors of its own."""

    def model(x):
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(3 * x, 1.0).to_event(1))
            pyro.sample("z1", dist.Normal(z2 + x, 2.0).to_event(1))

    some = group(z1=[0])
    found, latents = marginals(model, guide_of({"z2": 1, "z1": 1}), [some], 50_000)
    expected = Normal(4 * X[:, 0], math.hypot(1, 2)).log_prob(latents["z1"].value[0, :, 0])
    torch.testing.assert_close(found[some], expected, atol=0.05, rtol=0)


def test_only_the_prior_is_run_and_few_inputs_where_the_data_share_it():
    seen = []

    def model(x):
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            seen.append(math.prod(z2.shape[:-1]))
            z1 = pyro.sample("z1", dist.Normal(z2.tanh(), 0.5).to_event(1))
            seen.append("decoder")
            pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)

    guide = guide_of({"z2": 1, "z1": 1})
    marginals(model, guide, [group(z1=[0]), group(z2=[0]), group(z2=[0], z1=[0])], 50)
    assert seen[-3:] == [50, 1, B]  # no decoder between them


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.LogNormal])
def test_distributions_that_all_data_share_are_evaluated_once(family, monkeypatch):
    # Normal and log-normal ones by a matrix product, Laplace by its log_prob: equal to the density of each datum by
    # itself up to rounding, since the samples of the ancestors are the same.
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            scale = a.sum(-1, keepdim=True).exp().expand(*a.shape[:-1], 3)
            pyro.sample("b", family(a[..., :1].expand(*a.shape[:-1], 3), scale).to_event(1))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(x.expand(-1, 2), 0.7).to_event(1))
            pyro.sample("b", dist.LogNormal(x.expand(-1, 3), 0.7).to_event(1))

    groups = [group(b=[0]), group(b=[1, 2]), group(b=[0, 1, 2]), group(a=[0], b=[1])]
    found, _ = marginals(model, guide, groups, prior_samples=50)
    monkeypatch.setattr("pyro_hfvae.infer.ancestors._of_first_datum", lambda fn: fn)
    plain, _ = marginals(model, guide, groups, prior_samples=50)
    for some in groups:
        torch.testing.assert_close(found[some], plain[some], rtol=1e-12, atol=1e-12)
