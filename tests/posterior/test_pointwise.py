"""What ArviZ makes of the log-likelihoods: log p(x) of each datum, the right order of models, and LOO-PIT."""

import math
import warnings

import arviz
import linear_gaussian as lg
import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest
from torch.distributions import MultivariateNormal

from pyro_hfvae.posterior import to_arviz
from pyro_hfvae.posterior.inference_data import psis
from pyro_hfvae.posterior.pointwise import marginal, without_number

OLD = arviz.__version__.startswith("0.")


def loo(data, **options):
    """Sum and pointwise values of ArviZ's estimate, its k̂, and whether it warned."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = arviz.loo(data, pointwise=True, **options)
    warned = any("Pareto" in str(warning.message) for warning in said)
    total, each = (found.elpd_loo, found.loo_i) if OLD else (found.elpd, found.elpd_i)
    return float(total), np.asarray(each), np.asarray(found.pareto_k), warned


def loo_pit(data, site):
    """ArviZ's own LOO-PIT of a site."""
    if OLD:
        return np.asarray(arviz.loo_pit(data, y=site))
    return np.asarray(arviz.loo_pit(data, var_names=site)[site])


def factor_analysis(size, variables, noise, seed=0):
    """Data, and a maker of the programs with the exact posterior for loadings times a factor."""
    torch.manual_seed(seed)
    loadings = torch.randn(variables, size, dtype=torch.float64)
    x = torch.randn(60, variables, dtype=torch.float64) @ loadings + noise * torch.randn(60, size, dtype=torch.float64)

    def programs(factor):
        w = factor * loadings
        covariance = torch.linalg.inv(torch.eye(variables) + w @ w.T / noise**2)

        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(variables), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ w, noise).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.MultivariateNormal(x @ w.T @ covariance / noise**2, covariance))

        evidence = MultivariateNormal(x.new_zeros(size), w.T @ w + noise**2 * torch.eye(size)).log_prob(x)
        return model, guide, evidence

    return x, programs


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize(("size", "variables", "noise"), [(10, 5, 0.3), (1, 1, 0.2), (4, 3, 1.0)])
def test_loo_is_the_evidence_of_each_datum(size, variables, noise, chains):
    x, programs = factor_analysis(size, variables, noise)
    model, guide, evidence = programs(1.0)
    total, each, _, warned = loo(to_arviz(model, guide, x, draws=30, chains=chains))
    assert each == pytest.approx(evidence.numpy(), abs=1e-4)
    assert total == pytest.approx(evidence.sum().item(), abs=1e-3)
    assert not warned


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [3.0, 0.3])
def test_compare_ranks_the_right_model_first(seed, factor):
    x, programs = factor_analysis(10, 5, 0.3, seed)
    made, exact = {}, {}
    for name, scale in (("wrong", factor), ("right", 1.0)):
        model, guide, evidence = programs(scale)
        made[name], exact[name] = to_arviz(model, guide, x, draws=30), evidence.sum().item()
    table = arviz.compare(made, **({} if OLD else {"round_to": "none"}))
    assert table.index[0] == "right"
    difference = abs(float(table.loc["wrong", "elpd_diff"]))
    assert difference == pytest.approx(exact["right"] - exact["wrong"], rel=0.01)


def test_imperfect_guide_comes_close_and_a_bad_one_is_warned_of():
    torch.manual_seed(0)
    x = lg.data(30)
    total, each, k, warned = loo(to_arviz(lg.model, lg.Guide(scale=1.3), x, draws=400))
    # log w has a standard deviation of about 1: log of the mean of 400 has an error of .06, and .4 for the sum.
    assert each == pytest.approx(lg.evidence(x).numpy(), abs=0.25)
    assert total == pytest.approx(lg.evidence(x).sum().item(), abs=1.2)
    assert (k < 0.7).all()
    assert not warned
    *_, k, warned = loo(to_arviz(lg.model, lg.Guide(scale=0.3), x, draws=200))
    assert np.median(k) > 0.7
    assert warned


@pytest.mark.parametrize("spread", [0.0, 1e-9, 0.5, 30.0])
def test_marginal_by_hand(spread):
    weights = -1000 + spread * torch.randn(200, 5, dtype=torch.float64)
    values = marginal(weights)
    evidence = weights.logsumexp(0) - math.log(200)
    assert (-(-values).logsumexp(0) + math.log(200)).numpy() == pytest.approx(evidence.numpy(), abs=1e-4)
    assert values.isfinite().all()
    assert len(values[:, 0].unique()) == 200  # ArviZ 1.x refuses draws that are all alike


