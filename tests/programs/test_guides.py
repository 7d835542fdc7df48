"""Guides over a vector: flows, Dirichlet sites, mixtures, autoguides, and point estimates, which are refused."""

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
from pyro.distributions import transforms
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision", "ways_of_comparing")

N, V = 30, 3


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)


def loss_is_that_of_pyro(model, guide, *args):
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, *args)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, *args), rel=1e-9)


FLOWS = {
    "affine coupling": transforms.affine_coupling,
    "inverse autoregressive": transforms.affine_autoregressive,
    "inverse autoregressive, stable": lambda size: transforms.affine_autoregressive(size, stable=True),
    "spline coupling": lambda size: transforms.spline_coupling(size, count_bins=4),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_behind_the_normal_posterior_is_one_variable(flow):
    """Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (NeurIPS 2016).

    Its density at the samples of other data needs the inverse of the flow, its own sample's does not.
    """
    transform = FLOWS[flow](V).double()

    def posterior(x):
        return dist.TransformedDistribution(dist.Normal(x, 0.3 + 0.2 * x.sigmoid()).to_event(1), [transform])

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", posterior(x))

    x = numbers(N, V)
    with torch.no_grad():
        z = draw(guide, x)["z"]
        table = posterior(x).log_prob(z[:, None].expand(-1, N, -1).contiguous())
        own = dist.Normal(torch.zeros(V), 1.0).log_prob(z).sum(-1)
        reference = reference_terms({"z": ["z"]}, Mixture({"z": table}), Mixture({"z": own[:, None]}))
        terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
        # A flow is inverted numerically where its own sample is not at hand.
        assert_terms(terms, reference, 1e-6, log_likelihood(model, guide, x))
        assert list(terms.blocks["z"].variables) == ["z"]
    loss_is_that_of_pyro(model, guide, x)


def test_gradient_reaches_the_flow_of_the_guide():
    transform = transforms.affine_coupling(V).double()

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(x, 0.5).to_event(1), [transform]))

    x = numbers(N, V)
    parameters = list(transform.parameters())
    ours = torch.autograd.grad(HierarchicalELBO(N).differentiable_loss(model, guide, x), parameters)
    pyros = torch.autograd.grad(Trace_ELBO().differentiable_loss(model, guide, x), parameters)
    for one, other in zip(ours, pyros, strict=True):
        torch.testing.assert_close(one, other)
    assert any((gradient != 0).any() for gradient in ours)


def test_atoms_on_both_sides():
    """A flow as prior and a flow as posterior: equal to the prior for all data, nothing is left of any term."""
    transform = transforms.affine_coupling(V).double()

    def flow():
        return dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0).to_event(1), [transform])

    def flow_model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", flow())
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", flow().expand([len(x)]))

    with torch.no_grad():
        terms = HierarchicalELBO(N).aggregate_terms(flow_model, guide, [(numbers(N, V),)])
    for name in ("mutual_information", "between", "within", "dimension"):
        assert float(getattr(terms, name)) == pytest.approx(0.0, abs=1e-9), name


def test_dirichlet_sites_in_an_event():
    """Two Dirichlets in one site are two variables."""
    prior = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 0.5]])

    def concentration(x):
        return 0.5 + torch.stack([x.exp(), x.flip(-1).exp()], -2)  # [N, 2, V]

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("t", dist.Dirichlet(concentration(x)).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            t = pyro.sample("t", dist.Dirichlet(prior).to_event(1))
            pyro.sample("x", dist.Normal(t.sum(-2), 0.8).to_event(1), obs=x)

    x = numbers(N, V)
    t = draw(guide, x)["t"]
    names = variables("t", 2)
    posterior = independent("t", dist.Dirichlet(concentration(x)), t)
    reference = reference_terms({"t": names}, posterior, independent("t", dist.Dirichlet(prior), t))
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x))
    loss_is_that_of_pyro(model, guide, x)
    reference = reference_terms({"a": names[:1], "b": names[1:]}, posterior, independent("t", dist.Dirichlet(prior), t))
    assert_terms(
        HierarchicalELBO(N, blocks={"a": ["t[0]"], "b": ["t[1]"]}).aggregate_terms(model, guide, [(x,)]), reference
    )


