"""Observed data of several kinds: two likelihoods, missing pixels, counts of words, factors, scales."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import (
    Mixture,
    assert_terms,
    draw,
    independent,
    log_likelihood,
    reference_terms,
    seeded,
    variables,
)
from pyro import poutine
from pyro.infer import Trace_ELBO
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, D = 30, 2, 6
WEIGHTS = numbers(V, D, seed=1)
NAMES = variables("z", V)


@seeded
def guide(x, *others):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.5 * x[:, :V], 0.4).to_event(1))


def latent():
    return pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))


def check(model, *args, reconstruction):
    """The terms of the latents are those of the plain model; the reconstruction is the given one, and Pyro's."""
    x = args[0]
    z = draw(guide, *args)["z"]
    prior = independent("z", dist.Normal(torch.zeros(V), 1.0), z)
    reference = reference_terms({"z": NAMES}, independent("z", dist.Normal(0.5 * x[:, :V], 0.4), z), prior)
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [args])
    assert_terms(terms, reference, reconstruction=float(reconstruction(z)))
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, *args)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, *args), rel=1e-9)


def test_two_likelihoods():
    """An image of [1, 2, 3] Bernoulli pixels and a row of a table with numbers, a count and a category."""
    x, generator = numbers(N, D), torch.Generator().manual_seed(0)
    image = torch.rand(N, 1, 2, 3, generator=generator).round().double()
    count = torch.poisson(torch.ones(N), generator=generator).double()
    category = torch.arange(N) % 3
    to_logits = numbers(V, 3, seed=2)

    def parts(z):
        return {
            "image": dist.Bernoulli(logits=(z @ WEIGHTS).unflatten(-1, (1, 2, 3))).to_event(3),
            "numbers": dist.StudentT(3.0, z @ WEIGHTS, 1.0).to_event(1),
            "count": dist.Poisson((0.3 * z.sum(-1)).exp()),
            "category": dist.Categorical(logits=z @ to_logits),
        }

    def model(x, image, count, category):
        values = {"image": image, "numbers": x, "count": count, "category": category}
        with pyro.plate("data", len(x)):
            for name, fn in parts(latent()).items():
                pyro.sample(name, fn, obs=values[name])

    def right(z):
        values = {"image": image, "numbers": x, "count": count, "category": category}
        return sum(fn.log_prob(values[name]).sum() for name, fn in parts(z).items()) / N

    check(model, x, image, count, category, reconstruction=right)


def test_missing_pixels():
    """A mask of [B, D] on the distribution of the observed site: pixels that are missing count nothing."""
    x, present = numbers(N, D), torch.rand(N, D, generator=torch.Generator().manual_seed(0)) > 0.3

    def model(x, present):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(latent() @ WEIGHTS, 0.8).mask(present).to_event(1), obs=x)

    def right(z):
        return torch.where(present, dist.Normal(z @ WEIGHTS, 0.8).log_prob(x), 0.0).sum() / N

    check(model, x, present, reconstruction=right)


def test_missing_pixels_in_a_plate():
    """poutine.mask around the observed site, whose pixels are a plate inside that of the data."""
    x, present = numbers(N, D), torch.rand(N, D, generator=torch.Generator().manual_seed(0)) > 0.3

    @seeded
    def inner_guide(x, present):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(0.5 * x[:, None, :V], 0.4).to_event(1))  # [B, 1]

    def model(x, present):
        with pyro.plate("data", len(x), dim=-2):
            z = latent()  # [B, 1, V]
            with pyro.plate("pixels", D, dim=-1), poutine.mask(mask=present):
                pyro.sample("x", dist.Normal((z @ WEIGHTS).squeeze(-2), 0.8), obs=x)

    loss = HierarchicalELBO(N).differentiable_loss(model, inner_guide, x, present)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, inner_guide, x, present), rel=1e-9)
    z = draw(inner_guide, x, present)["z"].squeeze(-2)
    right = torch.where(present, dist.Normal(z @ WEIGHTS, 0.8).log_prob(x), 0.0).sum() / N
    terms = HierarchicalELBO(N).terms(model, inner_guide, x, present)
    assert float(terms.reconstruction) == pytest.approx(float(right))
    prior = independent("z", dist.Normal(torch.zeros(V), 1.0), z)
    posterior = independent("z", dist.Normal(0.5 * x[:, :V], 0.4), z)
    assert_terms(terms, reference_terms({"z": NAMES}, posterior, prior))


def test_data_of_which_one_kind_is_missing():
    """A mask of [B]: some data have no label."""
    x, labels, known = numbers(N, D), torch.arange(N) % 3, torch.arange(N) % 2 == 0
    to_logits = numbers(V, 3, seed=2)

    def model(x, labels, known):
        with pyro.plate("data", len(x)):
            z = latent()
            pyro.sample("x", dist.Normal(z @ WEIGHTS, 0.8).to_event(1), obs=x)
            with poutine.mask(mask=known):
                pyro.sample("label", dist.Categorical(logits=z @ to_logits), obs=labels)

    def right(z):
        of_labels = (z @ to_logits).log_softmax(-1).gather(1, labels[:, None])[:, 0]
        return (dist.Normal(z @ WEIGHTS, 0.8).log_prob(x).sum() + of_labels[known].sum()) / N

    check(model, x, labels, known, reconstruction=right)