def test_draws_of_weight_zero_count_as_none():
    weights = torch.zeros(4, 1, dtype=torch.float64)
    weights[0] = -math.inf
    assert (-(-marginal(weights)).logsumexp(0) + math.log(4)).item() == pytest.approx(math.log(3 / 4), abs=1e-4)
    found = without_number(weights, {"x": torch.where(weights == -math.inf, -math.inf, -1.0)[..., None]}, False)
    assert found["x"].isfinite().all()
    with pytest.raises(ValueError, match="importance weights of 1 of the 2 data are not finite"):
        marginal(torch.tensor([[0.0, math.nan], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="importance weights of 2 of the 2 data are not finite"):
        marginal(torch.full((3, 2), -math.inf))


@pytest.mark.parametrize("guide", [lg.Guide(), lg.Guide(scale=1.2)])
def test_numbers_left_out_against_the_conditional_normal(guide):
    torch.manual_seed(0)
    x = lg.data(6)
    data = to_arviz(lg.model, guide, x, draws=800)
    _, each, _, _ = loo(data, var_name="x")
    pit = loo_pit(data, "x")
    covariance = lg.LOADINGS @ lg.LOADINGS.mT + lg.NOISE**2 * torch.eye(4)
    for j in range(4):
        rest = [i for i in range(4) if i != j]
        solved = torch.linalg.solve(covariance[rest][:, rest], covariance[rest, j])
        conditional = dist.Normal(x[:, rest] @ solved, (covariance[j, j] - solved @ covariance[rest, j]).sqrt())
        # 800 draws, of which weights leave a hundred or more, save for numbers far off: a standard error of .04 for a
        # share, .1 for a logarithm.
        near = ((x[:, j] - conditional.mean).abs() < 1.5 * conditional.stddev).numpy()
        assert each[near, j] == pytest.approx(conditional.log_prob(x[:, j]).numpy()[near], abs=0.3)
        assert pit[:, j] == pytest.approx(conditional.cdf(x[:, j]).numpy(), abs=0.15)


def test_datum_of_one_number():
    """Left out, a datum of one number leaves the prior: LOO-PIT is P(x̃ ≤ x) of the prior predictive."""
    torch.manual_seed(0)
    loading = 1.5
    x = loading * torch.randn(60) + 3 * torch.randn(60)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(loading * z, 3.0), obs=x)

    def guide(x):
        variance = 1 / (1 + loading**2 / 9)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(variance * loading * x / 9, variance**0.5))

    data = to_arviz(model, guide, x, draws=800)
    predictive = dist.Normal(0.0, (loading**2 + 9) ** 0.5)
    assert loo_pit(data, "x") == pytest.approx(predictive.cdf(x).numpy(), abs=0.1)
    for options in ({}, {"var_name": "x"}):
        assert loo(data, **options)[1] == pytest.approx(predictive.log_prob(x).numpy(), abs=0.06)


@pytest.mark.parametrize("noise", [1.0, 2.5])
def test_plot_loo_pit_of_two_sites(noise):
    """Two observed sites, one of vectors and one of scalars, with the right and with a wrong noise of the data."""
    torch.manual_seed(0)
    z = torch.randn(100)
    x, t = z[:, None] + noise * torch.randn(100, 3), z + noise * torch.randn(100)

    def model(x, t):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([len(z), 3]).to_event(1), obs=x)
            pyro.sample("t", dist.Normal(z, 1.0), obs=t)

    def guide(x, t):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x.sum(1) + t) / 5, 0.2**0.5))

    data = to_arviz(model, guide, x, t, draws=200)
    both = torch.cat([x, t[:, None]], 1).double()
    evidence = MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double() + 1).log_prob(both)
    assert loo(data)[1] == pytest.approx(evidence.numpy(), abs=1e-3)
    for site in ("x", "t"):
        values = loo_pit(data, site)
        first = values[:, 0] if site == "x" else values
        assert (kstest(first, "uniform").pvalue > 0.01) == (noise == 1.0)
        if OLD:
            arviz.plot_loo_pit(data, y=site, ecdf=True)
        else:
            arviz.plot_loo_pit(data, var_names=site)
    matplotlib.pyplot.close("all")


def test_counts():
    """Counts are whole numbers for ArviZ, which then breaks ties; their evidence is a sum over a grid."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(torch.tensor(2.0), 1.0))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(2.0 + x, 2.0))

    torch.manual_seed(0)
    x = torch.poisson(dist.Gamma(2.0, 1.0).sample((50,)))
    data = to_arviz(model, guide, x, draws=40)
    assert data["observed_data"]["x"].dtype == data["posterior_predictive"]["x"].dtype == np.int64
    exact = dist.NegativeBinomial(torch.tensor(2.0), torch.tensor(0.5)).log_prob(x)
    assert loo(data)[1] == pytest.approx(exact.numpy(), abs=1e-3)


def test_discrete_latents():
    """Weights of few values: ArviZ's tail ties, and the evidence is that of the mixture."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(x.new_full((), 0.5)))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(x.new_full((), 0.5)))

    torch.manual_seed(0)
    x = torch.linspace(-2, 3, 20).double()
    exact = torch.stack([dist.Normal(y, 1.0).log_prob(x) for y in (0.0, 1.0)]).logsumexp(0) - math.log(2)
    assert loo(to_arviz(model, guide, x, draws=800))[1] == pytest.approx(exact.numpy(), abs=0.15)


def test_psis_leaves_equal_weights_equal():
    weights, k = psis(np.full((100, 3), -5.0))
    assert np.exp(weights) == pytest.approx(np.full((100, 3), 0.01))
    assert np.isnan(k).all()
