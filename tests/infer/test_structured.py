"""Marginals of guides whose sites depend on one another, against loops over pairs and closed forms, in float64."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch.distributions import Normal

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.blocks import Variable
from pyro_hfvae.distributions import nearest_category
from pyro_hfvae.infer import Exact, Memory, Minibatch, MinibatchWeighted, structured
from pyro_hfvae.infer import module as modules
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.dependence import Component, read_dependence
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.penalties import MaximumMeanDiscrepancy, OffDiagonalCovariance
from pyro_hfvae.infer.programs import Run
from pyro_hfvae.infer.references import References, batch_of
from pyro_hfvae.infer.sample import read_sample
from pyro_hfvae.infer.structured import Structured, whole
from pyro_hfvae.infer.traces import DataPlate


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def data(size):
    return torch.randn(size, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Mixture(torch.nn.Module):
    """y given x, z given x and the category of y, w given x alone."""

    def __init__(self, categories=3, size=2):
        super().__init__()
        self.categories, self.size = categories, size
        self.of_y = torch.nn.Parameter(torch.randn(2, categories))
        self.of_z = torch.nn.Parameter(torch.randn(2, size))
        self.means = torch.nn.Parameter(2 * torch.randn(categories, size))
        self.scales = torch.nn.Parameter(0.3 * torch.randn(categories, size))
        self.of_w = torch.nn.Parameter(torch.randn(2, 1))

    def moments(self, x, category):
        """Of z; category [..., K]."""
        return x @ self.of_z + category @ self.means, (category @ self.scales).exp()

    def forward(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=x @ self.of_y))
            pyro.sample("z", dist.Normal(*self.moments(x, nearest_category(y))).to_event(1))
            pyro.sample("w", dist.Normal(x @ self.of_w, 0.8).to_event(1))

    def log_density(self, group, k, value, x):
        """log q(z_G, y_G = k|x) of one sample and one datum, by a sum over all categories that are not in G."""
        log_mass = (x @ self.of_y).log_softmax(-1)
        total = torch.zeros(())
        for category in range(self.categories):
            if k is not None and category != k:
                continue
            density = log_mass[category].exp()
            loc, scale = self.moments(x, torch.eye(self.categories)[category])
            for variable in group:
                if variable.site == "z":
                    e = variable.index
                    density = density * Normal(loc[e], scale[e]).log_prob(value["z"][e]).exp()
            total = total + density
        for variable in group:
            if variable.site == "w":
                total = total * Normal((x @ self.of_w)[0], 0.8).log_prob(value["w"][0]).exp()
        return total.log()


def prior(categories=3, size=2):
    """A structured prior of the same sites."""
    means, logits = torch.randn(categories, size), torch.randn(categories)

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=logits))
            pyro.sample("z", dist.Normal(y @ means, 1.3).to_event(1))
            pyro.sample("w", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    def log_density(group, k, value):
        total = torch.zeros(())
        for category in range(categories):
            if k is not None and category != k:
                continue
            density = logits.softmax(-1)[category]
            for variable in group:
                if variable.site == "z":
                    e = variable.index
                    density = density * Normal(means[category, e], 1.3).log_prob(value["z"][e]).exp()
            total = total + density
        for variable in group:
            if variable.site == "w":
                total = total * Normal(0.0, 1.0).log_prob(value["w"][0]).exp()
        return total.log()

    return model, log_density


def group(**indices):
    return frozenset(Variable(site, index, "") for site, some in indices.items() for index in some)


def weights(estimator, batch, data_size):
    """Of the own and of every other posterior, by the formulas of the estimators."""
    if isinstance(estimator, MinibatchWeighted):
        return 1 / (data_size * batch), 1 / (data_size * batch)
    return 1 / data_size, (data_size - 1) / (data_size * (batch - 1)) if batch > 1 else 0.0


def by_hand(density, categories, some, values, x, own_weight, other_weight, log_prior=None):
    """E[log q(z_G|x)], E[log q̂(z_G)] and E[log p(z_G)]: a loop for each sum.

    values: site to [S, B, V]; density(group, k, value, x) is log q(z_G, k|x).
    """
    choices = range(categories) if any(variable.site == "y" for variable in some) else [None]
    particles, batch = values["z"].shape[:2]
    sums = [torch.zeros(()) for _ in range(3)]
    for s in range(particles):
        for b in range(batch):
            value = {name: part[s, b] for name, part in values.items()}
            own = [density(some, k, value, x[b]).exp() for k in choices]
            for k, mine in zip(choices, own, strict=True):
                mixture = own_weight * mine
                for other in range(batch):
                    if other != b:
                        mixture = mixture + other_weight * density(some, k, value, x[other]).exp()
                responsibility = mine / sum(own)
                parts = [mine.log(), mixture.log()]
                if log_prior is not None:
                    parts.append(log_prior(some, k, value))
                for place, part in enumerate(parts):
                    sums[place] = sums[place] + responsibility * part / (particles * batch)
    return sums


def run(guide, x, guide_samples=100, particles=1, seed=1, references=None):
    """The densities of a batch; with particles in front of the data."""
    parents = {name: frozenset(above) for name, above in PARENTS[type(guide)].items()}
    torch.manual_seed(seed)

    def vectorised(x):
        with pyro.plate("num_particles_vectorized", particles, dim=-2):
            return guide(x)

    trace = poutine.trace(guide if particles == 1 else vectorised).get_trace(x)
    plate = DataPlate.of(trace)
    sites = posterior_sites(trace, None, plate)
    shape = batch_of(sites)
    component = Component.of(parents, list(parents))
    sites = whole(sites, shape)
    table = Ancestral(component, Run(guide, (x,), {}, trace, plate, "guide"), sites, shape, guide_samples)
    return Structured(table, [table], references or References(0.0, 0.0))


def gradient(value, module):
    parts = torch.autograd.grad(value, list(module.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if part is None else part).flatten()
            for p, part in zip(module.parameters(), parts, strict=True)
        ]
    )


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([Minibatch(), MinibatchWeighted(), Exact()]),
)
def test_every_group_against_loops_over_pairs(batch, surplus, categories, size, particles, estimator):
    """Values and gradients, with every datum's own conditional at the sample of every other."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    data_size = batch if batch == 1 or isinstance(estimator, Exact) else batch + surplus
    guide, x, every = Mixture(categories, size), data(batch), range(size)
    groups = [group(y=[0]), group(z=[0]), group(z=every), group(z=every, y=[0], w=[0]), group(y=[0], z=[size - 1])]
    groups = list(dict.fromkeys([*groups, group(w=[0]), *(group(z=[e]) for e in every)]))
    references = estimator.references(SimpleNamespace(shape=(particles, batch)), data_size)
    densities = run(guide, x, particles=particles, references=references)
    values = {name: densities.own_table.sites[name].value for name in "zw"}
    own, aggregate = (dict(zip(groups, found, strict=True)) for found in densities.both(groups))
    for some in groups:
        expected = by_hand(guide.log_density, categories, some, values, x, *weights(estimator, batch, data_size))
        for ours, theirs in zip((own[some], aggregate[some]), expected, strict=False):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(gradient(ours, guide), gradient(theirs, guide), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("layout", [None, {"a": ["z[0]", "y"], "b": ["z[1]", "w"]}, {"all": ["w", "z", "y"]}])
def test_the_terms_are_made_of_these_groups(layout):
    """All four terms, with a prior of the same structure: every expectation is under q(y|x, z)."""
    guide, x = Mixture(), data(4)
    model, log_prior = prior()
    elbo = HierarchicalELBO(9, blocks=layout)
    torch.manual_seed(1)
    terms = elbo.terms(model, guide, x)
    torch.manual_seed(1)
    trace = poutine.trace(guide).get_trace(x)
    values = {name: trace.nodes[name]["value"][None] for name in "zw"}
    sites = {"y": group(y=[0]), "z": group(z=[0, 1]), "w": group(w=[0])}
    blocks = {
        None: sites,
        "a": {"a": group(z=[0], y=[0]), "b": group(z=[1], w=[0])},
        "all": {"all": frozenset().union(*sites.values())},
    }[layout and next(iter(layout))]

    def expected(some):
        return by_hand(guide.log_density, 3, some, values, x, 1 / 9, 8 / 27, log_prior)

    joint = expected(frozenset().union(*blocks.values()))
    of_blocks = {name: expected(some) for name, some in blocks.items()}
    of_variables = {name: [expected(frozenset({v})) for v in some] for name, some in blocks.items()}
    excess = [joint[1] - joint[2] - sum(q - p for _, q, p in of_blocks.values())]
    torch.testing.assert_close(terms.mutual_information, joint[0] - joint[1])
    torch.testing.assert_close(terms.between, excess[0])
    for name, (own, marginal, log_p) in of_blocks.items():
        block = terms.blocks[name]
        parts = of_variables[name]
        torch.testing.assert_close(block.mutual_information, own - marginal)
        torch.testing.assert_close(block.within, marginal - log_p - sum(q - p for _, q, p in parts))
        torch.testing.assert_close(block.dimension, sum(q - p for _, q, p in parts))


def test_the_mispaired_density_is_another():
    """Regression: q(z^b|x^b', y^b') is the marginal of nothing; ours is q(z^b|x^b') with y summed out."""
    guide, x = Mixture(), data(5)
    some = group(z=[0, 1])
    densities = run(guide, x)
    own_y = nearest_category(densities.own_table.run.trace.nodes["y"]["value"])
    loc, scale = guide.moments(x, own_y)  # of each datum with its own category
    z = densities.own_table.sites["z"].value[0]
    mispaired = Normal(loc, scale).log_prob(z[:, None]).sum(-1)  # [B, B']
    right = torch.stack(
        [torch.stack([guide.log_density(some, None, {"z": z[b]}, x[other]) for other in range(5)]) for b in range(5)]
    )
    sums = densities._log_sums_of_others([some], densities.tables([some]))[some][0]
    others = ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(sums, right.masked_fill(~others, -torch.inf).logsumexp(1))
    assert ((mispaired - right)[others].abs() > 0.1).any()
    assert (mispaired.masked_fill(~others, -torch.inf).logsumexp(1) - sums).abs().max() > 0.1


class Chain(torch.nn.Module):
    """u given x, z given x and u, t given z: linear and Gaussian."""

    def __init__(self, size=2):
        super().__init__()
        self.a = torch.nn.Parameter(0.3 * torch.randn(2, size))
        self.w = torch.nn.Parameter(torch.randn(size, size))
        self.c = torch.nn.Parameter(0.3 * torch.randn(2, size))
        self.scale = torch.nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(x @ self.a, self.scale).to_event(1))
            z = pyro.sample("z", dist.Normal(u @ self.w + x @ self.c, 0.7).to_event(1))
            pyro.sample("t", dist.Normal(z.sum(-1, keepdim=True).tanh(), 0.5).to_event(1))

    def marginal(self, x):
        """q(z|x)."""
        covariance = self.w.T @ self.scale.square().diag() @ self.w + 0.49 * torch.eye(len(self.scale))
        return torch.distributions.MultivariateNormal(x @ self.a @ self.w + x @ self.c, covariance)