def test_logistic_normal_facing_a_dirichlet():
    """A simplex has no variables of its own: a guide of another family than the prior is an atom."""

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            normal = dist.Normal(x[:, :2], 0.5).to_event(1)
            pyro.sample("t", dist.TransformedDistribution(normal, [transforms.StickBreakingTransform()]))

    def model(x):
        with pyro.plate("data", len(x)):
            t = pyro.sample("t", dist.Dirichlet(torch.ones(3)))
            pyro.sample("x", dist.Normal(t, 0.8).to_event(1), obs=x)

    x = numbers(N, V)
    t = draw(guide, x)["t"]
    posterior = dist.TransformedDistribution(
        dist.Normal(x[:, :2], 0.5).to_event(1), [transforms.StickBreakingTransform()]
    )
    table = Mixture({"t": posterior.log_prob(t[:, None].expand(-1, N, -1).contiguous())})
    prior = Mixture({"t": dist.Dirichlet(torch.ones(3)).log_prob(t)[:, None]})
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference_terms({"t": ["t"]}, table, prior), 1e-6, log_likelihood(model, guide, x))
    loss_is_that_of_pyro(model, guide, x)


def test_full_covariance():
    roots = torch.eye(V) + 0.3 * numbers(V, V, seed=1).tril(-1)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(x, scale_tril=0.5 * roots))

    x = numbers(N, V)
    z, names = draw(guide, x)["z"], variables("z", V)
    posterior = Normal(names, z, x, 0.25 * (roots @ roots.mT).expand(N, V, V))
    reference = reference_terms({"z": names}, posterior, independent("z", dist.Normal(torch.zeros(V), 1.0), z))
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x))
    loss_is_that_of_pyro(model, guide, x)


def test_mixture_of_normals_as_posterior():
    """Pyro's mixture with a reparameterised sample. Whether its variables are told apart or not, the sums hold."""
    weights, shifts = torch.zeros(2), torch.tensor([[-1.0], [1.0]]).expand(2, V)

    def posterior(x):
        shape = (len(x), 2)
        return dist.MixtureOfDiagNormals(x[:, None] + shifts, torch.full((*shape, V), 0.4), weights.expand(shape))

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", posterior(x))

    x = numbers(N, V)
    z = draw(guide, x)["z"]
    components = dist.Normal(x[:, None] + shifts, 0.4).log_prob(z[:, None, None])  # [B, N, 2, V]
    table = Mixture({"z": components.sum(-1).logsumexp(-1) + torch.tensor(0.5).log()})
    own = dist.Normal(torch.zeros(V), 1.0).log_prob(z).sum(-1)
    reference = reference_terms({"z": ["z"]}, table, Mixture({"z": own[:, None]}))
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    assert float(terms.mutual_information) == pytest.approx(reference.mutual_information, abs=1e-7)
    assert float(terms.between) == pytest.approx(0.0, abs=1e-9)
    assert float(terms.within + terms.dimension) == pytest.approx(reference.dimension, abs=1e-7)
    loss_is_that_of_pyro(model, guide, x)


def test_directions_on_a_sphere():
    """ProjectedNormal has samples with a gradient, and no coordinates that are independent: one variable."""

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.ProjectedNormal(3 * x))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.ProjectedNormal(torch.zeros(V)))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    x = numbers(N, V)
    z = draw(guide, x)["z"]
    prior = torch.full((N, 1), -torch.log(torch.tensor(4 * torch.pi)).item())  # uniform on the sphere
    reference = reference_terms(
        {"z": ["z"]}, Mixture({"z": dist.ProjectedNormal(3 * x).log_prob(z[:, None])}), Mixture({"z": prior})
    )
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x))
    loss_is_that_of_pyro(model, guide, x)


def test_autoguide_is_accepted_or_named():
    """An autoguide samples in unconstrained space, and its sites are Deltas of that."""
    x = numbers(N, V)
    guide = AutoNormal(model)
    guide(x)
    guide = guide.double()
    try:
        loss = HierarchicalELBO(N).differentiable_loss(model, seeded(guide), x)
    except (NotImplementedError, ValueError) as error:
        assert "autoguide" in str(error).lower()  # noqa: PT017
    else:
        assert float(loss) == pytest.approx(Trace_ELBO().loss(model, seeded(guide), x), rel=1e-6)


@pytest.mark.parametrize("auto", [False, True], ids=["written", "AutoDelta"])
def test_point_estimate_of_a_local_site_is_refused(auto):
    """log q of a point is 0 for the datum and -inf for all others: there is no inference marginal of densities."""

    def written(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(0.5 * x).to_event(1))

    x = numbers(N, V)
    guide = AutoDelta(model) if auto else written
    guide(x)
    with pytest.raises(NotImplementedError, match="'z'.*point estimate"):
        HierarchicalELBO(N).terms(model, guide, x)
