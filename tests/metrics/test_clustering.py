from itertools import permutations
from math import comb, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_tables import gaussian_codes, mixed

from pyro_hfvae.metrics import Codes, Factors, clustering, clustering_accuracy
from pyro_hfvae.metrics.information import entropy, mutual_information

labels = arrays(np.int64, 25, elements=st.integers(0, 3))


@given(labels, labels)
@settings(max_examples=60, deadline=None)
def test_accuracy_is_the_best_of_all_assignments(clusters, values):
    names = list(range(4))
    best = max(np.mean([order[c] == v for c, v in zip(clusters, values, strict=True)]) for order in permutations(names))
    assert clustering_accuracy(clusters, values) == pytest.approx(best)
    assert clustering_accuracy(7 - 3 * clusters, values) == pytest.approx(best)


def test_more_clusters_than_values():
    assert clustering_accuracy(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])) == 0.5
    assert clustering_accuracy(np.array([0, 0, 0, 0]), np.array([0, 1, 2, 3])) == 0.25
    assert clustering_accuracy(np.array([5]), np.array([9])) == 1.0


def slow_rand_index(a, b):
    """Adjusted, over pairs of data."""
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    both = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    in_a, in_b = (sum(x[i] == x[j] for i, j in pairs) for x in (a, b))
    expected = in_a * in_b / comb(len(a), 2)
    return (both - expected) / ((in_a + in_b) / 2 - expected)


def test_table_against_formulas():
    codes, factors = mixed(150)
    result = clustering(codes, factors)
    assert result.blocks == ("shape",)
    assert result.factors == factors.names
    clusters = codes.columns[:, 4:7].argmax(axis=1)
    for factor in range(4):
        values = factors.classes(factor)
        information = mutual_information(clusters, values)
        expected = 2 * information / (entropy(clusters) + entropy(values))
        assert result.normalised_mutual_information[0, factor] == pytest.approx(expected)
        assert result.adjusted_rand_index[0, factor] == pytest.approx(slow_rand_index(clusters, values))
        assert result.accuracy[0, factor] == clustering_accuracy(clusters, values)
    assert result.accuracy[0, 0] == 1.0
    assert abs(result.adjusted_rand_index[0, 1]) < 0.05


def test_two_discrete_variables_cluster_by_their_pairs():
    values = np.arange(60)[:, None] % 4
    bits = np.hstack([np.eye(2)[values[:, 0] // 2], np.eye(2)[values[:, 0] % 2]])
    codes = Codes(bits, ("high", "low"), ((0, 1), (2, 3)), {"bits": (0, 1), "high": (0,)})
    result = clustering(codes, Factors(values, ("digit",), ("categorical",)))
    np.testing.assert_allclose(result.accuracy[:, 0], [1.0, 0.5])
    np.testing.assert_allclose(result.normalised_mutual_information[:, 0], [1.0, 2 * log(2) / (log(2) + log(4))])
    assert sqrt(result.adjusted_rand_index[0, 0]) == 1.0


def test_no_discrete_block():
    result = clustering(gaussian_codes(np.zeros((10, 2))), Factors(np.arange(10)[:, None], ("x",), ("ordinal",)))
    assert result.blocks == ()
    assert result.accuracy.shape == (0, 1)