def standard(x):
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        t = pyro.sample("t", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(u + z * t, 1.0).to_event(1), obs=x)


PARENTS = {Mixture: {"y": "", "z": "y", "w": ""}, Chain: {"u": "", "z": "u", "t": "z"}}


@pytest.mark.parametrize("kind", [Mixture, Chain])
def test_dependence_is_read_off_the_guide(kind):
    guide, model = kind(), prior()[0] if kind is Mixture else standard
    found, *_ = read_dependence(model, guide, (data(3),), {})
    assert found.guide == {name: frozenset(above) for name, above in PARENTS[type(guide)].items()}


LAYOUTS = [None, {"a": ["u[0]", "z"], "b": ["u[1]", "t"]}, {"g": {"a": ["z[0]"], "b": ["t"]}, "c": ["u", "z[1]"]}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("particles", [{}, {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}])
@pytest.mark.parametrize("estimator", [Minibatch(), MinibatchWeighted()])
def test_weights_of_one_are_the_ordinary_elbo(layout, particles, estimator):
    """Whatever the estimates of the marginals are, with 3 samples too: values and gradients to rounding."""
    guide, x = Chain(), data(4)
    torch.manual_seed(1)
    theirs = Trace_ELBO(**particles).differentiable_loss(standard, guide, x)
    torch.manual_seed(1)
    elbo = HierarchicalELBO(20, blocks=layout, guide_samples=3, marginal=estimator, **particles)
    ours = elbo.differentiable_loss(standard, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient(ours, guide), gradient(theirs, guide), rtol=1e-7, atol=1e-8)


def test_a_continuous_site_above_is_averaged_out():
    """q(z|x) and q̂(z) of a linear Gaussian chain; 40,000 samples, standard errors of the log-densities below .03."""
    guide, x, both = Chain(), data(4), group(z=[0, 1])
    with torch.no_grad():
        densities = run(guide, x, guide_samples=40_000)
        tables = densities.tables([both, group(u=[0, 1], z=[0, 1])])
        z = densities.own_table.sites["z"].value[0]
        torch.testing.assert_close(tables[both][0], guide.marginal(x).log_prob(z), rtol=0, atol=0.1)
        sums = densities._log_sums_of_others([both], tables)[both][0]
        pairs = torch.stack([guide.marginal(x[other]).log_prob(z) for other in range(4)], -1)  # [B, B']
        exact = pairs.masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf).logsumexp(-1)
        torch.testing.assert_close(sums, exact, rtol=0, atol=0.1)
        u = densities.own_table.sites["u"].value[0]
        joint = Normal(x @ guide.a, guide.scale).log_prob(u).sum(-1)
        joint = joint + Normal(u @ guide.w + x @ guide.c, 0.7).log_prob(z).sum(-1)
        torch.testing.assert_close(tables[group(u=[0, 1], z=[0, 1])][0], joint)


