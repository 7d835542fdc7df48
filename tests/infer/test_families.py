"""Posteriors beside the normal and the Concrete one: every term against loops over torch's own densities."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.metrics import encode

pytestmark = pytest.mark.usefixtures("ways_of_comparing")

N, V = 7, 3
X = torch.rand(N, 5, generator=torch.Generator().manual_seed(0)).double()


def lower(h):
    """A well-conditioned triangular factor [..., V, V] from V² numbers."""
    return 0.3 * h.unflatten(-1, (V, V)).tril(-1) + torch.diag_embed(0.3 + h[..., :V].sigmoid())


def gaussian_behind(*transforms):
    return lambda h: dist.TransformedDistribution(dist.Normal(h[..., :V], h[..., V : 2 * V].sigmoid()), [*transforms])


TRIANGLE = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.4, 1.2]]).double()
ATOMS = ("Dirichlet", "flow")
"""What is one variable."""

WITHOUT_MEAN = ("normal, shifted for each datum", "flow")

# Name: the posterior of V variables made of numbers h [B, V²], and a prior.
SITES = {
    "Gamma": (
        lambda h: dist.Gamma(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1),
        dist.Gamma(torch.full((V,), 2.0).double(), 1.5).to_event(1),
    ),
    "Beta": (
        lambda h: dist.Beta(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1),
        dist.Beta(torch.full((V,), 2.0).double(), 1.5).to_event(1),
    ),
    "LogNormal": (
        lambda h: dist.LogNormal(h[..., :V], h[..., V : 2 * V].sigmoid()).to_event(1),
        dist.Gamma(torch.full((V,), 2.0).double(), 1.5).to_event(1),
    ),
    "logistic normal": (
        lambda h: gaussian_behind(dist.transforms.AffineTransform(0.5, 2.0), dist.transforms.SigmoidTransform())(
            h
        ).to_event(1),
        dist.Beta(torch.full((V,), 2.0).double(), 1.5).to_event(1),
    ),
    "MultivariateNormal": (
        lambda h: dist.MultivariateNormal(h[..., :V], scale_tril=lower(h)),
        dist.Normal(torch.zeros(V).double(), 1.0).to_event(1),
    ),
    "LowRankMultivariateNormal": (
        lambda h: dist.LowRankMultivariateNormal(h[..., :V], h[..., V : 2 * V, None], 0.2 + h[..., :V].sigmoid()),
        dist.Normal(torch.zeros(V).double(), 1.0).to_event(1),
    ),
    "Laplace": (
        lambda h: dist.Laplace(h[..., :V], h[..., V : 2 * V].sigmoid()).to_event(1),
        dist.Normal(torch.zeros(V).double(), 1.0).to_event(1),
    ),
    "normal, shifted for each datum": (
        lambda h: gaussian_behind(dist.transforms.AffineTransform(h[..., 2 * V :], 2.0))(h).to_event(1),
        dist.Normal(torch.zeros(V).double(), 1.0).to_event(1),
    ),
    "flow": (
        lambda h: gaussian_behind(dist.transforms.LowerCholeskyAffine(torch.zeros(V).double(), TRIANGLE))(h),
        dist.Normal(torch.zeros(V).double(), 1.0).to_event(1),
    ),
    "Dirichlet": (
        lambda h: dist.Dirichlet(1 + h[..., :V].exp()),
        dist.Dirichlet(torch.ones(V).double()),
    ),
}


class Guide(nn.Module):
    def __init__(self, make):
        super().__init__()
        torch.manual_seed(1)
        self.head, self.make = nn.Linear(5, V * V).double(), make

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.make(3 * self.head(x)))
            pyro.sample("w", dist.Normal(x[:, :2], 0.5).to_event(1))


def model_of(prior):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = z.sum(-1, keepdim=True) + w.sum(-1, keepdim=True)
            pyro.sample("x", dist.Normal(loc, 1.0).expand([len(x), 5]).to_event(1), obs=x)

    return model


def marginal_density(fn, indices):
    """log q(z_G^b|x^m), [B, M], by the definition of the family."""
    base = fn
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist

    def of(value):
        if isinstance(base, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal):
            some = list(indices)
            covariance = base.covariance_matrix[..., some, :][..., some]
            part = dist.MultivariateNormal(base.loc[..., some], covariance_matrix=covariance)
            return part.log_prob(value[:, None, some])
        if base.event_shape:
            return base.log_prob(value[:, None])
        return base.log_prob(value[:, None])[..., list(indices)].sum(-1)

    return of


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("weights", [{}, {"blocks": {"a": ["z", "w[0]"], "b": ["w[1]"]}}])
def test_terms_against_loops(name, weights):
    make, prior = SITES[name]
    guide, variables = Guide(make), 1 if name in ATOMS else V
    torch.manual_seed(3)
    terms = HierarchicalELBO(N, mutual_information=1, **weights).terms(model_of(prior), guide, X)
    torch.manual_seed(3)
    sites = poutine.trace(guide).get_trace(X).nodes
    z, w = sites["z"]["value"], sites["w"]["value"]
    normal = dist.Normal(X[:, :2], 0.5)
    of_w = [normal.log_prob(w[:, None])[..., index] for index in range(2)]  # each [B, M]

    def expected(indices, *others):
        pairs = sum(others, torch.zeros(N, N).double())
        if indices is not None:
            pairs = pairs + marginal_density(sites["z"]["fn"], indices)(z)
        return (pairs.logsumexp(1) - math.log(N)).mean(), pairs.diagonal().mean()

    joint, own = expected(range(V), *of_w)
    torch.testing.assert_close(terms.mutual_information, own - joint)
    whole_z, own_z = expected(range(V))
    singles = [expected([index])[0] for index in range(variables)] if variables > 1 else [whole_z]
    singles_w = [expected(None, part)[0] for part in of_w]
    if weights:
        first = expected(range(V), of_w[0])[0]
        torch.testing.assert_close(terms.between, joint - first - singles_w[1])
        torch.testing.assert_close(terms.within, first - sum(singles) - singles_w[0])
    else:
        both_w = expected(None, *of_w)[0]
        torch.testing.assert_close(terms.between, joint - whole_z - both_w)
        torch.testing.assert_close(terms.within, whole_z - sum(singles) + both_w - sum(singles_w))
        torch.testing.assert_close(terms.blocks["z"].mutual_information, own_z - whole_z)
    log_prior = prior.log_prob(z).mean() + dist.Normal(0.0, 1.0).log_prob(w).sum(-1).mean()
    torch.testing.assert_close(terms.dimension, sum(singles) + sum(singles_w) - log_prior)


@pytest.mark.parametrize("name", SITES)
def test_every_weight_1_is_the_ordinary_elbo_with_its_gradients(name):
    make, prior = SITES[name]
    guide, model, losses = Guide(make), model_of(prior), []
    for elbo in (HierarchicalELBO(1000), Trace_ELBO()):
        torch.manual_seed(3)
        losses.append(elbo.differentiable_loss(model, guide, X))
    torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(loss, list(guide.parameters())) for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", SITES)
def test_aggregate_terms_are_those_of_one_batch_of_everything(name):
    make, prior = SITES[name]
    guide, terms = Guide(make), []
    for batches in ([(X,)], [(X[:4],), (X[4:],)]):
        torch.manual_seed(3)
        terms.append(HierarchicalELBO(99).aggregate_terms(model_of(prior), guide, batches))
    assert terms[0].elbo.isfinite()
    if name in WITHOUT_MEAN:
        with pytest.raises(NotImplementedError, match="site 'z' is TransformedDistribution, whose mean has no closed"):
            encode(guide, [(X,)])
    else:
        assert len(encode(guide, [(X,)]).variables) == (1 if name in ATOMS else V) + 2
    whole = HierarchicalELBO(N)
    torch.manual_seed(3)
    torch.testing.assert_close(terms[0].elbo, whole.terms(model_of(prior), guide, X).elbo)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_relaxed_bernoulli_is_a_concrete_of_two_categories(weight):
    logits = 3 * X[:, :2] - 1

    def pair(relaxed):
        def sample(fn_binary, fn_categories):
            fn = fn_binary if relaxed else fn_categories
            return pyro.sample("y", fn)

        def guide(x):
            with pyro.plate("data", len(x)):
                two = torch.stack([torch.zeros_like(logits), logits], -1)
                sample(dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=logits).to_event(1),
                       Concrete(0.7, logits=two).to_event(1))  # fmt: skip

        def model(x):
            with pyro.plate("data", len(x)):
                zeros = torch.zeros(2).double()
                sample(dist.Bernoulli(logits=zeros + 0.4).to_event(1),
                       Concrete(0.7, logits=torch.tensor([[0.0, 0.4]] * 2).double()).to_event(1))  # fmt: skip
                pyro.sample("x", dist.Normal(zeros.sum(), 1.0).expand([len(x), 5]).to_event(1), obs=x)

        return model, guide

    one, other = (HierarchicalELBO(50, between=weight).terms(*pair(relaxed), X) for relaxed in (True, False))
    for name in ("mutual_information", "within", "dimension"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
    assert one.mutual_information > 0.01


def refused(posterior, prior, message, error=NotImplementedError, **options):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", posterior)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([len(x), 5]).to_event(1), obs=x)

    with pytest.raises(error, match="^" + re.escape(message)):
        HierarchicalELBO(50, **options).terms(model, guide, X)


def test_what_is_refused_is_named():
    rows = X[:, :V]
    refused(dist.VonMises(rows, 1.0).to_event(1), dist.VonMises(rows, 1.0).to_event(1),
            "site 'z' is VonMises in the guide, whose samples have no gradient; use a distribution with")  # fmt: skip
    flat = dist.Normal(torch.zeros(V).double(), 1.0).to_event(1)
    refused(dist.Dirichlet(1 + rows), flat, "site 'z' is Dirichlet in the guide but Normal in the model")
    binary = dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=rows).to_event(1)
    refused(binary, flat, "site 'z' is RelaxedBernoulli in the guide but Normal in the model; its prior must be Bernou")
