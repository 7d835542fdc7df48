"""Predictive checks against the closed forms of a linear Gaussian model."""

import linear_gaussian as lg
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.distributions import ColumnLikelihoods
from pyro_hfvae.posterior import (
    IMAGE_STATISTICS,
    PredictiveCheck,
    draw_guide,
    predict,
    predictive_checks,
    simulate,
)


def moments(draws):
    draws = draws.reshape(-1, draws.shape[-1])
    return draws.mean(0), draws.T.cov()


def test_prior_draws_have_the_moments_of_the_evidence():
    torch.manual_seed(0)
    observed = simulate(lg.model, lg.data(20_000)).observed["x"]
    mean, covariance = moments(observed)
    expected = lg.LOADINGS @ lg.LOADINGS.mT + lg.NOISE**2 * torch.eye(4)
    # Standard errors: sqrt(variance / n) < .01, and about .02 for the second moments; 4 of them.
    torch.testing.assert_close(mean, torch.zeros(4).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(covariance, expected, atol=0.08, rtol=0)


def test_posterior_draws_have_the_moments_of_the_posterior():
    torch.manual_seed(0)
    x = lg.data(1).expand(20_000, 4)
    draw = draw_guide(lg.model, lg.Guide(), x)
    mean, covariance = moments(predict(lg.model, draw.guide_trace, x)["x"])
    loc, scale = lg.posterior(x[:1])
    torch.testing.assert_close(mean, (loc @ lg.LOADINGS.mT)[0], atol=0.04, rtol=0)
    expected = lg.LOADINGS * scale**2 @ lg.LOADINGS.mT + lg.NOISE**2 * torch.eye(4)
    torch.testing.assert_close(covariance, expected, atol=0.03, rtol=0)


def test_right_model_passes_and_wrong_ones_do_not():
    torch.manual_seed(0)
    right = predictive_checks(lg.model, lg.Guide(), lg.data(200), draws=60)
    assert [check.statistic for check in right] == ["mean", "standard deviation", "smallest", "largest"]
    assert min(min(check.prior_p_value, check.posterior_p_value) for check in right) > 0.01 / 8
    spread = {check.statistic: check for check in predictive_checks(lg.model, lg.Guide(), 3 * lg.data(200), draws=60)}
    assert spread["standard deviation"].prior_p_value < 1e-6
    assert spread["standard deviation"].distance > 0.4
    shifted = predictive_checks(lg.model, lg.Guide(shift=2.0), lg.data(200), draws=60)
    assert shifted[0].posterior_p_value < 1e-6
    assert shifted[0].tail_share > 0.3
    assert shifted[0].prior_p_value > 0.001  # the guide does not enter


def test_data_are_compared_with_all_draws_of_the_model():
    random = np.random.default_rng(0)
    observed, prior = random.normal(0.5, size=64), random.normal(size=(100, 64))
    check = PredictiveCheck("value", observed, prior, prior)
    grid = np.sort(np.concatenate([observed, prior.ravel()]))[:, None]
    assert check.distance == pytest.approx(np.abs((observed <= grid).mean(1) - (prior.ravel() <= grid).mean(1)).max())
    assert check.prior_p_value < 0.01 < PredictiveCheck("value", observed, prior[:1], prior).prior_p_value


def test_statistics_of_images():
    images = torch.zeros(2, 1, 4, 5)
    images[0, 0, 1, 3] = 1.0
    images[1, 0, 2, 0] = images[1, 0, 2, 2] = 0.6
    found = {name: function(images).tolist() for name, function in IMAGE_STATISTICS.items()}
    assert found["mean brightness"] == pytest.approx([1 / 20, 1.2 / 20])
    assert found["bright pixels"] == [1, 2]
    assert found["centre of mass, row"] == pytest.approx([1, 2])
    assert found["centre of mass, column"] == pytest.approx([3, 1])
    assert IMAGE_STATISTICS["centre of mass, row"](torch.zeros(1, 1, 4, 5)).tolist() == [
        0
    ]  # black: a number all the same


def grey(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
        probs = (0 * z)[..., None, None].expand(x.shape) + 0.6
        pyro.sample("x", dist.Bernoulli(probs, validate_args=False).to_event(3), obs=x)


def standard(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))


def test_grey_counts_as_the_probability_of_white():
    torch.manual_seed(0)
    x = torch.full((200, 1, 6, 6), 0.6)
    checks = {check.statistic: check for check in predictive_checks(grey, standard, x, draws=39)}
    # Taken of the grey pixels, all 36 of them would be bright.
    assert checks["bright pixels"].observed.mean() == pytest.approx(36 * 0.6, abs=1)
    assert checks["bright pixels"].prior_p_value > 0.01


def test_two_observed_sites_and_chosen_statistics():
    def model(x, counts):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
            pyro.sample("counts", dist.Poisson(z[:, 0].exp()), obs=counts)

    found = predictive_checks(
        model, lambda x, counts: standard(x), torch.randn(5, 1), torch.ones(5), draws=39,
        statistics={"first": lambda x: x.reshape(len(x), -1)[:, 0]},
    )  # fmt: skip
    assert [check.statistic for check in found] == ["x: first", "counts: first"]
    assert found[1].prior.shape == (39, 5)


def test_refusals():
    x = torch.zeros(3, 1, 2, 2)
    with pytest.raises(ValueError, match="predictive checks need 39 draws or more, got 38"):
        predictive_checks(grey, standard, x, draws=38)
    with pytest.raises(ValueError, match=r"statistic 'all' of site 'x' must give one finite .* of the 3 data, .*\(\)"):
        predictive_checks(grey, standard, x, draws=39, statistics={"all": lambda data: data.sum()})
    with pytest.raises(ValueError, match=r"'none' .* got the shape \(3,\), not all finite"):
        predictive_checks(grey, standard, x, draws=39, statistics={"none": lambda data: data.flatten(1).mean(1) / 0})


def test_data_of_one_number_each():
    def model(x, noise):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, noise), obs=x)

    def guide(x, noise):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / (1 + noise**2), noise / (1 + noise**2) ** 0.5))

    torch.manual_seed(0)
    x = torch.randn(300) * 1.25**0.5
    (check,) = predictive_checks(model, guide, x, draws=60, noise=0.5)
    assert check.statistic == "value"
    assert check.observed == pytest.approx(x.numpy())
    assert min(check.prior_p_value, check.posterior_p_value) > 0.01
    assert predictive_checks(model, guide, 3 * x, draws=60, noise=0.5)[0].prior_p_value < 1e-6


