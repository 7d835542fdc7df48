import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import MultiTaskLassoCV

from pyro_hfvae.metrics import Codes, Factors, completeness, dci, disentanglement
from pyro_hfvae.metrics.dci import code_disentanglement, factor_completeness, weighted_completeness
from pyro_hfvae.metrics.regressors import _lasso, read_factors, split

importances = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e3)))
)


def gaussian_codes(columns):
    """Every column one variable, all in one block."""
    width = columns.shape[1]
    return Codes(columns, tuple(f"z[{i}]" for i in range(width)), tuple((i,) for i in range(width)), {"z": (0,)})


def two_ordinal_factors(n=1200, seed=0):
    values = np.random.default_rng(seed).integers(0, 10, (n, 2))
    return Factors(values, ("x", "y"), ("ordinal", "ordinal"))


def slow_concentration(weights):
    """1 + Σ p log_K p, by a plain loop."""
    total = sum(weights)
    if total == 0:
        return 0.0
    if len(weights) == 1:
        return 1.0
    return 1.0 + sum((w / total) * math.log(w / total, len(weights)) for w in weights if w > 0)


def slow_disentanglement(importance):
    total = sum(sum(row) for row in importance)
    return sum(sum(row) / total * slow_concentration(row) for row in importance) if total else 0.0


def slow_completeness(importance):
    columns = list(zip(*importance, strict=True))
    return sum(slow_concentration(column) for column in columns) / len(columns)


# ------------------------------------------------------------------------------------------------ the pure functions


@pytest.mark.parametrize(
    ("importance", "expected_disentanglement", "expected_completeness", "expected_weighted"),
    [
        (np.eye(5), 1.0, 1.0, 1.0),
        (np.ones((10, 5)), 0.0, 0.0, 0.0),
        (np.kron(np.eye(5), np.ones((2, 1))), 1.0, 1.0 - math.log10(2), 1.0 - math.log10(2)),
        (np.array([[1, 0, 0], [0, 0, 0], [0.2, 0.8, 0], [0, 0, 1]]), 0.84817, 0.89166, 0.87000),
        (np.zeros((3, 2)), 0.0, 0.0, 0.0),
    ],
)
def test_oracles(importance, expected_disentanglement, expected_completeness, expected_weighted):
    assert weighted_completeness(importance) == pytest.approx(expected_weighted, abs=5e-6)
    assert disentanglement(importance) == pytest.approx(expected_disentanglement, abs=5e-6)
    assert completeness(importance) == pytest.approx(expected_completeness, abs=1e-5)


@given(importances)
@settings(max_examples=100, deadline=None)
def test_agrees_with_plain_loops(importance):
    assert disentanglement(importance) == pytest.approx(slow_disentanglement(importance.tolist()), abs=1e-9)
    assert completeness(importance) == pytest.approx(slow_completeness(importance.tolist()), abs=1e-9)
    columns = list(zip(*importance.tolist(), strict=True))
    total = sum(sum(column) for column in columns)
    weighted = sum(sum(column) / total * slow_concentration(column) for column in columns) if total else 0.0
    assert weighted_completeness(importance) == pytest.approx(weighted, abs=1e-9)


