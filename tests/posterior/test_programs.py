"""Subsampling plates hold their rows, and relaxed sites of a mixture are categories."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal

from pyro_hfvae import Concrete
from pyro_hfvae.distributions import ConcreteDensity, StraightThroughConcrete, nearest_category
from pyro_hfvae.posterior import (
    aggregate_against_prior,
    compare_with_nuts,
    draw_guide,
    guide_quality,
    leave_one_out,
    predictive_checks,
    simulate,
    to_arviz,
)
from pyro_hfvae.posterior.programs import fix_model

MEANS = torch.tensor([-4.0, 0.0, 4.0])
NOISE = 0.2
SPREAD = math.sqrt(1 + NOISE**2)


def subsampled(guide_plate="data"):
    """A normal model of 40 data, of which each run takes 5, and its exact posterior."""

    def model(data):
        with pyro.plate("data", len(data), subsample_size=5) as rows:
            z = pyro.sample("z", dist.Normal(data.new_zeros(()), 3.0))
            pyro.sample("x", dist.Normal(z, 3.0), obs=data[rows])

    def guide(data):
        with pyro.plate(guide_plate, len(data), subsample_size=5) as rows:
            pyro.sample("z", dist.Normal(data[rows] / 2, 3 * 0.5**0.5))

    torch.manual_seed(0)
    return model, guide, torch.randn(40, dtype=torch.float64) * 3 * 2**0.5


def test_all_draws_are_of_one_subsample():
    model, guide, data = subsampled()
    quality = guide_quality(model, guide, data, draws=50)
    assert abs(quality.gap).max() < 1e-9
    evidence = Normal(0.0, 3 * 2**0.5).log_prob(data).numpy()
    assert all(abs(evidence - bound).min() < 1e-5 for bound in quality.bounds[-1])
    made = to_arviz(model, guide, data, draws=1000)
    z, rows = made["posterior"]["z"].values[0, :, :, 0], made["observed_data"]["x"].values
    # Standard errors of a mean and of a spread of 1,000 draws: .07 and .05; 4 of them.
    assert z.mean(0) == pytest.approx(rows / 2, abs=0.28)
    assert z.std(0) == pytest.approx(3 * 0.5**0.5, abs=0.2)
    checks = predictive_checks(model, guide, data, draws=39)
    assert set(checks[0].observed) <= set(data.numpy())


def test_each_call_draws_another_subsample():
    model, guide, data = subsampled()
    drawn = {tuple(draw_guide(model, guide, data).model_trace.nodes["x"]["value"].tolist()) for _ in range(5)}
    assert len(drawn) > 1


def test_plates_of_two_names_are_refused():
    model, guide, data = subsampled("rows")
    with pytest.raises(ValueError, match="the guide draws a subsample in plate 'rows', and the model another one"):
        guide_quality(model, guide, data, draws=25)


def relaxed(kind, shift=0.0):
    """A mixture of three normals whose categories are relaxed, and its exact posterior, but for a shift."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", kind(logits=torch.zeros(3)))
            z = pyro.sample("z", dist.Normal(y @ MEANS[:, None], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, NOISE).to_event(1), obs=x)

    def guide(x):
        logits = dist.Normal(MEANS, SPREAD).log_prob(x)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", kind(logits=logits))
            mean = (x / NOISE**2 + nearest_category(y) @ MEANS[:, None]) / (1 + NOISE**-2)
            pyro.sample("z", dist.Normal(mean + shift, (1 + NOISE**-2) ** -0.5).to_event(1))

    return model, guide


def mixture_data(size):
    torch.manual_seed(0)
    return MEANS[torch.randint(3, (size,)), None] + SPREAD * torch.randn(size, 1)


def log_evidence(x):
    return dist.Normal(MEANS, SPREAD).log_prob(x).logsumexp(-1) - math.log(3)


