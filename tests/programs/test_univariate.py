"""Every univariate distribution of Pyro as a prior, and the univariate guides whose samples have a gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import assert_terms, draw, independent, log_likelihood, reference_terms, seeded, variables
from pyro.infer import Trace_ELBO
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V = 30, 2
ONES = torch.ones(V, dtype=torch.float64)


def programs(guide_fn, prior_fn):
    """Model, guide and data of one site of V variables."""

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", guide_fn(x).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior_fn().to_event(1))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    return model, guide, numbers(N, V)


def check(guide_fn, prior_fn, tolerance=1e-7):
    model, guide, x = programs(guide_fn, prior_fn)
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    z = draw(guide, x)["z"]
    names = variables("z", V)
    with pyro.validation_enabled(False):  # outside the support a density is 0, and no error
        prior = independent("z", prior_fn().expand([V]), z)
        posterior = independent("z", guide_fn(x), z)
    reference = reference_terms({"z": names}, posterior, prior)
    assert_terms(terms, reference, tolerance, log_likelihood(model, guide, x))
    assert list(terms.blocks["z"].variables) == names
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)


GUIDES = {
    "reals": lambda x: dist.Normal(x, 0.5),
    "positive": lambda x: dist.LogNormal(0.5 * x, 0.4),
    "unit": lambda x: dist.Beta(2 + x.exp(), 2 + (-x).exp()),  # off the ends, where digits are lost
    "above 1/2": lambda x: dist.TransformedDistribution(
        dist.Normal(x, 0.5), [dist.transforms.ExpTransform(), dist.transforms.AffineTransform(0.5, 1.0)]
    ),
    "circle": lambda x: dist.TransformedDistribution(
        dist.Normal(x, 0.5), [dist.transforms.TanhTransform(), dist.transforms.AffineTransform(0.0, torch.pi)]
    ),
}

PRIORS = {
    "reals": {
        "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(0.1 * ONES, 1.2, 0.7),
        "Cauchy": lambda: dist.Cauchy(0.0 * ONES, 1.0),
        "Gumbel": lambda: dist.Gumbel(0.2 * ONES, 1.3),
        "Laplace": lambda: dist.Laplace(0.0 * ONES, 1.0),
        "Logistic": lambda: dist.Logistic(0.0 * ONES, 0.6),
        "Normal": lambda: dist.Normal(0.0 * ONES, 1.0),
        "SkewLogistic": lambda: dist.SkewLogistic(0.0 * ONES, 0.6, 2.0),
        "SoftLaplace": lambda: dist.SoftLaplace(0.0 * ONES, 1.0),
        "StudentT": lambda: dist.StudentT(4.0 * ONES, 0.1, 0.9),
    },
    "positive": {
        "Chi2": lambda: dist.Chi2(3.0 * ONES),
        "Exponential": lambda: dist.Exponential(0.8 * ONES),
        "FisherSnedecor": lambda: dist.FisherSnedecor(4.0 * ONES, 6.0 * ONES),
        "Gamma": lambda: dist.Gamma(2.0 * ONES, 1.5),
        "HalfCauchy": lambda: dist.HalfCauchy(1.0 * ONES),
        "HalfNormal": lambda: dist.HalfNormal(1.2 * ONES),
        "InverseGamma": lambda: dist.InverseGamma(3.0 * ONES, 2.0 * ONES),
        "LogNormal": lambda: dist.LogNormal(0.1 * ONES, 1.0),
        "Weibull": lambda: dist.Weibull(1.2 * ONES, 1.5 * ONES),
    },
    "unit": {
        "Beta": lambda: dist.Beta(1.5 * ONES, 2.0),
        "ContinuousBernoulli": lambda: dist.ContinuousBernoulli(0.3 * ONES),
        "Kumaraswamy": lambda: dist.Kumaraswamy(1.5 * ONES, 2.0 * ONES),
        "Uniform": lambda: dist.Uniform(0.0 * ONES, 1.0),
        "AffineBeta": lambda: dist.AffineBeta(1.5 * ONES, 2.0 * ONES, 0.0 * ONES, 1.0 * ONES),
        "sigmoid of Normal": lambda: dist.TransformedDistribution(
            dist.Normal(0.0 * ONES, 1.0), [dist.transforms.SigmoidTransform()]
        ),
    },
    "above 1/2": {"Pareto": lambda: dist.Pareto(0.5 * ONES, 2.0)},
    "circle": {
        "VonMises": lambda: dist.VonMises(0.0 * ONES, 2.0 * ONES),
        "Uniform": lambda: dist.Uniform(-torch.pi * ONES, torch.pi),
    },
}


@pytest.mark.parametrize(
    ("support", "name"), [(support, name) for support, priors in PRIORS.items() for name in priors]
)
def test_univariate_prior(support, name):
    # Samples of tanh are inverted near its ends, where digits are lost.
    check(GUIDES[support], PRIORS[support][name], 1e-6 if support == "circle" else 1e-7)


def softplus(x):
    return torch.nn.functional.softplus(x) + 0.3


UNIVARIATE_GUIDES = {
    "Cauchy": (lambda x: dist.Cauchy(x, softplus(x)), "Normal"),
    "Gumbel": (lambda x: dist.Gumbel(x, softplus(x)), "Normal"),
    "Laplace": (lambda x: dist.Laplace(x, softplus(x)), "Laplace"),
    "Logistic": (lambda x: dist.Logistic(x, softplus(x)), "Normal"),
    "SoftLaplace": (lambda x: dist.SoftLaplace(x, softplus(x)), "Normal"),
    "StudentT": (lambda x: dist.StudentT(5.0, x, softplus(x)), "StudentT"),
    "Chi2": (lambda x: dist.Chi2(2 * softplus(x)), "Gamma"),
    "Exponential": (lambda x: dist.Exponential(softplus(x)), "Gamma"),
    "FisherSnedecor": (lambda x: dist.FisherSnedecor(4 * softplus(x), 8 * torch.ones_like(x)), "HalfCauchy"),
    "Gamma": (lambda x: dist.Gamma(2 * softplus(x), 1.5), "LogNormal"),
    "HalfCauchy": (lambda x: dist.HalfCauchy(softplus(x)), "HalfCauchy"),
    "HalfNormal": (lambda x: dist.HalfNormal(softplus(x)), "Exponential"),
    "InverseGamma": (lambda x: dist.InverseGamma(2 * softplus(x), torch.ones_like(x)), "Gamma"),
    "Weibull": (lambda x: dist.Weibull(softplus(x), 1.5 * torch.ones_like(x)), "HalfNormal"),
    "ContinuousBernoulli": (lambda x: dist.ContinuousBernoulli(logits=x), "Beta"),
    "Kumaraswamy": (lambda x: dist.Kumaraswamy(2 * softplus(x), 2 * softplus(-x)), "Uniform"),
    "sigmoid of Normal": (
        lambda x: dist.TransformedDistribution(dist.Normal(x, 0.7), [dist.transforms.SigmoidTransform()]),
        "Beta",
    ),
}


@pytest.mark.parametrize("name", UNIVARIATE_GUIDES)
def test_univariate_guide(name):
    guide, prior = UNIVARIATE_GUIDES[name]
    check(guide, next(priors[prior] for priors in PRIORS.values() if prior in priors))


def test_uniform_guide_whose_supports_differ_between_data():
    """q(z|x) is 0 at most samples of the other data; the own density keeps log q̂ finite."""
    check(lambda x: dist.Uniform(x - 0.5, x + 0.5), PRIORS["reals"]["Normal"])


def test_disjoint_uniform_posteriors_have_all_the_information():
    """Each datum has an interval of its own: every variable and the pair carry log N nats, exactly."""
    x = torch.arange(N, dtype=torch.float64)[:, None].expand(-1, V)
    model, guide, _ = programs(lambda x: dist.Uniform(x, x + 0.9), lambda: dist.Normal(0.0 * ONES, 9.0))
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    right = float(torch.log(torch.tensor(float(N))))
    assert float(terms.mutual_information) == pytest.approx(right, abs=1e-9)
    assert float(terms.within) == pytest.approx(right, abs=1e-9)
    for variable in terms.blocks["z"].variables.values():
        assert float(variable.mutual_information) == pytest.approx(right, abs=1e-9)


NO_GRADIENT = {
    "Geometric": lambda x: dist.Geometric(logits=x),
    "Poisson": lambda x: dist.Poisson(x.exp()),
    "VonMises": lambda x: dist.VonMises(x, softplus(x)),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_guides_whose_samples_have_no_gradient_are_refused(name):
    model, guide, x = programs(NO_GRADIENT[name], PRIORS["reals"]["Normal"])
    with pytest.raises(NotImplementedError, match=f"'z' is .*{name}"):
        HierarchicalELBO(N).terms(model, guide, x)


def test_von_mises_names_the_gradient():
    model, guide, x = programs(NO_GRADIENT["VonMises"], PRIORS["circle"]["VonMises"])
    with pytest.raises(NotImplementedError, match="'z' is .*VonMises.*gradient"):
        HierarchicalELBO(N).terms(model, guide, x)