@given(importances, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_range_and_permutation(importance, random):
    codes, factors = list(range(importance.shape[0])), list(range(importance.shape[1]))
    random.shuffle(codes)
    random.shuffle(factors)
    permuted = importance[np.ix_(codes, factors)]
    for function in (disentanglement, completeness):
        assert 0.0 <= function(importance) <= 1.0
        assert function(permuted) == pytest.approx(function(importance), abs=1e-9)
    for function in (code_disentanglement, factor_completeness):
        assert (function(importance) >= 0).all()
        assert (function(importance) <= 1).all()
    np.testing.assert_allclose(code_disentanglement(permuted), code_disentanglement(importance)[codes], atol=1e-9)
    np.testing.assert_allclose(factor_completeness(permuted), factor_completeness(importance)[factors], atol=1e-9)


@given(importances, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_dead_codes_leave_disentanglement(importance, dead):
    with_dead = np.vstack([importance, np.zeros((dead, importance.shape[1]))])
    assert disentanglement(with_dead) == pytest.approx(disentanglement(importance), abs=1e-9)
    assert (code_disentanglement(with_dead)[len(importance) :] == 0).all()


def test_one_factor_or_one_variable():
    one_factor = np.array([[0.9], [0.0], [0.1]])
    np.testing.assert_array_equal(code_disentanglement(one_factor), [1.0, 0.0, 1.0])
    assert disentanglement(one_factor) == 1.0
    for seed in range(20):  # a mean of ones, whatever the weights
        assert disentanglement(np.random.default_rng(seed).dirichlet(np.ones(9))[:, None]) == 1.0
    assert completeness(one_factor) == pytest.approx(slow_completeness(one_factor.tolist()))
    one_variable = np.array([[0.5, 0.0, 0.5]])
    np.testing.assert_array_equal(factor_completeness(one_variable), [1.0, 0.0, 1.0])
    assert disentanglement(one_variable) == pytest.approx(1.0 - math.log(2, 3))


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        (np.ones(3), r"importance must be a matrix \[V, F\] that is not empty; got shape \(3,\)"),
        (np.ones((0, 3)), r"importance must be a matrix \[V, F\] that is not empty; got shape \(0, 3\)"),
        (np.array([[-1.0]]), "importance must be finite and non-negative"),
        (np.array([[np.nan]]), "importance must be finite and non-negative"),
    ],
)
def test_importance_errors(importance, message):
    for function in (
        disentanglement,
        completeness,
        weighted_completeness,
        code_disentanglement,
        factor_completeness,
    ):
        with pytest.raises(ValueError, match=message):
            function(importance)


# --------------------------------------------------------------------------------------------------------- with forests


def test_perfect_code():
    rng = np.random.default_rng(1)
    sizes = (3, 6, 8)
    values = np.stack([rng.integers(0, size, 1500) for size in sizes], axis=1)
    factors = Factors(values, ("shape", "scale", "x"), ("categorical", "ordinal", "ordinal"))
    columns = np.hstack([np.eye(3)[values[:, 0]], values[:, 1:].astype(float)])
    codes = Codes(columns, ("digit", "a", "b"), (slice(0, 3), (3,), (4,)), {"all": (0, 1, 2)})
    result = dci(codes, factors)
    assert result.importance.shape == (3, 3)
    np.testing.assert_allclose(result.importance, np.eye(3), atol=0.01)
    np.testing.assert_allclose(result.importance.sum(axis=0), 1.0)
    assert result.disentanglement > 0.97
    assert result.completeness > 0.97
    assert result.informativeness > 0.97


def test_an_importance_below_zero_by_rounding_is_zero(monkeypatch):
    """A classifier of 15 codes of photos had -1.2e-18: weighted impurities before and after a split are subtracted."""

    class Rounded(RandomForestClassifier):
        @property
        def feature_importances_(self):
            exact = super().feature_importances_
            return np.where(exact == 0, -1e-18, exact)

    module = importlib.import_module("pyro_hfvae.metrics.regressors")
    monkeypatch.setattr(module, "RandomForestClassifier", Rounded)
    values = np.random.default_rng(0).integers(0, 2, (40, 1))
    codes = gaussian_codes(np.hstack([values, np.eye(40)[:, split(40)[0][:1]]]))  # the other: no leaf is that small
    result = dci(codes, Factors(values, ("hue",), ("categorical",)))
    assert result.importance.tolist() == [[1.0], [0.0]]


def test_permuted_rows_are_chance():
    factors = two_ordinal_factors()
    shuffled = factors.values[np.random.default_rng(1).permutation(len(factors.values))]
    result = dci(gaussian_codes(shuffled.astype(float)), factors)
    assert (result.score < 0.1).all()
    assert result.score.min() < 0  # raw R² of a reader that learned noise
    np.testing.assert_array_equal(result.factor_informativeness, np.maximum(result.score, 0))
    assert result.informativeness < 0.1


def test_rotated_code_scores_lower():
    factors = two_ordinal_factors()
    straight = factors.values - factors.values.mean(axis=0)
    rotated = straight @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    before, after = dci(gaussian_codes(straight), factors), dci(gaussian_codes(rotated), factors)
    assert before.disentanglement > 0.97
    assert before.completeness > 0.97
    assert after.disentanglement < 0.2
    assert after.completeness < 0.2
    assert after.informativeness > 0.85


