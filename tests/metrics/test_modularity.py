import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_tables import gaussian_codes, mixed
from sklearn.linear_model import LogisticRegression

from pyro_hfvae.metrics import Factors, explicitness, modularity
from pyro_hfvae.metrics.information import information_matrix
from pyro_hfvae.metrics.modularity import modularity_from_information
from pyro_hfvae.metrics.regressors import split


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(0.01, 3.0)))
@settings(max_examples=60, deadline=None)
def test_agrees_with_templates(information):
    """The distance to the nearest template, as the paper writes it: θ at the greatest, 0 elsewhere."""
    expected = []
    for row in information.tolist():
        template = [0.0] * len(row)
        template[row.index(max(row))] = max(row)
        off = sum((a - b) ** 2 for a, b in zip(row, template, strict=True))
        expected.append(1.0 if len(row) == 1 else 1.0 - off / (max(row) ** 2 * (len(row) - 1)))
    result = modularity_from_information(information)
    np.testing.assert_allclose(result.code_modularity, expected, atol=1e-12)
    assert result.modularity == pytest.approx(np.mean(expected))


def test_oracles():
    assert modularity_from_information(np.eye(4)).modularity == 1.0
    assert modularity_from_information(np.ones((6, 3))).modularity == 0.0
    result = modularity_from_information(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(result.code_modularity, [1 - 0.25 / 2, 0.0])
    assert result.modularity == pytest.approx(0.875)  # the dead row is left out
    np.testing.assert_array_equal(result.live, [True, False])


def test_of_codes_is_of_their_information():
    codes, factors = mixed(200)
    expected = modularity_from_information(information_matrix(codes, factors))
    np.testing.assert_array_equal(modularity(codes, factors).code_modularity, expected.code_modularity)


def area_under_roc(truth, strength):
    """The share of pairs in the right order; a tie is half."""
    above = strength[truth][:, None] - strength[~truth][None]
    return ((above > 0) + 0.5 * (above == 0)).mean()


def test_explicitness_by_pairs():
    codes, factors = mixed(240, noise=1.0)
    train, test = split(240)
    centre, deviation = codes.columns[train].mean(axis=0), codes.columns[train].std(axis=0)
    inputs = (codes.columns - centre) / deviation
    areas = []
    for factor in range(4):
        classes, own = factors.classes(factor), []
        for value in range(classes.max() + 1):
            truth = classes == value
            if truth[test].any():
                strength = LogisticRegression().fit(inputs[train], truth[train]).decision_function(inputs[test])
                own.append(area_under_roc(truth[test], strength))
        areas.append(own)
    result = explicitness(codes, factors)
    np.testing.assert_allclose(result.factor_explicitness, [np.mean(own) for own in areas], atol=1e-9)
    assert result.explicitness == pytest.approx(np.mean(np.concatenate(areas)))


def test_middle_values_are_not_set_apart_by_a_line():
    values = np.random.default_rng(0).integers(0, 3, (400, 1))
    along = explicitness(gaussian_codes(values.astype(float)), Factors(values, ("x",), ("ordinal",)))
    assert along.explicitness < 0.95
    each = explicitness(gaussian_codes(np.eye(3)[values[:, 0]]), Factors(values, ("x",), ("ordinal",)))
    assert each.explicitness == 1.0


def test_chance_is_one_half():
    rng = np.random.default_rng(1)
    factors = Factors(rng.integers(0, 4, (2000, 2)), ("x", "y"), ("categorical", "ordinal"))
    # An area over 500 rows has a standard error of .026 at most; the mean of 8 was seen to stay within .03.
    assert explicitness(gaussian_codes(rng.normal(size=(2000, 3))), factors).explicitness == pytest.approx(
        0.5, abs=0.05
    )
