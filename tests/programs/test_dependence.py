"""However a dependence between sites is written, the terms are those of the plain program."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import Normal, assert_terms, draw, log_likelihood, reference_terms, seeded
from support import numbers
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N = 40
TERMS = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")


def plain(a):
    return torch.cat([2 * a, 0 * a], -1)


def assigned(a):
    loc = torch.zeros(*a.shape[:-1], 2)
    loc[..., 0] = 2 * a[..., 0]
    return loc


def copied(a):
    loc = torch.zeros(*a.shape[:-1], 2)
    loc[..., :1].copy_(2 * a)
    return loc


def added_in_place(a):
    loc = torch.zeros(*a.shape[:-1], 2)
    loc[..., :1] += 2 * a
    return loc


def scattered(a):
    return torch.zeros(*a.shape[:-1], 2).index_copy(-1, torch.tensor([0]), 2 * a)


def mapped(a):
    return torch.func.vmap(lambda row: torch.cat([2 * row, 0 * row]))(a.reshape(-1, 1)).reshape(*a.shape[:-1], 2)


def detached(a):
    """A prior whose parameters get no gradient from the sample depends on it all the same."""
    return plain(a.detach())


def selected(a):
    return torch.where(a > -100.0, plain(a), torch.zeros(2))


def by_einsum(a):
    return torch.einsum("...i,ij->...j", a, torch.tensor([[2.0, 0.0]]))


class Recorded(nn.Module):
    """A module that keeps its argument, as a cache does."""

    def forward(self, a):
        self.last = a
        return plain(self.last)


WAYS = {
    function.__name__: function
    for function in (plain, assigned, copied, added_in_place, scattered, mapped, detached, selected, by_einsum)
} | {"module": Recorded(), "partial": functools.partial(lambda factor, a: factor * plain(a), 1.0)}


def model_of(mean):
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            b = pyro.sample("b", dist.Normal(mean(a), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([a, b[..., :1]], -1), 1.0).to_event(1), obs=x)

    return model


@seeded
def flat_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("a", dist.Normal(x[:, :1], 0.5).to_event(1))
        pyro.sample("b", dist.Normal(x.flip(-1), 0.5).to_event(1))


def guide_of(mean):
    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x[:, :1], 0.5).to_event(1))
            pyro.sample("b", dist.Normal(0.2 * x.flip(-1) + 0.3 * mean(a), 0.5).to_event(1))

    return guide


@pytest.mark.parametrize("name", WAYS)
def test_prior_given_another_site(name):
    """p(b|a): against the closed form, and against the plain program on the same samples."""
    x, names = numbers(N, 2), ["a", "b[0]", "b[1]"]
    sample = draw(flat_guide, x)
    z = torch.cat([sample["a"], sample["b"]], -1)
    posterior = Normal(names, z, torch.cat([x[:, :1], x.flip(-1)], -1), 0.25 * torch.eye(3))
    covariance = torch.tensor([[1.0, 2.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 1.0]])
    reference = reference_terms(
        {"a": names[:1], "b": names[1:]}, posterior, Normal(names, z, torch.zeros(3), covariance)
    )
    terms = HierarchicalELBO(N, prior_samples=4000).aggregate_terms(model_of(WAYS[name]), flat_guide, [(x,)])
    # p(b[0]) is a mean over 4,000 ancestral samples that all data share: weights of a coefficient of variation of up
    # to 2 give each logarithm, and their mean, a standard deviation of .02 or less.
    assert_terms(terms, reference, 0.08, log_likelihood(model_of(WAYS[name]), flat_guide, x))
    right = log_likelihood(model_of(plain), flat_guide, x) - reference.divergence
    assert float(terms.elbo) == pytest.approx(right, abs=1e-7)


@pytest.mark.parametrize("name", WAYS)
def test_prior_has_the_terms_of_the_plain_program(name):
    x = numbers(N, 2)
    terms, right = (HierarchicalELBO(N).terms(model_of(mean), flat_guide, x) for mean in (WAYS[name], plain))
    for term in TERMS:
        assert float(getattr(terms, term)) == pytest.approx(float(getattr(right, term)), abs=0.1), term
    assert float(terms.elbo) == pytest.approx(float(right.elbo), abs=1e-9)


@pytest.mark.parametrize("name", WAYS)
def test_posterior_given_another_site(name):
    """q(b|x, a): marginals of b alone are sampled, those of a and of both are exact."""
    x, names = numbers(N, 2), ["a", "b[0]", "b[1]"]
    guide = guide_of(WAYS[name])
    sample = draw(guide, x)
    z = torch.cat([sample["a"], sample["b"]], -1)
    loc = torch.cat([x[:, :1], 0.2 * x.flip(-1) + 0.3 * plain(x[:, :1])], -1)
    covariance = 0.25 * torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.36, 0.0], [0.0, 0.0, 1.0]])

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([a, b[..., :1]], -1), 1.0).to_event(1), obs=x)

    prior = Normal(names, z, torch.zeros(3), torch.eye(3))
    reference = reference_terms({"a": names[:1], "b": names[1:]}, Normal(names, z, loc, covariance), prior)
    terms = HierarchicalELBO(N, guide_samples=1000).aggregate_terms(model, guide, [(x,)])
    # 1,000 ancestral samples of each datum for its own density: off by .02 or so each, .003 in the mean over 40 data.
    assert_terms(terms, reference, 0.05, log_likelihood(model, guide, x))
    assert float(terms.mutual_information) == pytest.approx(reference.mutual_information, abs=1e-7)


PROGRAMS = {
    "independent": (model_of(lambda a: torch.zeros(2)), flat_guide),
    "hierarchy": (model_of(plain), flat_guide),
    "structured guide": (model_of(lambda a: torch.zeros(2)), guide_of(plain)),
    "both": (model_of(plain), guide_of(plain)),
}


@pytest.mark.parametrize("second", PROGRAMS)
@pytest.mark.parametrize("first", PROGRAMS)
def test_one_objective_with_other_programs_gives_the_terms_of_a_fresh_one(first, second):
    """A cell of a notebook is run again with another model or guide."""
    x, used = numbers(N, 2), HierarchicalELBO(N, between=2.0)
    used.terms(*PROGRAMS[first], x)
    terms = used.terms(*PROGRAMS[second], x)
    right = HierarchicalELBO(N, between=2.0).terms(*PROGRAMS[second], x)
    assert float(terms.elbo) == pytest.approx(float(right.elbo), abs=1e-9)
    for term in TERMS:  # what is sampled has other ancestors
        assert float(getattr(terms, term)) == pytest.approx(float(getattr(right, term)), abs=0.15), term


def test_a_mixture_after_a_plain_model():
    """Where the parent is discrete the joint density is summed over it: with the model before, the ELBO is wrong."""
    means, x = 2 * numbers(3, 2, seed=1), numbers(N, 2)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", Concrete(logits=torch.cat([x, x[:, :1]], -1)))
            pyro.sample("z", dist.Normal(x, 0.5).to_event(1))

    def make(mixture):
        def model(x):
            with pyro.plate("data", len(x)):
                y = pyro.sample("y", Concrete(logits=torch.zeros(3)))
                z = pyro.sample("z", dist.Normal(y @ means if mixture else torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

        return model

    used = HierarchicalELBO(N)
    used.terms(make(False), guide, x)
    terms, right = used.terms(make(True), guide, x), HierarchicalELBO(N).terms(make(True), guide, x)
    for term in TERMS:
        assert float(getattr(terms, term)) == pytest.approx(float(getattr(right, term)), abs=1e-9), term


def test_partial_programs_and_bound_methods():
    """Programs are callables of any kind, and hold the same terms."""
    x = numbers(N, 2)

    def model(mean, x):
        model_of(mean)(x)

    class Programs:
        def model(self, x):
            model_of(plain)(x)

        def guide(self, x):
            flat_guide(x)

    programs = Programs()
    right = HierarchicalELBO(N).terms(model_of(plain), flat_guide, x)
    for pair in ((functools.partial(model, plain), functools.partial(flat_guide)), (programs.model, programs.guide)):
        terms = HierarchicalELBO(N).terms(*pair, x)
        for term in TERMS:
            assert float(getattr(terms, term)) == pytest.approx(float(getattr(right, term)), abs=1e-9), term
