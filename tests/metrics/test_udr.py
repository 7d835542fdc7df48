import numpy as np
import pytest
from metric_tables import gaussian_codes, mixed
from scipy.stats import spearmanr

from pyro_hfvae.metrics import udr


def runs(n=300, noise=0.3):
    """Two runs that found the same three variables in another order, and one that mixes them."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(n, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    noisy = [base, np.exp(base[:, [2, 0, 1]]) * [1, -1, 2], base @ turn]
    return [gaussian_codes(columns + noise * rng.normal(size=columns.shape)) for columns in noisy]


def slow_agreement(first, second):
    matrix = [[abs(spearmanr(a, b).statistic) for b in second.columns.T] for a in first.columns.T]
    total = 0.0
    for b in range(len(matrix[0])):
        column = [row[b] for row in matrix]
        total += max(column) ** 2 / sum(column)
    for row in matrix:
        total += max(row) ** 2 / sum(row)
    return total / (len(matrix) + len(matrix[0]))


def test_agrees_with_loops():
    given = [*runs(), gaussian_codes(np.random.default_rng(1).normal(size=(300, 2)))]
    result = udr(given)
    for i in range(4):
        assert np.isnan(result.agreement[i, i])
        others = [slow_agreement(given[i], given[j]) for j in range(4) if j != i]
        assert result.score[i] == pytest.approx(np.median(others))


def test_same_variables_in_another_order_by_any_increasing_function():
    first, second, mixing = runs(noise=0.0)
    result = udr([first, second, mixing])
    assert result.agreement[0, 1] > 0.8  # 1 but for the chance correlation of independent variables
    assert result.agreement[0, 1] > result.agreement[0, 2] + 0.2
    square = np.indices((7, 7)).reshape(2, -1).T.astype(float)  # ranks without correlation
    assert udr([gaussian_codes(square), gaussian_codes(-np.exp(square[:, ::-1]))]).score == pytest.approx([1.0, 1.0])


def test_uninformative_variables_are_left_out():
    first, second, _ = runs()
    n = len(first.columns)
    faint = 1e-3 * np.random.default_rng(2).normal(size=(n, 2))
    wider = gaussian_codes(np.hstack([first.columns, faint, np.ones((n, 1))]))
    expected = udr([first, second]).agreement[0, 1]
    assert udr([wider, second]).agreement[0, 1] == pytest.approx(expected)
    chosen = udr([wider, second], [np.array([True] * 4 + [False] * 2), np.ones(3, dtype=bool)])
    assert chosen.agreement[0, 1] < expected


def test_nothing_informative():
    dead = gaussian_codes(np.zeros((20, 2)))
    assert udr([dead, gaussian_codes(np.random.default_rng(0).normal(size=(20, 2)))]).score == pytest.approx([0, 0])
    every = np.ones(2, dtype=bool)
    assert udr([dead, dead], [every, every]).score == pytest.approx([0, 0])


def test_errors():
    codes = runs()[0]
    with pytest.raises(ValueError, match="UDR compares runs with each other: give at least 2; got 1"):
        udr([codes])
    with pytest.raises(ValueError, match=r"runs must have codes of the same data; they have \[300, 40\] rows"):
        udr([codes, runs(40)[0]])
    with pytest.raises(ValueError, match="variable 'shape' of run 1 is discrete: its categories have no ranks"):
        udr([codes, mixed(300)[0]])
    with pytest.raises(ValueError, match=r"one entry for each of the 3 variables of run 0; got shape \(2,\)"):
        udr([codes, codes], [np.ones(2, dtype=bool), np.ones(3, dtype=bool)])