def test_the_own_density_is_unbiased_because_its_ancestors_are_drawn_afresh():
    """Over 300 seeds of the ancestors, the density is within 4 standard errors, its log low, and less so at large P.

    The sample that z came from would make the density too large.
    """
    guide, x, both = Chain(), data(3), group(z=[0, 1])
    bias = {}
    with torch.no_grad():
        table = run(guide, x, seed=5).own_table
        exact = guide.marginal(x).log_prob(table.sites["z"].value[0])
        for samples in (5, 100):
            runs = []
            for seed in range(300):
                torch.manual_seed(seed)
                runs.append(replace(table, samples=samples).log_densities([both])[both][0])
            ratio = (torch.stack(runs) - exact).exp()
            assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(300)).all()
            bias[samples] = (torch.stack(runs) - exact).mean(0)
    assert (bias[5] < -0.03).all()
    assert (bias[100].abs() < 0.3 * bias[5].abs()).all()


def test_information_of_a_mixture_is_that_of_an_integral():
    """I(x; y, z), I(x; z) and TC(y, z) of 3 data by a fine grid; 20,000 particles, standard errors below .004."""
    guide, x = Mixture(3, 1), data(3)
    with torch.no_grad():
        elbo = HierarchicalELBO(
            3, blocks={"both": {"y": ["y"], "z": ["z"]}, "w": ["w"]}, marginal=Exact(),
            num_particles=20_000, vectorize_particles=True, max_plate_nesting=1,
        )  # fmt: skip
        terms = elbo.terms(independent, guide, x)
        grid = torch.linspace(-15, 15, 6001)
        mass = (x @ guide.of_y).softmax(-1)  # [N, K]
        loc, scale = guide.moments(x[:, None], torch.eye(3))  # [N, K, 1], [K, 1]
        density = mass[..., None] * Normal(loc, scale).log_prob(grid).exp()  # [N, K, T]
        joint, of_z, cell = density.mean(0), density.sum(1), 30 / 6000

        def mean(weight, value):
            return torch.where(weight > 1e-30, weight * value, 0.0).sum() * cell

        exact = {
            "z": mean(of_z / 3, (of_z / of_z.mean(0)).log()),
            "dependence": mean(joint, (joint / (joint.sum(0) * mass.mean(0)[:, None])).log()),
        }
        exact["both"] = mean(density / 3, (density / joint).log())
    found = {
        "z": terms.blocks["z"].mutual_information,
        "both": terms.blocks["y"].mutual_information + terms.blocks["z"].conditional_information,
        "dependence": terms.groups["both"].between,
    }
    assert exact["dependence"] > 0.05
    for name, value in found.items():
        assert value.item() == pytest.approx(exact[name].item(), abs=0.015), name


