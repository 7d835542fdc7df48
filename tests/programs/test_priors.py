"""Structured priors over one site of a normal guide: mixtures, VampPrior, Gaussian processes, flows."""

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
    pairs,
    reference_terms,
    seeded,
    variables,
)
from pyro.distributions import transforms
from pyro.infer import Trace_ELBO
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, K = 40, 3, 4
BLOCKS = {"one": ["z[0:2]"], "two": ["z[2]"]}
NAMES = {"one": ["z[0]", "z[1]"], "two": ["z[2]"]}


def encode(x):
    return 1.2 * x + 0.1, 0.3 + 0.2 * x.sigmoid()


@seeded
def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(*encode(x)).to_event(1))


def model_of(prior):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z * torch.tensor([1.0, -0.5, 2.0]), 0.8).to_event(1), obs=x)

    return model


def check(prior, table, blocks=None, names=None):
    """The terms of all data in two batches, against those of the prior's ``table``, a function of the sample."""
    x = numbers(N, V)
    z = torch.cat([draw(guide, part)["z"] for part in x.split(N // 2)])
    model = model_of(prior)
    likelihood = sum(log_likelihood(model, guide, part) for part in x.split(N // 2)) / 2
    terms = HierarchicalELBO(N, blocks=blocks).aggregate_terms(model, guide, [(part,) for part in x.split(N // 2)])
    if names == {"z": ["z"]}:
        posterior = Mixture({"z": dist.Normal(*encode(x)).log_prob(z[:, None]).sum(-1)})
    else:
        posterior = independent("z", dist.Normal(*encode(x)), z)
    reference = reference_terms(names or {"z": variables("z", V)}, posterior, table(z))
    assert_terms(terms, reference, reconstruction=likelihood)
    assert float(getattr(terms, "prior_information", 0.0)) == pytest.approx(0.0, abs=1e-9)
    # With every weight 1 nothing estimated is left, in a batch of the data as well.
    batch, size = x[: N // 2], N // 2
    pyros = Trace_ELBO().loss(model, guide, batch)
    assert float(HierarchicalELBO(N, blocks=blocks).loss(model, guide, batch)) == pytest.approx(pyros, rel=1e-9)
    estimate = HierarchicalELBO(N, blocks=blocks).terms(model, guide, batch)
    assert float(estimate.elbo) == pytest.approx(-pyros / size, rel=1e-9)
    return terms


def mixture_table(loc, scale, mass):
    """Of a mixture of K normals, loc and scale [K, V]."""

    def table(z):
        components = dist.Normal(loc[:, None, None], scale[:, None, None]).log_prob(z[:, None])  # [K, B, 1, V]
        given = {name: components[..., index] for index, name in enumerate(variables("z", z.shape[-1]))}
        return Mixture(given, mass.log()[:, None, None], ("",))

    return table


MEANS, SCALES = 2 * numbers(K, V, seed=1), numbers(K, V, seed=2).exp()
MASS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


@pytest.mark.parametrize(("blocks", "names"), [(None, None), (BLOCKS, NAMES)], ids=["site", "blocks"])
def test_mixture_of_gaussians(blocks, names):
    def prior():
        return dist.MixtureSameFamily(dist.Categorical(MASS), dist.Normal(MEANS, SCALES).to_event(1))

    check(prior, mixture_table(MEANS, SCALES, MASS), blocks, names)


def test_mixture_of_correlated_gaussians():
    roots = torch.eye(V) + 0.4 * numbers(K, V, V, seed=3)
    covariances = roots @ roots.mT

    def prior():
        return dist.MixtureSameFamily(dist.Categorical(MASS), dist.MultivariateNormal(MEANS, covariances))

    def table(z):
        each = [Normal(variables("z", V), z, MEANS[k], covariances[k]) for k in range(K)]
        return lambda group: torch.stack([MASS[k].log() + each[k](group) for k in range(K)]).logsumexp(0)

    check(prior, table, BLOCKS, NAMES)


def test_one_component_is_the_component():
    def prior():
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(1)), dist.Normal(MEANS[:1], SCALES[:1]).to_event(1))

    x = numbers(N, V)
    plain = model_of(lambda: dist.Normal(MEANS[0], SCALES[0]).to_event(1))
    one = HierarchicalELBO(N).aggregate_terms(model_of(prior), guide, [(x,)])
    other = HierarchicalELBO(N).aggregate_terms(plain, guide, [(x,)])
    for name, term in other.scalars().items():
        assert float(one.scalars()[name]) == pytest.approx(float(term), abs=1e-9), name


def test_vamp_prior():
    """Tomczak and Welling, VAE with a VampPrior (AISTATS 2018): components are posteriors of learned pseudo-inputs."""
    pseudo = torch.nn.Parameter(numbers(K, V, seed=4))

    def prior():
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(K)), dist.Normal(*encode(pseudo)).to_event(1))

    table = mixture_table(*(part.detach() for part in encode(pseudo)), torch.full((K,), 1 / K))
    check(prior, table, BLOCKS, NAMES)
    loss = HierarchicalELBO(N, between=2.0).differentiable_loss(model_of(prior), guide, numbers(N, V))
    (gradient,) = torch.autograd.grad(loss, pseudo)
    assert (gradient != 0).all()


def test_vamp_prior_with_all_data_as_pseudo_inputs_is_the_inference_marginal():
    """p(z) = q̂(z): nothing is left but the information."""
    x = numbers(N, V)

    def prior():
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(N)), dist.Normal(*encode(x)).to_event(1))

    terms = HierarchicalELBO(N, blocks=BLOCKS).aggregate_terms(model_of(prior), guide, [(x,)])
    for name in ("between", "within", "dimension"):
        assert float(getattr(terms, name)) == pytest.approx(0.0, abs=1e-9), name
    assert float(terms.elbo) == pytest.approx(float(terms.reconstruction - terms.mutual_information))


def test_spline_of_each_variable():
    """A neural spline of each variable is independent of the others: one variable each."""
    spline = in_double(transforms.Spline(V, count_bins=4, bound=3.0))

    def flow():
        return dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0), [spline])

    def table(z):
        return independent("z", flow(), z)

    with torch.no_grad():
        density = table(numbers(N, V)[:2])(["z[0]"])
    # The reference itself: the density of the first variable integrates to one.
    grid = torch.linspace(-8, 8, 4001)[:, None].expand(-1, V)
    with torch.no_grad():
        assert float(torch.trapezoid(flow().log_prob(grid).exp(), grid, dim=0)[0]) == pytest.approx(1.0, abs=1e-3)
        assert density.shape == (2, 1)
        check(lambda: flow().to_event(1), table, BLOCKS, NAMES)


@pytest.mark.parametrize("kind", ["exp of affine", "tanh"])
def test_transform_of_each_variable(kind):
    """A normal behind transforms of single numbers, with a guide of the same support."""
    chain, guide_chain = {
        "exp of affine": (
            [transforms.AffineTransform(0.2, 0.5), transforms.ExpTransform()],
            [transforms.ExpTransform()],
        ),
        "tanh": ([transforms.TanhTransform()], [transforms.AffineTransform(0.1, 0.5), transforms.TanhTransform()]),
    }[kind]
    x = numbers(N, V)

    @seeded
    def warped(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(*encode(x)), guide_chain).to_event(1))

    def prior():
        return dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0), chain)

    model = model_of(lambda: prior().to_event(1))
    z = draw(warped, x)["z"]
    posterior = independent("z", dist.TransformedDistribution(dist.Normal(*encode(x)), guide_chain), z)
    reference = reference_terms(NAMES, posterior, independent("z", prior(), z))
    terms = HierarchicalELBO(N, blocks=BLOCKS).aggregate_terms(model, warped, [(x,)])
    # The tanh of a normal is close to 1 here and there, where its inverse loses digits.
    assert_terms(terms, reference, 1e-6, log_likelihood(model, warped, x))


