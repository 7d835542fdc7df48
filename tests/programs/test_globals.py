"""Latents, observations and factors outside the data plate: they count once for the whole data set."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import (
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
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, V = 12, 3


def encode(x):
    return 0.8 * x, 0.4 + 0.1 * x.sigmoid()


def local(x):
    """The guide of the latents of each datum."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(*encode(x)).to_event(1))


def observe(x, z, weights=None):
    mean = z if weights is None else z @ weights
    pyro.sample("x", dist.Normal(mean, 0.8).to_event(1), obs=x)


SCALE = dist.LogNormal(torch.tensor(0.1, dtype=torch.float64), 0.3)
SCALE_PRIOR = dist.LogNormal(torch.tensor(0.0, dtype=torch.float64), 1.0)


def learned_scale():
    """p(w) p(z|w), w the scale of the prior."""

    def model(x):
        scale = pyro.sample("scale", SCALE_PRIOR)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1))
            observe(x, z)

    def guide(x):
        pyro.sample("scale", SCALE)
        local(x)

    return model, seeded(guide), {"scale": (SCALE, SCALE_PRIOR)}


def decoder_weights():
    """A Bayesian decoder: p(W) p(x|z, W)."""
    posterior = dist.Normal(torch.eye(V, dtype=torch.float64), 0.2).to_event(2)
    prior = dist.Normal(torch.zeros(V, V, dtype=torch.float64), 1.0).to_event(2)

    def model(x):
        weights = pyro.sample("W", prior)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            observe(x, z, weights)

    def guide(x):
        pyro.sample("W", posterior)
        local(x)

    return model, seeded(guide), {"W": (posterior, prior)}


def two_globals():
    """One of them given the other, in the model and in the guide."""

    def model(x):
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(level, 0.5))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1))
            observe(x, z + level)

    def guide(x):
        level = pyro.sample("level", dist.Normal(torch.tensor(0.2), 0.3))
        pyro.sample("scale", dist.LogNormal(0.5 * level, 0.2))
        local(x)

    guide = seeded(guide)
    level = draw(guide, numbers(N, V))["level"]
    return (
        model,
        guide,
        {
            "level": (dist.Normal(torch.tensor(0.2), 0.3), dist.Normal(torch.tensor(0.0), 1.0)),
            "scale": (dist.LogNormal(0.5 * level, 0.2), dist.LogNormal(level, 0.5)),
        },
    )


def global_plate(size):
    """A global latent in a plate of its own, of any size: that of the batch does not make it one of the data."""

    def programs():
        posterior, prior = dist.Normal(0.1 * torch.arange(size, dtype=torch.float64), 0.3), dist.Normal(0.0, 1.0)

        def model(x):
            with pyro.plate("topics", size):
                beta = pyro.sample("beta", prior)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
                observe(x, z + beta.sum())

        def guide(x):
            with pyro.plate("topics", size):
                pyro.sample("beta", posterior)
            local(x)

        return model, seeded(guide), {"beta": (posterior, prior.expand([size]))}

    return programs


def point_estimate():
    """A Delta guide of a global latent: its maximum a posteriori, log q = 0."""
    prior = dist.LogNormal(torch.tensor(0.0), 1.0)

    def model(x):
        scale = pyro.sample("scale", prior)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1))
            observe(x, z)

    def guide(x):
        pyro.sample("scale", dist.Delta(torch.tensor(1.3)))
        local(x)

    return model, seeded(guide), {"scale": (dist.Delta(torch.tensor(1.3)), prior)}


def correlation():
    """p(L) p(z|L): the correlation of the prior is a latent of its own, with an LKJ prior."""
    prior = dist.LKJCholesky(V, 2.0)

    def posterior():
        return dist.TransformedDistribution(
            dist.Normal(torch.tensor([0.6, -0.3, 0.2]), 0.1).to_event(1), [transforms.CorrCholeskyTransform()]
        )

    def model(x):
        root = pyro.sample("L", prior)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(V), scale_tril=root))
            observe(x, z)

    def guide(x):
        pyro.sample("L", posterior())
        local(x)

    return model, seeded(guide), {"L": (posterior(), prior)}


def prior_of(name, x, sample):
    """The table of the prior of z given the sample of the globals."""
    z = sample["z"]
    if name == "L":
        covariance = sample["L"] @ sample["L"].mT
        return Normal(variables("z", V), z, torch.zeros(V), covariance)
    return independent("z", dist.Normal(torch.zeros(V), sample.get("scale", 1.0)), z)


PROGRAMS = {
    "learned scale": learned_scale,
    "decoder weights": decoder_weights,
    "two": two_globals,
    "plate of 4": global_plate(4),
    "plate as large as the batch": global_plate(N),
    "point estimate": point_estimate,
    "correlation": correlation,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_global_latent_is_counted_once(name):
    model, guide, pairs = PROGRAMS[name]()
    x = numbers(N, V)
    sample = draw(guide, x)
    terms = HierarchicalELBO(N).terms(model, guide, x)
    assert set(terms.globals) == set(pairs)
    assert list(terms.blocks) == ["z"]
    for site, (posterior, prior) in pairs.items():
        right = (posterior.log_prob(sample[site]) - prior.log_prob(sample[site])).sum() / N
        assert float(terms.globals[site]) == pytest.approx(float(right), abs=1e-9)
    prior = prior_of("L" if "L" in pairs else "", x, sample)
    reference = reference_terms({"z": variables("z", V)}, independent("z", dist.Normal(*encode(x)), sample["z"]), prior)
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x))


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_is_that_of_pyro_when_the_batch_is_the_data_set(name):
    model, guide, _ = PROGRAMS[name]()
    x = numbers(N, V)
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)