def test_aggregate_takes_all_pairs_of_all_batches(monkeypatch):
    """As one loop over the pairs of 5 data in batches of 3 and 2, and the same in pieces of any size."""
    guide, x = Mixture(), data(5)
    model, _ = prior()
    taken = []

    def kept(*arguments):
        taken.append(read_sample(*arguments))
        return taken[-1]

    monkeypatch.setattr(modules, "read_sample", kept)
    for numbers in (1, 100, 2**23):
        monkeypatch.setattr(structured, "CHUNK_NUMBERS", numbers)
        terms = HierarchicalELBO(99).aggregate_terms(model, guide, [(x[:3],), (x[3:],)])
        values = {name: torch.cat([sample.posteriors[name].value for sample in taken[-2:]])[None] for name in "zw"}
        blocks = terms.blocks
        for some, found in (
            (group(y=[0], z=[0, 1], w=[0]), terms.mutual_information),
            (group(z=[0, 1]), blocks["z"].mutual_information),
            (group(y=[0]), blocks["y"].mutual_information),
        ):
            own, marginal, *_ = by_hand(guide.log_density, 3, some, values, x, 1 / 5, 1 / 5)
            torch.testing.assert_close(found, (own - marginal).detach())


def test_a_chain_in_pieces_has_the_same_exact_terms(monkeypatch):
    """The joint needs no ancestors; the groups that do stay finite."""
    guide, x, found = Chain(), data(6), []
    for numbers in (1, 2**23):
        monkeypatch.setattr(structured, "CHUNK_NUMBERS", numbers)
        torch.manual_seed(1)
        elbo = HierarchicalELBO(6, guide_samples=7)
        found.append(elbo.aggregate_terms(standard, guide, [(x,)]))
    torch.testing.assert_close(found[0].mutual_information, found[1].mutual_information)
    torch.testing.assert_close(found[0].elbo, found[1].elbo)
    assert all(value.isfinite() for value in found[0].scalars().values())


