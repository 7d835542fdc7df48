import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tables import gaussian_codes, mixed
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif

from pyro_hfvae.metrics import Factors, mig, mig_sup
from pyro_hfvae.metrics.information import (
    entropy,
    factor_entropies,
    information_matrix,
    mutual_information,
    nearest_neighbour_information,
)


def slow_nearest_neighbour_information(column, labels):
    """Ross (2014), one datum at a time."""
    kept = [i for i in range(len(column)) if sum(labels == labels[i]) > 1]
    terms = []
    for i in kept:
        alike = [j for j in kept if labels[j] == labels[i]]
        distances = sorted(abs(column[j] - column[i]) for j in alike if j != i)
        k = min(10, len(distances))
        nearer = sum(abs(column[j] - column[i]) < distances[k - 1] for j in kept)
        terms.append(digamma(k) - digamma(len(alike)) - digamma(max(nearer, 1)))
    return max(digamma(len(kept)) + sum(terms) / len(terms), 0.0) if kept else 0.0


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_nearest_neighbours_agree_with_a_loop(n, values, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, values, n)
    column = labels * 0.5 + rng.normal(size=n)
    expected = slow_nearest_neighbour_information(column, labels)
    assert nearest_neighbour_information(column, labels) == pytest.approx(expected, abs=1e-9)


def test_nearest_neighbours_agree_with_scikit_learn():
    """On classes large enough for its trees; in small ones it squares distances, and rounding counts a neighbour."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1500)
    column = labels + 0.4 * rng.normal(size=1500)
    expected = mutual_info_classif(column[:, None], labels, discrete_features=False, n_neighbors=10, random_state=0)
    assert nearest_neighbour_information(column, labels) == pytest.approx(expected[0], abs=1e-6)


def test_nearest_neighbours_near_the_truth():
    """Two normal distributions two deviations apart: 0.3368 nats by quadrature; the estimate's spread is about .01."""
    grid = np.linspace(-10, 12, 200_001)
    density = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    other = np.exp(-0.5 * (grid - 2) ** 2) / math.sqrt(2 * math.pi)
    mixture = (density + other) / 2
    entropy = -np.trapezoid(mixture * np.log(mixture), grid)
    truth = entropy - 0.5 * math.log(2 * math.pi * math.e)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 8000)
    assert nearest_neighbour_information(2.0 * labels + rng.normal(size=8000), labels) == pytest.approx(truth, abs=0.03)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_counts_of_independent_labels_have_no_information(rows, columns):
    """Exactly 0, also where a label is constant; and a label has its entropy on itself."""
    pairs = [(a, b) for a, i in enumerate(rows) for b, j in enumerate(columns) for _ in range(i * j)]
    a, b = np.array(pairs).T
    assert mutual_information(a, b) == 0.0
    assert mutual_information(a, a) == entropy(a)
    assert entropy(a) == pytest.approx(-sum(i / sum(rows) * math.log(i / sum(rows)) for i in rows), abs=1e-12)


def test_labels_that_occur_once():
    assert nearest_neighbour_information(np.arange(5.0), np.arange(5)) == 0.0


def test_matrix_is_of_the_discretised_pairs():
    codes, factors = mixed(300)
    matrix = information_matrix(codes, factors)
    assert matrix.shape == (6, 4)
    digit = codes.columns[:, 4:7].argmax(axis=1)
    assert matrix[4, 0] == mutual_information(digit, factors.classes(0))
    assert matrix[4, 0] == pytest.approx(factor_entropies(factors)[0], abs=1e-12)  # told without error


def test_mig_sup_by_hand():
    """A variable that is both factors, and one that is one: gaps of 0 and 1; a dead one is left out."""
    values = np.indices((4, 4)).reshape(2, -1).T
    factors = Factors(values, ("x", "y"), ("ordinal", "categorical"))
    columns = np.stack([4 * values[:, 0] + values[:, 1], values[:, 1], np.ones(16)], axis=1).astype(float)
    result = mig_sup(gaussian_codes(columns), factors)
    np.testing.assert_allclose(result.code_gap, [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(result.live, [True, True, False])
    assert result.mig_sup == pytest.approx(0.5)


def test_mig_sup_by_a_loop():
    codes, factors = mixed(200)
    matrix, entropies = information_matrix(codes, factors), factor_entropies(factors)
    gaps = []
    for row in matrix.tolist():
        first, second = sorted((value / h for value, h in zip(row, entropies, strict=True)), reverse=True)[:2]
        gaps.append(first - second)
    result = mig_sup(codes, factors)
    np.testing.assert_allclose(result.code_gap, gaps, atol=1e-12)
    assert result.mig_sup == pytest.approx(sum(gaps) / 6)
    assert mig(codes, factors).mutual_information == pytest.approx(matrix)
