import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_tables import gaussian_codes, mixed

from pyro_hfvae.metrics import Factors, infomec
from pyro_hfvae.metrics.infomec import concentration
from pyro_hfvae.metrics.information import mutual_information
from pyro_hfvae.metrics.regressors import split


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(0, 2)))
@settings(max_examples=60, deadline=None)
def test_concentration_by_a_loop(rows):
    expected = []
    for row in rows.tolist():
        k = len(row)
        if sum(row) == 0:
            expected.append(0.0)
        elif k == 1:
            expected.append(1.0)
        else:
            expected.append((max(row) / sum(row) - 1 / k) / (1 - 1 / k))
    np.testing.assert_allclose(concentration(rows), expected, atol=1e-9)


def test_oracles():
    """Factors that are the codes: about 1, 1, 1; turned by 45 degrees: no factor has a variable of its own."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 10, (10_000, 5))
    factors = Factors(values, tuple("abcde"), ("ordinal",) * 5)
    straight = values - 4.5
    perfect = infomec(gaussian_codes(straight), factors)
    # The neighbours' estimate of 0 has a spread of about .005 nats, of which InfoM and InfoC see the positive part.
    assert perfect.modularity == pytest.approx(0.996, abs=0.004)
    assert perfect.compactness == pytest.approx(0.996, abs=0.004)
    assert perfect.explicitness == pytest.approx(1.0, abs=1e-9)
    turn = np.eye(5)
    turn[:2, :2] = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    turned = infomec(gaussian_codes(straight @ turn), factors)
    np.testing.assert_allclose(turned.code_modularity[2:], 1.0, atol=0.02)
    # Two equal parts of five: (1/2 - 1/5) / (1 - 1/5).
    np.testing.assert_allclose(turned.code_modularity[:2], 0.375, atol=0.02)
    np.testing.assert_allclose(turned.factor_compactness[:2], 0.375, atol=0.02)
    assert turned.explicitness == pytest.approx(1.0, abs=1e-9)  # a line reads it all the same


def test_by_the_formulas_for_discrete_codes():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, (600, 2))
    factors = Factors(values, ("x", "y"), ("categorical", "ordinal"))
    from pyro_hfvae.metrics import Codes

    told = np.where(rng.random(600) < 0.3, rng.integers(0, 4, 600), values[:, 0])
    codes = Codes(
        np.hstack([np.eye(4)[told], np.eye(4)[values[:, 1]]]), ("a", "b"), (slice(0, 4), slice(4, 8)), {"a": (0,)}
    )
    result = infomec(codes, factors)
    by_hand = np.array(
        [
            [mutual_information(z, v) / mutual_information(v, v) for v in (values[:, 0], values[:, 1])]
            for z in (told, values[:, 1])
        ]
    )
    np.testing.assert_allclose(result.normalised_information, by_hand)
    shares = by_hand.max(axis=1) / by_hand.sum(axis=1)
    assert result.modularity == pytest.approx(np.mean((shares - 0.5) / 0.5))
    shares = by_hand.max(axis=0) / by_hand.sum(axis=0)
    assert result.compactness == pytest.approx(np.mean((shares - 0.5) / 0.5))


def test_explicitness_of_a_category_is_the_share_of_its_entropy():
    """A code with 30 % of its labels wrong: the best predictor says .775 for the label and .075 for each other."""
    rng = np.random.default_rng(2)
    values = rng.integers(0, 4, 20_000)
    told = np.where(rng.random(20_000) < 0.3, rng.integers(0, 4, 20_000), values)
    factors = Factors(values[:, None], ("x",), ("categorical",))
    result = infomec(gaussian_codes(np.eye(4)[told]), factors)
    loss = -(0.775 * np.log(0.775) + 3 * 0.075 * np.log(0.075))
    # 5,000 rows to score: the standard error of the mean log-loss is about .015 nats.
    assert result.factor_explicitness[0] == pytest.approx(1 - loss / np.log(4), abs=0.04)


def test_explicitness_is_scored_on_the_test_split():
    rng = np.random.default_rng(3)
    codes = gaussian_codes(rng.normal(size=(80, 30)))
    factors = Factors(np.stack([np.arange(80) % 2, rng.integers(0, 9, 80)], 1), ("x", "y"), ("categorical", "ordinal"))
    assert infomec(codes, factors).explicitness < 0.1  # 60 rows of 30 columns: fitted well, and known for nothing
    assert len(split(80)[0]) == 60


def test_small_variables_are_inactive():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 6, (500, 2))
    factors = Factors(values, ("x", "y"), ("ordinal", "ordinal"))
    columns = np.hstack([values, 0.01 * rng.normal(size=(500, 1)), np.zeros((500, 1))])
    result = infomec(gaussian_codes(columns), factors)
    np.testing.assert_array_equal(result.active, [True, True, False, False])
    assert result.modularity > 0.95
    assert (result.normalised_information[2:] == 0).all()


def test_constant_category_is_inactive():
    codes, factors = mixed(200)
    columns = codes.columns.copy()
    columns[:, 4:7] = [0.8, 0.1, 0.1]
    columns[:, 4] += 0.05 * np.random.default_rng(0).random(200)
    from dataclasses import replace

    assert not infomec(replace(codes, columns=columns), factors).active[4]