def independent(x):
    with pyro.plate("data", len(x)):
        pyro.sample("y", Concrete(0.7, logits=torch.zeros(3)))
        pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("w", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)


def test_networks_see_each_datum_once_and_each_category_of_it():
    """No pair of data goes through a network where only a category stands above; no run but two beside the trace."""
    seen = []

    class Counted(Mixture):
        def forward(self, x):
            seen.append("encoder")
            super().forward(x)

        def moments(self, x, category):
            seen.append(math.prod(category.shape[:-1]))
            return super().moments(x, category)

    guide, elbo = Counted(3, 1), HierarchicalELBO(50)
    elbo.terms(independent, guide, data(6))
    seen.clear()
    elbo.terms(independent, guide, data(6))
    own = seen.index("encoder", 1)
    assert seen[:own] == ["encoder", 6]
    assert seen.count("encoder") == 3
    assert max(part for part in seen if part != "encoder") == 3 * 6


def refused(guide, message, error=NotImplementedError, model=None, **options):
    with pytest.raises(error, match="^" + re.escape(message)):
        HierarchicalELBO(100, **options).terms(model or independent, guide, data(6))


class Reading(Mixture):
    """z of one variable; what it reads of y is given."""

    def __init__(self, read, scale=1.0):
        super().__init__(3, 1)
        self.read, self.scale = read, scale

    def forward(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=x @ self.of_y))
            loc, _ = self.moments(x, self.read(y))
            pyro.sample("z", dist.Normal(loc * self.scale, 0.5).to_event(1))
            pyro.sample("w", dist.Normal(x @ self.of_w, 0.8).to_event(1))