def test_circular_factor_is_read_across_the_seam():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 40, (1500, 1))
    angle = (2 * np.pi * values / 40 + rng.normal(scale=0.15, size=values.shape)) % (2 * np.pi)
    codes = gaussian_codes(np.hstack([np.cos(angle), np.sin(angle)]))
    circular = dci(codes, Factors(values, ("orientation",), ("circular",))).score[0]
    ordinal = dci(codes, Factors(values, ("orientation",), ("ordinal",))).score[0]
    assert circular > 0.95
    assert ordinal < circular - 0.05


def test_circular_score_does_not_depend_on_where_the_seam_is():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 12, (1000, 1))
    codes = gaussian_codes(values + rng.normal(scale=0.5, size=values.shape))
    scores = [
        dci(codes, Factors((values + shift) % 12, ("orientation",), ("circular",))).score[0] for shift in (0, 3, 6)
    ]
    np.testing.assert_allclose(scores, scores[0], atol=0.01)


def test_period():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 40, (1000, 1))
    closed = Factors(values, ("orientation",), ("circular",), {"orientation": 39})
    assert closed.angles(0).max() == pytest.approx(2 * np.pi)
    assert closed.classes(0).max() == 38
    np.testing.assert_array_equal(closed.classes(0)[values[:, 0] == 39], 0)
    assert Factors(values, ("orientation",), ("circular",)).period(0) == 40


def test_dead_codes_disturb_nothing():
    factors = two_ordinal_factors(600)
    alive = factors.values.astype(float) + np.random.default_rng(5).normal(scale=0.5, size=(600, 2))
    with_dead = np.hstack([np.full((600, 1), 3.0), alive, np.zeros((600, 2))])
    expected, result = dci(gaussian_codes(alive), factors), dci(gaussian_codes(with_dead), factors)
    np.testing.assert_array_equal(result.importance[1:3], expected.importance)
    np.testing.assert_array_equal(result.importance[[0, 3, 4]], 0.0)
    np.testing.assert_array_equal(result.score, expected.score)
    assert result.disentanglement == pytest.approx(expected.disentanglement)


@pytest.mark.parametrize("kind", ["categorical", "ordinal", "circular"])
def test_all_codes_dead(kind):
    factors = Factors(np.arange(200)[:, None] % 4, ("v",), (kind,))
    result = dci(gaussian_codes(np.zeros((200, 3))), factors)
    assert result.disentanglement == result.completeness == 0.0
    assert np.isfinite(result.score).all()
    assert (result.importance == 0).all()
    assert result.informativeness < 0.4


def test_single_factor_and_single_variable():
    values = np.random.default_rng(6).integers(0, 4, (400, 1))
    factors = Factors(values, ("digit",), ("categorical",))
    result = dci(Codes(np.eye(4)[values[:, 0]], ("digit",), (slice(None),), {"digit": (0,)}), factors)
    assert result.disentanglement == result.completeness == result.informativeness == 1.0


def test_seed():
    factors = two_ordinal_factors(400)
    codes = gaussian_codes(factors.values + np.random.default_rng(7).normal(size=(400, 2)))
    first, again, other = (dci(codes, factors, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.importance, again.importance)
    np.testing.assert_array_equal(first.score, again.score)
    assert (first.score != other.score).any()


def test_score_is_the_r2_of_the_test_split():
    """A forest on dead codes answers the mean of its trees' samples: about 0, and not the train score."""
    factors = two_ordinal_factors(400)
    readings = read_factors(gaussian_codes(np.zeros((400, 1))), factors)
    assert all(-0.1 < reading.score <= 0 for reading in readings)
    train, test = split(400)
    assert len(train) == 300
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(400))


