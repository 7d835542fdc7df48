"""Priors p(z|c) given covariates: the aggregate prior takes the place of p, and the information of c is told apart."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import (
    Mixture,
    Normal,
    assert_terms,
    draw,
    independent,
    log_likelihood,
    reference_terms,
    seeded,
    variables,
)
from pyro.infer import Trace_ELBO
from support import numbers
from torch import nn

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, C = 30, 2, 3
NAMES = variables("z", V)


def observe(x, z):
    pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)


@seeded
def guide(x, c):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.7 * x, 0.5).to_event(1))


MEANS = 1.5 * numbers(C, V, seed=1)


def one_hot(c):
    return nn.functional.one_hot(c, C).double()


def linear():
    layer = nn.Linear(C, V)
    layer.weight.data, layer.bias.data = MEANS.mT.clone(), torch.zeros(V)
    return layer


def by_indexing(c):
    return MEANS[c]


def by_product(c):
    return one_hot(c) @ MEANS


def by_layer(c, layer=linear()):  # noqa: B008
    return layer.double()(one_hot(c))


def by_embedding(c, table=nn.Embedding.from_pretrained(MEANS)):  # noqa: B008
    return table(c)


def by_concatenation(c):
    both = torch.cat([one_hot(c), torch.ones(1).expand(*c.shape, 1)], -1)
    return both @ torch.cat([MEANS, torch.zeros(1, V)])


WAYS = [by_indexing, by_product, by_layer, by_embedding, by_concatenation]


def categories():
    return torch.arange(N) % C


@pytest.mark.parametrize("mean", WAYS)
def test_prior_given_a_category(mean):
    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean(c), 0.9).to_event(1))
            observe(x, z)

    x, c = numbers(N, V), categories()
    z = draw(guide, x, c)["z"]
    posterior = independent("z", dist.Normal(0.7 * x, 0.5), z)
    prior = independent("z", dist.Normal(MEANS[c], 0.9), z)
    reference = reference_terms({"z": NAMES}, posterior, prior)
    likelihood = log_likelihood(model, guide, x, c)
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x, c)])
    assert_terms(terms, reference, reconstruction=likelihood, conditional=True)
    split = reference_terms({"a": NAMES[:1], "b": NAMES[1:]}, posterior, prior)
    terms = HierarchicalELBO(N, blocks={"a": ["z[0]"], "b": ["z[1]"]}).terms(model, guide, x, c)
    assert_terms(terms, split, reconstruction=likelihood, conditional=True)
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x, c)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x, c), rel=1e-9)


@pytest.mark.parametrize("mean", WAYS)
def test_posterior_equal_to_the_conditional_prior(mean):
    """q(z|x, c) = p(z|c): no divergence of any kind is left, and all information is that of the prior."""

    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean(c), 0.9).to_event(1))
            observe(x, z)

    @seeded
    def same(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean(c), 0.9).to_event(1))

    x, c = numbers(N, V), categories()
    for terms in (
        HierarchicalELBO(N).aggregate_terms(model, same, [(x, c)]),
        HierarchicalELBO(N, blocks={"a": ["z[0]"], "b": ["z[1]"]}).aggregate_terms(model, same, [(x, c)]),
        HierarchicalELBO(10 * N).terms(model, same, x, c),  # from a batch: the same references on both sides
    ):
        for name in ("between", "within", "dimension"):
            assert float(getattr(terms, name)) == pytest.approx(0.0, abs=1e-8), name
        assert float(terms.mutual_information) == pytest.approx(float(terms.prior_information), abs=1e-8)
        assert float(terms.prior_information) > 0.1
        assert float(terms.elbo) == pytest.approx(float(terms.reconstruction), abs=1e-8)


def test_information_of_far_categories_is_that_of_the_category():
    """Three categories far apart, N/3 data each: the prior knows log 3 nats of the datum, exactly."""
    means = 100.0 * torch.arange(C, dtype=torch.float64)[:, None].expand(C, V)

    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(means[c], 1.0).to_event(1))
            observe(x, z)

    @seeded
    def same(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(means[c], 1.0).to_event(1))

    terms = HierarchicalELBO(N).aggregate_terms(model, same, [(numbers(N, V), categories())])
    assert float(terms.prior_information) == pytest.approx(math.log(C), abs=1e-9)


def test_two_batches_have_one_aggregate_prior():
    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(MEANS[c], 0.9).to_event(1))
            observe(x, z)

    x, c = numbers(N, V), categories()
    order = c.argsort()  # batches of different categories
    x, c = x[order], c[order]
    batches = list(zip(x.split(N // 2), c.split(N // 2), strict=True))
    z = torch.cat([draw(guide, *batch)["z"] for batch in batches])
    reference = reference_terms(
        {"z": NAMES},
        independent("z", dist.Normal(0.7 * x, 0.5), z),
        independent("z", dist.Normal(MEANS[c], 0.9), z),
    )
    assert_terms(HierarchicalELBO(N).aggregate_terms(model, guide, batches), reference, conditional=True)


def test_prior_that_does_not_vary_has_no_information():
    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            observe(x, z)

    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(numbers(N, V), categories())])
    assert float(terms.prior_information) == pytest.approx(0.0, abs=1e-12)


def test_conditional_mixture():
    """p(z|c) a mixture whose weights are given c: p̂ is a mixture of all of them."""
    logits = numbers(C, 2, seed=2)
    means, scales = torch.tensor([[-1.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.5, 0.7], [1.0, 0.4]])

    def model(x, c):
        with pyro.plate("data", len(x)):
            components = dist.Normal(means.expand(len(x), 2, V), scales).to_event(1)
            z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=logits[c]), components))
            observe(x, z)

    x, c = numbers(N, V), categories()
    z = draw(guide, x, c)["z"]
    given = dist.Normal(means[:, None, None], scales[:, None, None]).log_prob(z[:, None])  # [2, B, 1, V]
    mass = logits[c].log_softmax(-1).mT[:, None]  # [2, 1, N]
    prior = Mixture({name: given[..., index] for index, name in enumerate(NAMES)}, mass, ("",))
    reference = reference_terms({"z": NAMES}, independent("z", dist.Normal(0.7 * x, 0.5), z), prior)
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x, c)])
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x, c), conditional=True)


def test_conditional_category():
    """p(y|c) of a discrete site: its aggregate is the mean of the masses."""
    of_c, of_x = numbers(C, 4, seed=3), numbers(V, 4, seed=4)

    def model(x, c):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=of_c[c]))
            observe(x, y @ numbers(4, V, seed=5))

    def guide(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=x @ of_x))

    x, c = numbers(N, V), categories()

    def table(logits):
        return Mixture({}, logits.log_softmax(-1).mT[:, None], ("y",))

    reference = reference_terms({"y": ["y"]}, table(x @ of_x), table(of_c[c]))
    masses = (x @ of_x).softmax(-1)
    likelihood = dist.Normal(numbers(4, V, seed=5), 0.8).log_prob(x[:, None]).sum(-1)  # [N, 4]
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x, c)])
    assert_terms(terms, reference, reconstruction=(masses * likelihood).sum() / N, conditional=True)


# Two levels: p(top|c) p(bottom|top, c), linear and normal, so that every marginal is known.
W, U, A = 0.5 * numbers(V, V, seed=6), 0.5 * numbers(C, V, seed=7), 0.5 * numbers(C, V, seed=8)
TOP, BOTTOM = variables("top", V), variables("bottom", V)


def by_concatenating_and_expanding(top, c):
    """As the documentation advises: what is concatenated with a sample is expanded to its leading dimensions."""
    both = torch.cat([top, c.expand(*top.shape[:-1], -1)], -1)
    return both @ torch.cat([W, U])


def by_adding(top, c):
    return top @ W + c @ U


def by_network(top, c, layer=nn.Linear(V + C, V, bias=False)):  # noqa: B008
    layer.weight.data = torch.cat([W, U]).mT.clone()
    return layer(torch.cat([top, c.expand(*top.shape[:-1], -1)], -1))


def two_levels(bottom_mean):
    def model(x, c):
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(c @ A, 1.0).to_event(1))
            bottom = pyro.sample("bottom", dist.Normal(bottom_mean(top, c), 0.7).to_event(1))
            observe(x, top + bottom)

    @seeded
    def guide(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("top", dist.Normal(0.5 * x, 0.6).to_event(1))
            pyro.sample("bottom", dist.Normal(0.5 * x, 0.6).to_event(1))

    return model, guide


def two_level_tables(x, c, sample):
    z = torch.cat([sample["top"], sample["bottom"]], -1)
    loc = torch.cat([0.5 * x, 0.5 * x], -1)
    posterior = Normal(TOP + BOTTOM, z, loc, 0.36 * torch.eye(2 * V))
    root = torch.cat([torch.eye(V), W], -1)  # of the top's noise in both
    covariance = root.mT @ root + torch.diag(torch.tensor([0.0] * V + [0.49] * V))
    mean = torch.cat([c @ A, c @ A @ W + c @ U], -1)
    return posterior, Normal(TOP + BOTTOM, z, mean, covariance)


@pytest.mark.parametrize("bottom_mean", [by_concatenating_and_expanding, by_adding, by_network])
def test_two_levels_given_a_covariate(bottom_mean):
    model, guide = two_levels(bottom_mean)
    x, c = numbers(N, V), 0.5 * numbers(N, C, seed=9)
    posterior, prior = two_level_tables(x, c, draw(guide, x, c))
    reference = reference_terms({"top": TOP, "bottom": BOTTOM}, posterior, prior)
    terms = HierarchicalELBO(N, prior_samples=3000).aggregate_terms(model, guide, [(x, c)])
    # Marginals of "bottom" are means over ancestral samples of "top": with 100 for each of 30 data the mean of log p̂
    # over the data has a standard deviation of .007 (20 seeds); there are up to six of them in a term.
    assert_terms(terms, reference, 0.05, log_likelihood(model, guide, x, c), conditional=True)
    # What needs no such sample is exact.
    assert float(terms.elbo) == pytest.approx(
        float(log_likelihood(model, guide, x, c)) - reference.divergence, abs=1e-7
    )
    assert float(terms.blocks["top"].dimension) == pytest.approx(reference.blocks["top"].dimension, abs=1e-7)
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x, c)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x, c), rel=1e-9)


def test_two_levels_equal_to_the_posterior():
    """q = p(top|c) p(bottom|top, c): all divergences are 0, the information is that of the prior."""
    model, _ = two_levels(by_adding)

    @seeded
    def same(x, c):
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(c @ A, 1.0).to_event(1))
            pyro.sample("bottom", dist.Normal(top @ W + c @ U, 0.7).to_event(1))

    x, c = numbers(N, V), numbers(N, C, seed=9)
    terms = HierarchicalELBO(N, prior_samples=3000, guide_samples=3000).aggregate_terms(model, same, [(x, c)])
    assert float(terms.elbo) == pytest.approx(float(terms.reconstruction), abs=1e-7)
    assert float(terms.mutual_information) == pytest.approx(float(terms.prior_information), abs=1e-7)
    for name in ("between", "within", "dimension"):  # marginals of "bottom" are sampled on both sides
        assert float(getattr(terms, name)) == pytest.approx(0.0, abs=0.1), name