@pytest.mark.parametrize(
    "kind", [Concrete, lambda logits: dist.RelaxedOneHotCategorical(torch.tensor(0.5), logits=logits)]
)
def test_mixture_of_relaxed_categories_is_one_of_categories(kind):
    model, guide = relaxed(kind)
    x = mixture_data(1500)
    quality = guide_quality(model, guide, x[:50], draws=200)
    assert quality.bounds[-1] == pytest.approx(log_evidence(x[:50]).numpy(), abs=1e-4)
    assert quality.gap == pytest.approx(0, abs=1e-4)
    drawn = simulate(model, x)
    assert set(drawn.latents["y"].unique().tolist()) == {0, 1}
    # Midway between two components lies 5 % of the mixture; draws of z given relaxed categories put 10 % there.
    between = ((drawn.latents["z"].abs() - 2).abs() < 0.5).double().mean().item()
    normal = Normal(MEANS.double(), 1.0)
    exact = 2 * (normal.cdf(torch.tensor(2.5)) - normal.cdf(torch.tensor(1.5))).mean().item()
    assert between == pytest.approx(exact, abs=4 * (exact / 1500) ** 0.5)
    outcome = aggregate_against_prior(model, guide, [(part,) for part in x.split(500)])
    assert min(part.p_value for part in outcome.values()) > 0.01 / 3
    assert set(to_arviz(model, guide, x[:3], draws=3)["posterior"]["y"].values.ravel()) == {0, 1}
    (left_out,) = leave_one_out(model, guide, x[:50], draws=50)
    assert left_out.predicted.shape == (50, 50)


def test_wrong_guide_of_a_mixture_is_found():
    model, guide = relaxed(Concrete, shift=0.3)
    assert guide_quality(model, guide, mixture_data(20), draws=200).gap.mean() > 0.5


def test_relaxed_bernoulli():
    """The prior of z is shifted by a relaxed Bernoulli of two variables: z ~ N(3 b1 - 3 b2, 1)."""
    weights = torch.tensor([3.0, -3.0])

    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.RelaxedBernoulli(torch.tensor(0.5), logits=torch.zeros(2)).to_event(1))
            pyro.sample("z", dist.Normal(b @ weights, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    drawn = simulate(model, torch.zeros(200))
    assert set(drawn.latents["b"].unique().tolist()) == {0, 1}
    assert drawn.latents["b"].shape == (200, 2)


def test_dependence_by_assembly_in_place_is_seen():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(logits=torch.zeros(2, 3)).to_event(1))
            loc = torch.zeros(len(x))
            with torch.no_grad():
                for n in range(len(x)):
                    loc[n] = y[n, 1].argmax().item()  # plain numbers
            pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    assert fix_model(model, torch.zeros(4)).categorical == {"y"}
    assert simulate(model, torch.zeros(4)).latents["y"].sum((1, 2)).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("kind", "categorical"),
    [(Concrete, True), (ConcreteDensity, False), (StraightThroughConcrete, False)],
)
def test_what_no_prior_depends_on_stays_relaxed(kind, categorical):
    def model(x, mixture):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", kind(logits=torch.zeros(3)))
            z = pyro.sample("z", dist.Normal(y[:, 0] if mixture else 0.0, 1.0))
            pyro.sample("x", dist.Normal(z + y[:, 1], 1.0), obs=x)

    assert fix_model(model, torch.zeros(4), mixture=False).categorical == set()
    assert fix_model(model, torch.zeros(4), mixture=True).categorical == ({"y"} if categorical else set())


def test_nuts_refuses_a_mixture():
    model, guide = relaxed(Concrete)
    with pytest.raises(NotImplementedError, match="NUTS needs continuous latents, and site 'y' is OneHotCategorical"):
        compare_with_nuts(model, guide, mixture_data(1))


@pytest.mark.parametrize(
    "point",
    [
        lambda loc: dist.Delta(loc).to_event(1),
        lambda loc: dist.Delta(loc, event_dim=1),
        lambda loc: dist.Delta(loc, event_dim=1).mask(torch.tensor(True)),
        lambda loc: dist.TransformedDistribution(dist.Delta(loc, event_dim=1), []),
    ],
)
def test_point_estimates_are_refused(point):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + w, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("w", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("z", point(torch.zeros(len(x), 1)))

    for check in (lambda: guide_quality(model, guide, torch.zeros(3, 1), draws=25),
                  lambda: to_arviz(model, guide, torch.zeros(3, 1))):  # fmt: skip
        with pytest.raises(NotImplementedError, match="site 'z' is Delta in the guide, a point estimate"):
            check()