def in_double(transform):
    """Transforms with networks are made in the default type of their initialisation."""
    return transform.double() if isinstance(transform, torch.nn.Module) else transform


FLOWS = {
    "affine coupling": lambda: transforms.affine_coupling(V),
    "affine autoregressive": lambda: transforms.affine_autoregressive(V),
    "spline coupling": lambda: transforms.spline_coupling(V, count_bins=4),
    "linear": lambda: transforms.LowerCholeskyAffine(
        0.3 * torch.ones(V), torch.eye(V) + 0.5 * torch.ones(V, V).tril(-1)
    ),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_over_all_variables_is_one_variable(flow):
    """No marginals are known: the site is an atom, named after the site, and only its joint density counts."""
    transform = in_double(FLOWS[flow]())

    def prior():
        return dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0).to_event(1), [transform])

    def table(z):
        return Mixture({"z": prior().log_prob(z)[:, None]})

    with torch.no_grad():
        terms = check(prior, table, names={"z": ["z"]})
    assert list(terms.blocks["z"].variables) == ["z"]
    assert float(terms.within) == pytest.approx(0.0, abs=1e-9)


def test_flow_beside_another_site():
    """The atom is a block of its own; between blocks the dependence is that of the inference marginal."""
    transform = in_double(transforms.affine_coupling(V))
    flow = dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0).to_event(1), [transform])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", flow)
            u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + u.sum(-1, keepdim=True), 0.8).to_event(1), obs=x)

    @seeded
    def both(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*encode(x)).to_event(1))
            pyro.sample("u", dist.Normal(x[:, :2], 0.4).to_event(1))

    x = numbers(N, V)
    z, u = (draw(both, x)[name] for name in "zu")
    of_u = pairs(dist.Normal(x[:, :2], 0.4), u)
    posterior = Mixture({"z": dist.Normal(*encode(x)).log_prob(z[:, None]).sum(-1), "u[0]": of_u[0], "u[1]": of_u[1]})
    own = dist.Normal(torch.zeros(2), 1.0).log_prob(u)[:, None]
    with torch.no_grad():
        prior = Mixture({"z": flow.log_prob(z)[:, None], "u[0]": own[..., 0], "u[1]": own[..., 1]})
        terms = HierarchicalELBO(N).aggregate_terms(model, both, [(x,)])
    reference = reference_terms({"z": ["z"], "u": ["u[0]", "u[1]"]}, posterior, prior)
    assert_terms(terms, reference, reconstruction=log_likelihood(model, both, x))