def test_a_batch_counts_its_share_of_the_global_divergence():
    """A batch of B of N data has B/N of KL(q||p): N/B batches together have it once."""
    model, guide, pairs = learned_scale()
    x, sample = numbers(4, V), draw(guide, numbers(4, V))
    terms = HierarchicalELBO(N).terms(model, guide, x)
    posterior, prior = pairs["scale"]
    divergence = float(posterior.log_prob(sample["scale"]) - prior.log_prob(sample["scale"]))
    assert float(terms.globals["scale"]) == pytest.approx(divergence / N)
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    pyros = Trace_ELBO().loss(model, guide, x)  # has all of it in the batch
    assert float(loss) == pytest.approx(pyros - divergence * (1 - 4 / N), rel=1e-9)


def test_prior_of_a_weight_by_an_observation_outside_the_plate():
    """A maximum a posteriori weight: its log-prior counts once, not once for each datum."""
    weights = torch.nn.Parameter(numbers(V, V, seed=1))

    def model(x):
        pyro.sample("W", dist.Normal(0.0, 1.0).expand([V, V]).to_event(2), obs=weights)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            observe(x, z, weights)

    guide, x = seeded(local), numbers(N, V)
    z = draw(guide, x)["z"]
    with torch.no_grad():
        right = (dist.Normal(z @ weights, 0.8).log_prob(x).sum() + dist.Normal(0.0, 1.0).log_prob(weights).sum()) / N
    terms = HierarchicalELBO(N).terms(model, guide, x)
    assert float(terms.reconstruction) == pytest.approx(float(right))
    assert not terms.globals
    ours = torch.autograd.grad(HierarchicalELBO(N).differentiable_loss(model, guide, x), weights)
    pyros = torch.autograd.grad(Trace_ELBO().differentiable_loss(model, guide, x), weights)
    torch.testing.assert_close(ours, pyros)


def test_factor_outside_the_plate():
    weights = torch.nn.Parameter(numbers(V, V, seed=1))

    def model(x):
        pyro.factor("penalty", -3.0 * weights.abs().sum())
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            observe(x, z, weights)

    guide, x = seeded(local), numbers(N, V)
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)
    z = draw(guide, x)["z"]
    with torch.no_grad():
        right = (dist.Normal(z @ weights, 0.8).log_prob(x).sum() - 3.0 * weights.abs().sum()) / N
    terms = HierarchicalELBO(N).aggregate_terms(model, guide, [(part,) for part in x.split(N // 2)])
    halves = torch.cat([draw(guide, part)["z"] for part in x.split(N // 2)])
    with torch.no_grad():
        aggregated = (dist.Normal(halves @ weights, 0.8).log_prob(x).sum() - 3.0 * weights.abs().sum()) / N
    assert float(HierarchicalELBO(N).terms(model, guide, x).reconstruction) == pytest.approx(float(right))
    assert float(terms.reconstruction) == pytest.approx(float(aggregated))


@pytest.mark.parametrize("observed", ["site", "factor"])
def test_observation_outside_the_plate_of_a_latent_inside_is_refused(observed):
    """A function of all latents together is no likelihood of one datum: there is no share of it for each."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            observe(x, z)
        if observed == "site":
            pyro.sample("total", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.0))
        else:
            pyro.factor("total", -z.square().sum())

    with pytest.raises(ValueError, match="'total'"):
        HierarchicalELBO(N).terms(model, seeded(local), numbers(N, V))


@pytest.mark.parametrize("with_global", [False, True], ids=["local", "and global"])
def test_plate_that_subsamples(with_global):
    """The loss is that of Pyro on the same rows: local terms times N/B, global ones once."""
    x, size = numbers(N, V), 4

    def model(x):
        scale = pyro.sample("scale", SCALE_PRIOR) if with_global else 1.0
        with pyro.plate("data", N, subsample_size=size) as rows:
            z = pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1))
            observe(x[rows], z)

    @seeded
    def guide(x):
        if with_global:
            pyro.sample("scale", SCALE)
        with pyro.plate("data", N, subsample_size=size) as rows:
            pyro.sample("z", dist.Normal(*(part[rows] for part in encode(x))).to_event(1))

    loss = HierarchicalELBO(N).differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)
    terms = HierarchicalELBO(N).terms(model, guide, x)
    assert float(loss) == pytest.approx(-float(terms.elbo) * N, rel=1e-9)
    if with_global:
        sample = draw(guide, x)["scale"]
        right = (SCALE.log_prob(sample) - SCALE_PRIOR.log_prob(sample)) / N
        assert float(terms.globals["scale"]) == pytest.approx(float(right))


def test_weights_do_not_touch_globals():
    """Whatever the terms of the blocks weigh, KL(q||p) of a global latent is charged once."""
    model, guide, _ = learned_scale()
    x = numbers(N, V)
    elbo = HierarchicalELBO(N, mutual_information=0.0, between=0.0, within=0.0, dimension=0.0)
    terms = elbo.terms(model, guide, x)
    right = terms.reconstruction - terms.globals["scale"]
    assert float(elbo.objective(terms)) == pytest.approx(float(right))
