import numpy as np
import pytest
import torch
from metric_tables import gaussian_codes, mixed, with_dead
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_hfvae.metrics import Codes, active_units, gaussian_total_correlation


def correlated(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)


def divergence(covariance, parts):
    """KL(N(0, Σ) || Π_p N(0, Σ_p)) by torch."""
    together = [column for part in parts for column in part]
    joint = torch.from_numpy(covariance[np.ix_(together, together)])
    product = torch.block_diag(*(torch.from_numpy(covariance[np.ix_(part, part)]) for part in parts))
    zero = torch.zeros(len(joint), dtype=torch.float64)
    return kl_divergence(MultivariateNormal(zero, joint), MultivariateNormal(zero, product)).item()


def test_total_correlation_is_a_divergence():
    columns = correlated()
    result = gaussian_total_correlation(gaussian_codes(columns, {"a": (0, 3), "b": (1, 2, 4)}))
    covariance = np.cov(columns.T, ddof=0)
    assert result.between == pytest.approx(divergence(covariance, [[0, 3], [1, 2, 4]]), abs=1e-9)
    assert result.within["a"] == pytest.approx(divergence(covariance, [[0], [3]]), abs=1e-9)
    assert result.within["b"] == pytest.approx(divergence(covariance, [[1], [2], [4]]), abs=1e-9)


def test_two_variables_by_hand():
    columns = correlated()[:, :2]
    r = np.corrcoef(columns.T)[0, 1]
    result = gaussian_total_correlation(gaussian_codes(columns))
    assert result.within["z"] == pytest.approx(-0.5 * np.log(1 - r**2))
    assert gaussian_total_correlation(gaussian_codes(columns, {"a": (0,), "b": (1,)})).between == pytest.approx(
        result.within["z"]
    )


def test_scale_and_dead_variables_change_nothing():
    columns = correlated()
    expected = gaussian_total_correlation(gaussian_codes(columns, {"a": (0, 1), "b": (2, 3, 4)}))
    scaled = columns * np.array([1e-4, 1e4, 1.0, 3.0, 1e2])
    result = gaussian_total_correlation(with_dead(gaussian_codes(scaled, {"a": (0, 1), "b": (2, 3, 4)})))
    assert result.between == pytest.approx(expected.between)
    assert result.within["a"] == pytest.approx(expected.within["a"])
    assert result.within["dead"] == 0.0


def test_copies_are_infinitely_dependent():
    columns = correlated()[:, [0, 0, 1]]
    result = gaussian_total_correlation(gaussian_codes(columns, {"a": (0, 1), "b": (2,)}))
    assert result.within == {"a": float("inf"), "b": 0.0}
    r = np.corrcoef(columns[:, 0], columns[:, 2])[0, 1]
    assert result.between == pytest.approx(-0.5 * np.log(1 - r**2))  # a block that is singular itself
    assert gaussian_total_correlation(gaussian_codes(columns, {"a": (0, 2), "b": (1,)})).between == float("inf")


def test_discrete_variables_are_not_singular():
    codes, _ = mixed(300)
    result = gaussian_total_correlation(codes)
    assert np.isfinite(result.between)


@pytest.mark.parametrize("seed", range(5))
def test_what_stands_alone_depends_on_nothing(seed):
    """Exactly 0, whatever the scale, the number of columns, and what is constant beside it."""
    rng = np.random.default_rng(seed)
    columns = correlated(seed=seed) * 10.0 ** rng.integers(-6, 6, 5)
    result = gaussian_total_correlation(gaussian_codes(columns, {f"z{i}": (i,) for i in range(5)}))
    assert result.within == dict.fromkeys((f"z{i}" for i in range(5)), 0.0)
    assert gaussian_total_correlation(gaussian_codes(columns)).between == 0.0  # one block
    beside = np.hstack([columns, np.full((400, 2), 0.1)])
    result = gaussian_total_correlation(gaussian_codes(beside, {"a": (0, 5), "b": (6,)}))
    assert result.within == {"a": 0.0, "b": 0.0}
    assert result.between == 0.0  # of the two blocks one is constant
    category = Codes(rng.dirichlet(np.ones(4), size=400), ("y",), (slice(None),), {"y": (0,)})
    assert gaussian_total_correlation(category).within == {"y": 0.0}


def test_shared_variables_are_refused():
    with pytest.raises(ValueError, match=r"needs blocks that share no variable; shared: \['z\[1\]'\]"):
        gaussian_total_correlation(gaussian_codes(correlated(), {"a": (0, 1), "b": (1, 2)}))


def test_active_units():
    rng = np.random.default_rng(0)
    columns = np.hstack([rng.normal(size=(500, 1)), 0.05 * rng.normal(size=(500, 1)), np.ones((500, 1))])
    result = active_units(gaussian_codes(columns, {"a": (0, 1), "b": (2,)}))
    np.testing.assert_array_equal(result.active, [True, False, False])
    assert result.count == 1
    assert result.block_count == {"a": 1, "b": 0}
    np.testing.assert_allclose(result.variance, columns.var(axis=0), atol=1e-15)


def test_active_units_of_a_category():
    codes, _ = mixed(200)
    variance = active_units(codes).variance[4]
    assert variance == pytest.approx(codes.columns[:, 4:7].var(axis=0).sum())