def test_factor_in_the_plate():
    """A factor of each datum is a part of its likelihood."""
    x = numbers(N, D)

    def model(x):
        with pyro.plate("data", len(x)):
            z = latent()
            pyro.sample("x", dist.Normal(z @ WEIGHTS, 0.8).to_event(1), obs=x)
            pyro.factor("smooth", -0.5 * (z[..., 0] - z[..., 1]).square())

    def right(z):
        return (dist.Normal(z @ WEIGHTS, 0.8).log_prob(x).sum() - 0.5 * (z[:, 0] - z[:, 1]).square().sum()) / N

    check(model, x, reconstruction=right)


def test_scale_around_both_programs():
    """poutine.scale of everything scales the loss, and leaves the terms alone: they are means over data."""
    x = numbers(N, D)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(latent() @ WEIGHTS, 0.8).to_event(1), obs=x)

    scaled = poutine.scale(model, scale=0.25), poutine.scale(guide, scale=0.25)
    loss = HierarchicalELBO(N).differentiable_loss(*scaled, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(*scaled, x), rel=1e-9)
    plain, other = (HierarchicalELBO(N).terms(*programs, x) for programs in ((model, guide), scaled))
    for name, term in plain.scalars().items():
        assert float(other.scalars()[name]) == pytest.approx(float(term), abs=1e-9), name


def test_scale_of_the_likelihood_alone_is_right_or_refused():
    x = numbers(N, D)

    def model(x):
        with pyro.plate("data", len(x)):
            z = latent()
            with poutine.scale(scale=0.25):
                pyro.sample("x", dist.Normal(z @ WEIGHTS, 0.8).to_event(1), obs=x)

    try:
        loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    except NotImplementedError as error:
        assert "'x'" in str(error)  # noqa: PT017
    else:
        assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)


WORDS, TOPICS, LENGTH = 7, 3, 40
ALPHA = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)


def counts():
    """Documents of 40 words."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, WORDS, (N, LENGTH), generator=generator)
    return torch.nn.functional.one_hot(words, WORDS).sum(1).double()


BETA = numbers(TOPICS, WORDS, seed=3).softmax(-1)


def concentration(x):
    return 0.3 + x @ BETA.mT


def test_topics_with_a_dirichlet_for_each_document():
    """Latent Dirichlet allocation, the topics of the words summed out; topics are parameters."""
    beta = torch.nn.Parameter(BETA.log())

    @seeded
    def encoder(x):
        with pyro.plate("data", len(x)):
            pyro.sample("theta", dist.Dirichlet(concentration(x)))

    def model(x):
        with pyro.plate("data", len(x)):
            theta = pyro.sample("theta", dist.Dirichlet(ALPHA))
            pyro.sample("x", dist.Multinomial(LENGTH, theta @ beta.softmax(-1)), obs=x)

    x = counts()
    theta = draw(encoder, x)["theta"]
    posterior = Mixture({"theta": dist.Dirichlet(concentration(x)).log_prob(theta[:, None])})
    prior = Mixture({"theta": dist.Dirichlet(ALPHA).log_prob(theta)[:, None]})
    terms = HierarchicalELBO(N).aggregate_terms(model, encoder, [(x,)])
    likelihood = log_likelihood(model, encoder, x)
    assert_terms(terms, reference_terms({"theta": ["theta"]}, posterior, prior), reconstruction=likelihood)
    loss = HierarchicalELBO(N).differentiable_loss(model, encoder, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, encoder, x), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, beta)
    assert (gradient != 0).all()


def test_topics_with_a_logistic_normal_for_each_document():
    """ProdLDA (Srivastava and Sutton, ICLR 2017): a normal latent whose softmax is the document's share of topics."""

    @seeded
    def encoder(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(concentration(x).log(), 0.4).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(TOPICS), 1.0).to_event(1))
            pyro.sample("x", dist.Multinomial(LENGTH, z.softmax(-1) @ BETA), obs=x)

    x = counts()
    z = draw(encoder, x)["z"]
    posterior = independent("z", dist.Normal(concentration(x).log(), 0.4), z)
    prior = independent("z", dist.Normal(torch.zeros(TOPICS), 1.0), z)
    terms = HierarchicalELBO(N).aggregate_terms(model, encoder, [(x,)])
    reference = reference_terms({"z": variables("z", TOPICS)}, posterior, prior)
    assert_terms(terms, reference, reconstruction=log_likelihood(model, encoder, x))


def test_topics_that_are_latents_of_the_whole_corpus():
    """β of each topic is a global latent in a plate of topics, θ one of each document."""
    posterior, prior = dist.Dirichlet(5 * BETA), dist.Dirichlet(torch.ones(WORDS, dtype=torch.float64))

    @seeded
    def encoder(x):
        with pyro.plate("topics", TOPICS):
            pyro.sample("beta", posterior)
        with pyro.plate("data", len(x)):
            pyro.sample("theta", dist.Dirichlet(concentration(x)))

    def model(x):
        with pyro.plate("topics", TOPICS):
            beta = pyro.sample("beta", prior)
        with pyro.plate("data", len(x)):
            theta = pyro.sample("theta", dist.Dirichlet(ALPHA))
            pyro.sample("x", dist.Multinomial(LENGTH, theta @ beta), obs=x)

    x = counts()
    beta = draw(encoder, x)["beta"]
    terms = HierarchicalELBO(N).terms(model, encoder, x)
    right = (posterior.log_prob(beta) - prior.log_prob(beta)).sum() / N
    assert float(terms.globals["beta"]) == pytest.approx(float(right))
    loss = HierarchicalELBO(N).differentiable_loss(model, encoder, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, encoder, x), rel=1e-9)