def test_score_formula():
    score = importlib.import_module("pyro_hfvae.metrics.regressors").score
    sklearn_r2 = importlib.import_module("sklearn.metrics").r2_score
    rng = np.random.default_rng(8)
    target, prediction = rng.normal(size=(2, 50, 2))
    assert score("circular", target, prediction) == pytest.approx(
        sklearn_r2(target, prediction, multioutput="variance_weighted")
    )
    assert score("ordinal", target[:, 0], prediction[:, 0]) == pytest.approx(sklearn_r2(target[:, 0], prediction[:, 0]))
    assert score("ordinal", np.ones(5), np.zeros(5)) == 0.0
    for count in range(2, 40):  # the mean of .1 is not always .1
        assert score("continuous", np.full(count, 0.1), np.zeros(count)) == 0.0
        assert score("circular", np.full((count, 2), 0.7), np.zeros((count, 2))) == 0.0
    assert score("categorical", np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75


def test_too_few_rows():
    factors = Factors(np.arange(7)[:, None], ("x",), ("ordinal",))
    with pytest.raises(ValueError, match="at least 8 are needed; got 7"):
        dci(gaussian_codes(np.zeros((7, 1))), factors)


def test_rows_must_match():
    with pytest.raises(ValueError, match="codes have 10 rows, factors have 12"):
        dci(gaussian_codes(np.zeros((10, 1))), two_ordinal_factors(12))


# ------------------------------------------------------------------------------------------------- blocks and readers


def test_blocks_by_hand():
    """Two variables a block, one factor in each: variables share, blocks do not."""
    rng = np.random.default_rng(8)
    values = rng.integers(0, 6, (800, 2))
    columns = values[:, [0, 0, 1, 1]] + rng.normal(scale=0.5, size=(800, 4))
    codes = Codes(
        columns, ("a", "b", "c", "d"), ((0,), (1,), (2,), (3,)), {"x": (0, 1), "y": (3, 2), "all": (0, 1, 2, 3)}
    )
    result = dci(codes, Factors(values, ("x", "y"), ("ordinal", "ordinal")), reader="linear")
    by_hand = [result.importance[[0, 1]].sum(0), result.importance[[2, 3]].sum(0), result.importance.sum(0)]
    np.testing.assert_allclose(result.block_importance, by_hand)
    assert result.blocks == ("x", "y", "all")
    np.testing.assert_allclose(result.block_disentanglement, code_disentanglement(np.array(by_hand)))
    assert result.disentanglement_of_blocks == disentanglement(np.array(by_hand))
    assert result.completeness_of_blocks == completeness(np.array(by_hand))
    assert result.block_disentanglement[:2].min() > 0.7  # each holds one factor
    assert result.block_disentanglement[2] == pytest.approx(0.0, abs=1e-3)  # both
    assert result.completeness < 0.6


def test_baseline_is_that_of_the_commonest_class():
    values = np.stack([np.arange(400) % 10 > 2, np.arange(400) % 7], axis=1).astype(int)
    factors = Factors(values, ("kind", "x"), ("categorical", "ordinal"))
    result = dci(gaussian_codes(np.zeros((400, 1))), factors, reader="linear")
    assert result.chance[0] == pytest.approx(0.7, abs=0.08)
    assert result.chance[1] == 0.0
    np.testing.assert_allclose(result.score[0], result.chance[0])


def test_linear_reader_is_least_squares():
    """By the normal equations, on columns that are standardised with the train split."""
    rng = np.random.default_rng(9)
    columns = rng.normal(size=(300, 4)) * [1.0, 5.0, 0.1, 2.0] + 3.0
    values = np.round(columns @ [1.0, 0.2, -10.0, 0.0] + rng.normal(size=300)).astype(int)[:, None]
    train, test = split(300)
    centre, deviation = columns[train].mean(axis=0), columns[train].std(axis=0)
    design = np.hstack([np.ones((300, 1)), (columns - centre) / deviation])
    weights = np.linalg.solve(design[train].T @ design[train], design[train].T @ values[train, 0])
    residual = ((values[test, 0] - design[test] @ weights) ** 2).sum()
    expected = 1 - residual / ((values[test, 0] - values[test, 0].mean()) ** 2).sum()
    (reading,) = read_factors(gaussian_codes(columns), Factors(values, ("x",), ("ordinal",)), reader="linear")
    np.testing.assert_allclose(reading.importance, np.abs(weights[1:]) / np.abs(weights[1:]).sum(), atol=1e-9)
    assert reading.score == pytest.approx(expected)


def test_lasso_reader_drops_what_tells_nothing():
    """The optimality conditions of the lasso: |x · residual| / n is the penalty where a weight is not 0, else less."""
    rng = np.random.default_rng(10)
    columns = rng.normal(size=(400, 6))
    values = np.round(6 * columns[:, 0] + 3 * columns[:, 1] + rng.normal(size=400)).astype(int)[:, None]
    codes, factors = gaussian_codes(columns), Factors(values, ("x",), ("ordinal",))
    (reading,) = read_factors(codes, factors, reader="lasso")
    assert reading.importance[:2] == pytest.approx([2 / 3, 1 / 3], abs=0.03)
    assert reading.importance[2:].max() < 0.02
    assert reading.score > 0.9


def test_linear_readers_of_a_category_and_a_circle():
    rng = np.random.default_rng(11)
    values = np.stack([rng.integers(0, 3, 600), rng.integers(0, 12, 600)], axis=1)
    angle = 2 * np.pi * values[:, 1] / 12
    columns = np.hstack([np.eye(3)[values[:, 0]], np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    codes = Codes(columns, ("shape", "c", "s"), ((0, 1, 2), (3,), (4,)), {"all": (0, 1, 2)})
    factors = Factors(values, ("shape", "turn"), ("categorical", "circular"))
    for reader in ("lasso", "linear"):
        result = dci(codes, factors, reader=reader)
        np.testing.assert_allclose(result.score, 1.0, atol=1e-3)
        np.testing.assert_allclose(result.importance, [[1, 0], [0, 0.5], [0, 0.5]], atol=0.03)


def test_nothing_is_learned_from_the_test_split():
    """Standardising with test statistics is one of the known faults: here the test rows alone are far away."""
    rng = np.random.default_rng(12)
    factors = two_ordinal_factors(400)
    columns = factors.values + rng.normal(size=(400, 2))
    moved = columns.copy()
    moved[split(400)[1]] *= 1e6
    for reader in ("forest", "lasso", "linear"):
        plain = read_factors(gaussian_codes(columns), factors, reader=reader)
        far = read_factors(gaussian_codes(moved), factors, reader=reader)
        for one, other in zip(plain, far, strict=True):
            np.testing.assert_allclose(one.importance, other.importance, rtol=1e-12)


def test_unknown_reader():
    with pytest.raises(ValueError, match=r"reader is 'tree'; the readers are \('forest', 'lasso', 'linear'\)"):
        dci(gaussian_codes(np.zeros((400, 1))), two_ordinal_factors(400), reader="tree")


def test_continuous_factor():
    rng = np.random.default_rng(13)
    values = rng.random((800, 2))
    factors = Factors(values, ("heat", "light"), ("continuous", "continuous"))
    result = dci(gaussian_codes(values), factors)
    assert result.score.min() > 0.95
    assert result.disentanglement > 0.95


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01, 0.001])
def test_least_squares_with_a_category_that_varies_and_is_predictive_of_nothing(spread):
    """Its probabilities sum to 1 up to float32's rounding, which least squares took for a direction of its own."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, (2000, 2))
    p = np.exp(spread * rng.normal(size=(2000, 3)).astype(np.float32))
    p = (p / p.sum(1, keepdims=True)).astype(np.float32).astype(float)
    codes = Codes(
        np.hstack([values + 0.1 * rng.normal(size=values.shape), p]),
        ("z0", "z1", "shape"),
        ((0,), (1,), (2, 3, 4)),
        {"z": (0, 1), "shape": (2,)},
    )
    result = dci(codes, Factors(values, ("a", "b"), ("ordinal", "ordinal")), reader="linear")
    assert result.disentanglement > 0.95
    assert result.completeness > 0.95


@pytest.mark.parametrize("classes", [2, 5])
def test_the_lasso_is_that_of_scikit_learn(classes):
    rng = np.random.default_rng(0)
    y = np.eye(classes)[rng.integers(0, classes, 500)]
    x = y @ rng.normal(size=(classes, 6)) + rng.normal(size=(500, 6))
    x = (x - x.mean(0)) / x.std(0)
    expected = MultiTaskLassoCV(cv=5, tol=1e-8, max_iter=10_000).fit(x, y)
    assert _lasso(x, y) == pytest.approx(expected.coef_.T, abs=1e-3)


def test_the_lasso_of_nothing():
    assert not _lasso(np.random.default_rng(0).normal(size=(20, 3)), np.ones((20, 2))).any()