def test_tails_are_symmetric_and_ties_are_no_tail():
    from pyro_hfvae.posterior import PredictiveCheck

    drawn = np.arange(1.0, 40.0)[:, None].repeat(5, 1)  # 39 draws: 1 to 39
    check = PredictiveCheck("s", np.array([0.0, 1.0, 20.0, 39.0, 40.0]), drawn, drawn)
    assert check.tail_share == 2 / 5


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "NaN"])
def test_what_is_missing_in_the_data_is_missing_in_the_draws(masked):
    """Of one to four numbers of a datum the largest: a complete draw of four would have larger ones."""
    torch.manual_seed(0)
    x = torch.randn(400, 4)
    known = torch.arange(4) < 1 + torch.arange(400)[:, None] % 4

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            if masked:
                pyro.sample("x", dist.Normal(torch.zeros(4), 1.0).mask(known).to_event(1), obs=x)
            else:
                parts = [([0, 1, 2, 3], dist.Normal(torch.zeros(len(x), 4), 1.0))]
                pyro.sample("x", ColumnLikelihoods(parts), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    data = torch.where(known, x, 0.0 if masked else torch.nan)
    found = {check.statistic: check for check in predictive_checks(model, guide, data, draws=40)}
    np.testing.assert_allclose(found["largest"].observed, x.masked_fill(~known, -torch.inf).amax(1), rtol=1e-6)
    single = found["standard deviation"].prior[:, ::4]
    np.testing.assert_array_equal(single, 0)  # of one number
    assert all(check.prior_p_value > 1e-4 for check in found.values())  # the data are draws of the model