def test_a_relaxed_sample_that_is_read_as_it_is():
    message = (
        "site 'z' of the guide depends on the relaxed sample of site 'y', whose density is not known; let it read the "
        "category, pyro_hfvae.distributions.nearest_category(y), which is one-hot and lets the gradient through"
    )
    refused(Reading(lambda y: y), message)
    assert HierarchicalELBO(100).terms(independent, Reading(nearest_category), data(6)).elbo.isfinite()


def test_a_guide_must_keep_leading_dimensions():
    message = (
        "the guide's conditional of site 'z' changes where the latents get leading dimensions: for its marginals, a "
        "guide whose sites depend on one another is run again on samples with leading dimensions before that of the "
        "data, which it must keep (write y[..., 0] for y[:, 0], expand what is concatenated with y to y.shape[:-1], "
        "flatten nothing) and must be deterministic given the samples (no dropout)"
    )
    refused(Reading(lambda y: nearest_category(y)[:, [2, 0, 1]]), message, ValueError)


def test_a_guide_with_noise_of_its_own():
    """A fresh mask of dropout in each run."""
    noisy = Reading(lambda y: nearest_category(y) + torch.nn.functional.dropout(torch.ones(6, 3), 0.5))
    refused(noisy, "the guide's conditional of site 'z' changes where", ValueError)


def test_what_fails_in_a_further_run_says_so():
    guide = Reading(lambda y: nearest_category(y).reshape(6, 3))
    with pytest.raises(RuntimeError) as caught:
        HierarchicalELBO(100).terms(independent, guide, data(6))
    assert caught.value.__notes__[0].startswith("The guide was run for the marginals of y, z, w: for its marginals, a")


def test_a_memory_cannot_run_a_guide_again():
    message = (
        "a memory keeps posteriors without their data, and a program whose sites depend on one another must be run "
        "again on the data of each posterior; use marginal=Minibatch() with a larger batch"
    )
    refused(Mixture(3, 1), message, marginal=Memory(10))


def test_samples_of_the_guide_must_be_positive():
    with pytest.raises(ValueError, match="^guide_samples must be 1 or more, got 0$"):
        HierarchicalELBO(100, guide_samples=0)


def test_more_pairs_than_memory_holds():
    message = "the marginals of the guide below site 'u' would take 2,400,000,000 numbers at once; lower guide_samples,"
    refused(Chain(), message, ValueError, standard, guide_samples=2 * 10**8)


