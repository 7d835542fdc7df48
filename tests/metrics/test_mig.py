import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_hfvae.metrics import Codes, Factors, mig
from pyro_hfvae.metrics.information import discretise, entropy, mutual_information

labels = arrays(np.int64, 30, elements=st.integers(0, 4))


def gaussian_codes(columns):
    """Every column one variable, all in one block."""
    width = columns.shape[1]
    return Codes(columns, tuple(f"z[{i}]" for i in range(width)), tuple((i,) for i in range(width)), {"z": (0,)})


def slow_entropy(a):
    return -sum(a.count(value) / len(a) * math.log(a.count(value) / len(a)) for value in set(a))


def slow_mutual_information(a, b):
    """By a double loop over the contingency table."""
    pairs, total = list(zip(a, b, strict=True)), 0.0
    for i in set(a):
        for j in set(b):
            joint = pairs.count((i, j)) / len(pairs)
            if joint:
                total += joint * math.log(joint / (a.count(i) / len(a) * (b.count(j) / len(b))))
    return total


@given(labels, labels)
@settings(max_examples=100, deadline=None)
def test_mutual_information_agrees_with_double_loop(a, b):
    information = mutual_information(a, b)
    assert information == pytest.approx(slow_mutual_information(a.tolist(), b.tolist()), abs=1e-12)
    assert information == pytest.approx(mutual_information(b, a), abs=1e-12)
    assert 0.0 <= information <= min(entropy(a), entropy(b)) + 1e-12
    assert entropy(a) == pytest.approx(slow_entropy(a.tolist()), abs=1e-12)
    assert mutual_information(a, a) == pytest.approx(entropy(a), abs=1e-12)


@given(labels, labels)
@settings(max_examples=50, deadline=None)
def test_relabelling_changes_nothing(a, b):
    names = np.array([70, -3, 12, 0, 5])
    assert mutual_information(names[a], b) == pytest.approx(mutual_information(a, b), abs=1e-12)


def test_closed_forms():
    square = np.indices((4, 3)).reshape(2, -1)
    assert mutual_information(square[0], square[1]) == pytest.approx(0.0, abs=1e-12)
    assert entropy(square[0]) == pytest.approx(math.log(4))
    assert mutual_information(square[0] // 2, square[0]) == pytest.approx(math.log(2))


@given(arrays(np.float64, (40, 3), elements=st.floats(-5, 5)), st.permutations(range(3)))
@settings(max_examples=50, deadline=None)
def test_range_and_permutation(columns, order):
    factors = Factors(np.indices((5, 8)).reshape(2, -1).T, ("x", "y"), ("ordinal", "circular"))
    result = mig(gaussian_codes(columns), factors)
    permuted = mig(gaussian_codes(columns[:, order]), factors)
    assert 0.0 <= result.mig <= 1.0
    assert ((result.factor_gap >= 0) & (result.factor_gap <= 1)).all()
    np.testing.assert_allclose(permuted.factor_gap, result.factor_gap, atol=1e-9)
    np.testing.assert_allclose(permuted.mutual_information, result.mutual_information[list(order)], atol=1e-9)


def test_bins_are_those_of_locatello():
    column = np.random.default_rng(0).normal(size=(500, 1))
    expected = np.digitize(column[:, 0], np.histogram(column[:, 0], 20)[1][:-1]) - 1
    np.testing.assert_array_equal(discretise(gaussian_codes(column))[:, 0], expected)
    assert set(expected) <= set(range(20))
    assert expected.max() == 19


def test_discrete_variable_by_its_category():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    codes = Codes(np.hstack([np.ones((3, 1)), probabilities]), ("z", "y"), ((0,), slice(1, 4)), {"y": (1,)})
    np.testing.assert_array_equal(discretise(codes), [[0, 0], [0, 2], [0, 1]])


def test_gap_by_hand():
    """Codes that are the factors, one of them told twice: its gap is 0, the other's is 1."""
    values = np.indices((4, 5)).reshape(2, -1).T
    factors = Factors(values, ("x", "y"), ("categorical", "ordinal"))
    result = mig(gaussian_codes(values[:, [0, 1, 1]].astype(float)), factors)
    np.testing.assert_allclose(result.factor_gap, [1.0, 0.0], atol=1e-12)
    assert result.mig == pytest.approx(0.5)
    expected = [[math.log(4), 0], [0, math.log(5)], [0, math.log(5)]]
    np.testing.assert_allclose(result.mutual_information, expected, atol=1e-12)


def test_gap_is_normalised_by_the_entropy_of_the_factor():
    values = np.arange(16)[:, None] % 4
    factors = Factors(values, ("x",), ("ordinal",))
    half = mig(gaussian_codes((values // 2).astype(float)), factors)
    assert half.mig == pytest.approx(math.log(2) / math.log(4))  # one variable: the gap is to 0


def test_perfect_rotated_permuted():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 10, (4000, 2))
    factors = Factors(values, ("x", "y"), ("ordinal", "ordinal"))
    straight = values - 4.5
    rotated = straight @ np.array([[1.0, 1.0], [-1.0, 1.0]])
    assert mig(gaussian_codes(straight), factors).mig > 0.95
    assert mig(gaussian_codes(rotated), factors).mig < 0.1
    shuffled = mig(gaussian_codes(straight[rng.permutation(4000)]), factors)
    assert shuffled.mig < 0.05
    assert shuffled.mutual_information.max() < 0.05


def test_dead_codes():
    values = np.indices((4, 5)).reshape(2, -1).T
    factors = Factors(values, ("x", "y"), ("categorical", "ordinal"))
    alive = values.astype(float)
    expected = mig(gaussian_codes(alive), factors)
    result = mig(gaussian_codes(np.hstack([alive, np.full((20, 2), 7.0)])), factors)
    np.testing.assert_allclose(result.factor_gap, expected.factor_gap)
    np.testing.assert_allclose(result.mutual_information[2:], 0.0, atol=1e-15)
    dead = mig(gaussian_codes(np.zeros((20, 2))), factors)
    assert dead.mig == pytest.approx(0.0, abs=1e-15)


def test_circular_factor_is_folded():
    values = np.arange(80)[:, None] % 40
    factors = Factors(values, ("orientation",), ("circular",), {"orientation": 20})
    result = mig(gaussian_codes((values % 20).astype(float)), factors)
    assert result.mig == pytest.approx(1.0)
    np.testing.assert_allclose(result.mutual_information, [[math.log(20)]])


def test_rows_must_match():
    with pytest.raises(ValueError, match="codes have 3 rows, factors have 4"):
        mig(gaussian_codes(np.zeros((3, 1))), Factors(np.arange(4)[:, None], ("x",), ("ordinal",)))
