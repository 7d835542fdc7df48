import numpy as np
import pytest
from metric_tables import gaussian_codes, mixed, with_dead

from pyro_hfvae.metrics import Factors, irs


def slow_irs(codes, factors):
    """By loops over factors, values and variables."""

    def reach(rows):
        found = []
        for variable in range(len(codes.variables)):
            part = codes.columns[rows][:, list(codes.columns_of(variable))]
            found.append(np.quantile([np.linalg.norm(row - part.mean(axis=0)) for row in part], 0.99))
        return np.array(found)

    whole, scores = reach(np.arange(len(codes.columns))), []
    for factor in range(len(factors.names)):
        classes = factors.classes(factor)
        moved = sum((classes == v).mean() * reach(np.flatnonzero(classes == v)) for v in set(classes.tolist()))
        scores.append(1 - moved / whole)
    return np.clip(np.array(scores).T, 0, 1), whole


def test_agrees_with_loops():
    codes, factors = mixed(200, noise=0.5)
    result = irs(codes, factors)
    robustness, reach = slow_irs(codes, factors)
    np.testing.assert_allclose(result.robustness, robustness, atol=1e-12)
    np.testing.assert_allclose(result.reach, reach, atol=1e-12)
    assert result.irs == pytest.approx((reach * robustness.max(axis=1)).sum() / reach.sum())


def test_perfect_codes_do_not_move():
    values = np.indices((4, 5)).reshape(2, -1).T
    result = irs(gaussian_codes(values.astype(float)), Factors(values, ("x", "y"), ("ordinal", "categorical")))
    np.testing.assert_allclose(result.robustness, np.eye(2), atol=1e-12)
    assert result.irs == 1.0


@pytest.mark.parametrize("offset", [0.1, 1e3, -7.7e5])
def test_what_stays_does_not_move_by_rounding(offset):
    values = np.random.default_rng(0).integers(0, 7, (500, 2))
    factors = Factors(values, ("x", "y"), ("ordinal", "categorical"))
    codes = with_dead(gaussian_codes(values @ np.diag([0.3, 0.7]) + offset))
    result = irs(codes, factors)
    np.testing.assert_array_equal(np.diag(result.robustness), 1.0)
    np.testing.assert_array_equal(result.reach[2:], 0.0)
    assert result.irs == 1.0


def test_a_sum_of_two_factors_moves_by_hand():
    """z = x + y of 0 and 1: as x stays, z moves .5 of its greatest 1."""
    values = np.indices((2, 2)).reshape(2, -1).T.repeat(100, axis=0)
    factors = Factors(values, ("x", "y"), ("ordinal", "ordinal"))
    result = irs(gaussian_codes(values.sum(axis=1, keepdims=True).astype(float)), factors)
    np.testing.assert_allclose(result.robustness, [[0.5, 0.5]], atol=1e-12)


def test_weights_are_the_reach():
    """A variable that hardly moves hardly counts."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (2000, 2))
    factors = Factors(values, ("x", "y"), ("ordinal", "ordinal"))
    noise = 1e-6 * rng.normal(size=(2000, 1))
    assert irs(gaussian_codes(np.hstack([values, noise])), factors).irs > 0.999