def test_a_relaxed_bernoulli_that_is_read_as_it_is():
    def guide(x):
        y = pyro.sample("y", dist.RelaxedBernoulli(0.5, 0.3 * torch.ones(6)))
        pyro.sample("z", dist.Normal(y[..., None], 1.0).to_event(1))

    def model(x):
        y = pyro.sample("y", dist.RelaxedBernoulli(0.5, 0.3 * torch.ones(6)))
        z = pyro.sample("z", dist.Normal(torch.zeros(6, 1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z + y[..., None], 1.0).expand([6, 2]).to_event(1), obs=x)

    message = "site 'z' of the guide depends on the relaxed sample of site 'y', whose density is not known"
    refused(guide, message, model=model)


def test_a_point_on_the_simplex_above_is_averaged_out():
    """q(z|x^m) = ∫ Dirichlet(p) N(z; p_0, .5) dp, a Beta by a fine grid; 20,000 samples, standard errors below .02."""
    concentration = torch.tensor([[0.8, 2.0, 1.5], [3.0, 0.7, 1.0], [1.0, 1.0, 1.0]])

    def guide(x):
        with pyro.plate("data", len(x)):
            p = pyro.sample("p", dist.Dirichlet(concentration))
            pyro.sample("z", dist.Normal(p[..., :1], 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("p", dist.Dirichlet(torch.ones(3)))
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    x = torch.zeros(3, 1)
    with torch.no_grad():
        torch.manual_seed(1)
        terms = HierarchicalELBO(3, guide_samples=20_000).terms(model, guide, x)
        torch.manual_seed(1)
        z = poutine.trace(guide).get_trace(x).nodes["z"]["value"][:, 0]
        grid = (torch.arange(100_000) + 0.5) / 100_000
        beta = dist.Beta(concentration[:, 0], concentration[:, 1:].sum(1)).log_prob(grid[:, None]).exp()  # [T, M]
        pairs = torch.stack([(beta * Normal(grid, 0.5).log_prob(one).exp()[:, None]).mean(0) for one in z])  # [B, M]
    exact = (pairs.diagonal() / pairs.mean(1)).log().mean()
    assert terms.blocks["z"].mutual_information.item() == pytest.approx(exact.item(), abs=0.03)


def test_a_site_that_is_summed_over_has_none_below_it():
    def guide(x):
        y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(6, 3)))
        pyro.sample("z", dist.Normal(y[..., :1], 1.0).to_event(1))
        pyro.sample("w", dist.Normal(torch.zeros(6, 1), 1.0).to_event(1))

    refused(
        guide,
        "site 'y' is OneHotCategorical in a guide whose sites depend on it: what depends on it cannot be summed over "
        "its categories; use Concrete",
    )


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (
            MaximumMeanDiscrepancy(),
            "the sites of the guide depend on one another, and site 'y' is discrete; the",
        ),
        (OffDiagonalCovariance(), "the sites of the guide depend on one another; DIP-VAE reads its covariances off"),
    ],
)
def test_penalties_that_read_independent_posteriors(penalty, message):
    refused(Mixture(3, 1), message, penalties={"penalty": penalty})


def test_running_statistics_see_a_batch_once_and_the_gradient_passes():
    class Normalised(Mixture):
        def __init__(self):
            super().__init__(3, 1)
            self.norm = torch.nn.BatchNorm1d(2)

        def forward(self, x):
            super().forward(self.norm(x))

    guide = Normalised()
    for mode in (True, False):
        guide.train(mode)
        HierarchicalELBO(100, between=3.0).differentiable_loss(independent, guide, data(6)).backward()
        assert guide.norm.num_batches_tracked == 1
        assert guide.norm.weight.grad.any()


def test_a_subsample_is_the_same_in_every_run_and_scales_the_loss_once():
    chain, x = Chain(), data(60)

    def guide(x):
        with pyro.plate("data", 60, subsample_size=4) as indices:
            u = pyro.sample("u", dist.Normal(x[indices] @ chain.a, chain.scale).to_event(1))
            pyro.sample("z", dist.Normal(u @ chain.w, 0.7).to_event(1))

    def model(x):
        with pyro.plate("data", 60, subsample_size=4) as indices:
            u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(u + z, 1.0).to_event(1), obs=x[indices])

    torch.manual_seed(1)
    theirs = Trace_ELBO().differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    ours = HierarchicalELBO(60, guide_samples=5).differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)