def test_an_atom_cannot_be_divided():
    flow = in_double(transforms.affine_coupling(V))
    model = model_of(lambda: dist.TransformedDistribution(dist.Normal(torch.zeros(V), 1.0).to_event(1), [flow]))
    with pytest.raises((ValueError, NotImplementedError), match="z"):
        HierarchicalELBO(N, blocks=BLOCKS).terms(model, guide, numbers(N, V))


def test_spike_and_slab_of_each_variable():
    """A mixture of two normals of each variable: independent variables, each with a density of its own."""
    mass, scales = (
        torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64),
        torch.tensor([0.05, 1.5], dtype=torch.float64),
    )

    def spike():
        return dist.MixtureSameFamily(dist.Categorical(mass), dist.Normal(torch.zeros(V, 2), scales.expand(V, 2)))

    def table(z):
        by_hand = (dist.Normal(0.0, scales).log_prob(z[..., None]) + mass.log()).logsumexp(-1)  # [B, V]
        return Mixture({name: by_hand[:, None, index] for index, name in enumerate(variables("z", V))})

    check(lambda: spike().to_event(1), table, BLOCKS, NAMES)


def test_gaussian_process_of_each_dimension():
    """A GP-VAE: event [V, T], each dimension a Gaussian process over time (Fortuin et al., AISTATS 2020)."""
    steps = 4
    times = torch.arange(steps, dtype=torch.float64)
    covariance = torch.exp(-0.5 * (times[:, None] - times).square() / 2.0**2) + 0.1 * torch.eye(steps)
    means = 0.3 * numbers(2, steps, seed=5)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(means, covariance).to_event(1))  # [B, 2, T]
            pyro.sample("x", dist.Normal(z.sum(-2), 0.8).to_event(1), obs=x)

    @seeded
    def encoder(x):
        with pyro.plate("data", len(x)):
            loc = torch.stack([x, 0.5 * x.flip(-1)], -2)
            pyro.sample("z", dist.Normal(loc, 0.4).to_event(2))

    x = numbers(N, steps)
    z = draw(encoder, x)["z"].flatten(1)
    loc = torch.stack([x, 0.5 * x.flip(-1)], -2).flatten(1)
    names = variables("z", 2 * steps)
    posterior = independent("z", dist.Normal(loc, torch.tensor(0.4)), z)
    prior = Normal(names, z, means.flatten(), torch.block_diag(covariance, covariance))
    terms = HierarchicalELBO(N).aggregate_terms(model, encoder, [(x,)])
    likelihood = log_likelihood(model, encoder, x)
    assert_terms(terms, reference_terms({"z": names}, posterior, prior), reconstruction=likelihood)
    halves = {"a": ["z[0, :]"], "b": ["z[1, :]"]}
    terms = HierarchicalELBO(N, blocks=halves).aggregate_terms(model, encoder, [(x,)])
    reference = reference_terms({"a": names[:steps], "b": names[steps:]}, posterior, prior)
    assert_terms(terms, reference, reconstruction=likelihood)