def test_one_datum_of_one_and_double_dependence():
    """y → u → z and y → z; B = N = 1 has no information."""
    guide = Mixture(3, 2)

    class Deep(torch.nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                y = nearest_category(pyro.sample("y", Concrete(0.7, logits=x @ guide.of_y)))
                u = pyro.sample("u", dist.Normal(y @ guide.means, 0.6).to_event(1))
                pyro.sample("z", dist.Normal(u * (y @ guide.scales).exp(), 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.7, logits=torch.zeros(3)))
            u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("z", dist.Normal(y @ guide.means.detach(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(u, 1.0).to_event(1), obs=x)

    assert HierarchicalELBO(1).terms(model, Deep(), data(1)).mutual_information.abs() < 1e-12
    terms = HierarchicalELBO(50, between=3.0).terms(model, Deep(), data(5))
    assert all(value.isfinite() for value in terms.scalars().values())


def test_sites_of_one_number_without_an_event():
    def guide(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(x[:, 0], 0.5))
            pyro.sample("z", dist.LogNormal(u + x[:, 1], 0.4))

    def model(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(u + z, 1.0), obs=x[:, 0])

    x = data(5)
    torch.manual_seed(1)
    theirs = Trace_ELBO().differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    elbo = HierarchicalELBO(20, guide_samples=20_000)
    ours = elbo.differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)
    torch.manual_seed(1)
    terms = elbo.terms(model, guide, x)
    torch.manual_seed(1)
    z = poutine.trace(guide).get_trace(x).nodes["z"]["value"]
    pairs = dist.LogNormal(x.sum(1), math.hypot(0.5, 0.4)).log_prob(z[:, None])  # [B, B'], u integrated out
    others = pairs.masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf).logsumexp(1)
    mixture = torch.logaddexp(pairs.diagonal() - math.log(20), others + math.log(19 / 80))
    expected = (pairs.diagonal() - mixture).mean()
    assert terms.blocks["z"].mutual_information.item() == pytest.approx(expected.item(), abs=0.03)


def test_several_categoricals_in_another_order_than_the_model_has():
    """z given two binary categoricals a and one c of three: the joint terms by a loop over all 12 combinations."""
    x, means, scales = data(3), torch.randn(2, 2, 3), torch.rand(2, 2, 3) + 0.3
    of_a, of_c, prior_means = torch.randn(2, 4), torch.randn(2, 3), torch.randn(2, 2, 3)

    def moment(table, a, c):
        """[..., 2, 2] one-hot a and [..., 3] one-hot c to [..., 1]."""
        return torch.einsum("...i,...j,...k,ijk->...", a[..., 0, :], a[..., 1, :], c, table)[..., None]

    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", Concrete(0.7, logits=(x @ of_a).view(-1, 2, 2)).to_event(1))
            c = pyro.sample("c", Concrete(0.7, logits=x @ of_c))
            a, c = nearest_category(a), nearest_category(c)
            pyro.sample("z", dist.Normal(moment(means, a, c), moment(scales, a, c)).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", Concrete(0.7, logits=torch.zeros(3)))
            a = pyro.sample("a", Concrete(0.7, logits=torch.zeros(2, 2)).to_event(1))
            pyro.sample("z", dist.Normal(moment(prior_means, a, c), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    torch.manual_seed(1)
    terms = HierarchicalELBO(10).terms(model, guide, x)
    torch.manual_seed(1)
    z = poutine.trace(guide).get_trace(x).nodes["z"]["value"][:, 0]
    mass_a, mass_c = (x @ of_a).view(3, 2, 2).softmax(-1), (x @ of_c).softmax(-1)
    divergence = torch.zeros(())
    for b in range(3):
        logs = []
        for i in range(2):
            for j in range(2):
                for k in range(3):
                    q = mass_a[b, 0, i] * mass_a[b, 1, j] * mass_c[b, k]
                    log_q = q.log() + Normal(means[i, j, k], scales[i, j, k]).log_prob(z[b])
                    logs.append((log_q, Normal(prior_means[i, j, k], 1.0).log_prob(z[b]) - math.log(12)))
        log_q, log_p = (torch.stack(column) for column in zip(*logs, strict=True))
        divergence = divergence + (log_q.softmax(0) * (log_q - log_p)).sum() / 3
    torch.testing.assert_close(terms.reconstruction - terms.elbo, divergence)
    assert list(terms.blocks["a"].variables) == ["a[0]", "a[1]"]


def test_autocast_leaves_the_densities_in_float32():
    """400 particles of 9 data, standard errors of the terms below .01; densities in bf16 would be nats off."""
    torch.set_default_dtype(torch.float32)
    guide, found = Mixture(3, 1).float(), []
    options = {"num_particles": 400, "vectorize_particles": True, "max_plate_nesting": 1}
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(HierarchicalELBO(50, **options).terms(independent, guide, data(9).float()))
    for name in ("mutual_information", "between", "dimension"):
        plain, mixed = (getattr(terms, name) for terms in found)
        assert mixed.dtype == torch.float32
        assert mixed.item() == pytest.approx(plain.item(), abs=0.05), name
