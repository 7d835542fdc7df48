"""Regressors that read factors off codes, on a train split, and how well they do on the rest."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, enet_path
from sklearn.model_selection import KFold

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = [
    "Reader",
    "Reading",
    "chance",
    "measures",
    "quiet_libraries",
    "r2",
    "read_factors",
    "score",
    "split",
    "standardised",
]

Reader = Literal["forest", "lasso", "linear"]

TREES = 50
ROWS_PER_TREE = 3_000  # bounds the cost on large data; a tree on more rows is hardly better once 50 are averaged
MIN_ROWS_PER_LEAF = 5
LASSO_FOLDS = 5
LASSO_PENALTIES = 100
LASSO_TOLERANCE = 1e-6
LASSO_SMALLEST = 1e-3  # penalty, as a part of the least that leaves no column
SUM_ROUNDING = 1e-4  # of probabilities in float32


@dataclass(frozen=True, eq=False)
class Reading:
    """How one regressor reads one factor off some columns of the codes.

    Attributes:
        score: accuracy (categorical) or R² (ordinal, continuous, circular) on the test split; R² may be negative.
        importance: the importance of each column that was read; sums to 1, or to 0 where nothing helps.
    """

    score: float
    importance: NDArray[np.float64]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the warnings of libraries: of penalties and classes that are too many for the data, by the hundred.

    What they are about is in the scores, which are at chance then, and in words in ``measure(...)["notes"]``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(joblib|numpy|scipy|sklearn)\b")
        yield


@quiet_libraries()
def read_factors(
    codes: Codes,
    factors: Factors,
    *,
    columns: tuple[int, ...] | None = None,
    reader: Reader = "forest",
    seed: int = 0,
) -> tuple[Reading, ...]:
    """Fit one regressor a factor on the train split of some columns, and score it on the test split.

    ``accuracy = mean[ŷ = y]`` for a categorical factor, else ``R² = 1 - Σ_n |y_n - ŷ_n|² / Σ_n |y_n - ȳ|²`` (0 if the
    test split has one value only), where ``y`` is the value of an ordinal or continuous factor, and the pair (cos, sin)
    of the angle of a circular one.

    The importance of a column, normalised to sum 1, is

    - ``"forest"``: its impurity importance in a random forest;
    - ``"lasso"``: ``|w|`` of a lasso on columns that are standardised with the mean and deviation of the train split,
      its penalty chosen among 100 by five-fold cross-validation on it;
    - ``"linear"``: the same without penalty, and without the last column of each discrete variable: its probabilities
      sum to 1, so that the weights of all of them are arbitrary. The column left out has importance 0.

    The two linear ones read a categorical factor by the indicators of its classes and answer the greatest. They cannot
    answer a class whose codes lie between those of others on a line; a forest can. Where ``y`` has several components,
    ``|w|`` is the Euclidean norm over them, which for a circular factor does not depend on where its angle starts.

    Args:
        codes: the codes of ``n`` data.
        factors: the ``F`` factors of the same data.
        columns: the columns to read from; all of them if not given.
        reader: which regressor.
        seed: of the split and of the forests.

    Returns:
        ``F`` readings.
    """
    check_matched(codes, factors)
    if reader not in get_args(Reader):
        raise ValueError(f"reader is {reader!r}; the readers are {get_args(Reader)}")
    inputs = codes.columns if columns is None else codes.columns[:, list(columns)]
    train, test = split(len(inputs), seed=seed)
    moving = np.ptp(inputs[train], axis=0) > 0  # constant columns must not shift the random draws
    if reader == "linear":
        moving &= ~_redundant(codes, columns)
    readable = np.flatnonzero(moving)
    used = readable if readable.size else np.array([0])
    known, new = inputs[np.ix_(train, used)], inputs[np.ix_(test, used)]
    readings = []
    for factor, kind in enumerate(factors.kinds):
        target = factors.target(factor)
        by = _by_forest if reader == "forest" else _by_line
        prediction, strength = by(known, target[train], new, kind, reader, seed)
        importance = np.zeros(inputs.shape[1])
        if readable.size and strength.sum() > 0:
            importance[used] = strength / strength.sum()
        readings.append(Reading(score(kind, target[test], prediction), importance))
    return tuple(readings)


def _redundant(codes: Codes, columns: tuple[int, ...] | None) -> NDArray[np.bool_]:
    """The last column of each variable with several that sum to the same in all rows, among those that are read."""
    read = list(range(codes.columns.shape[1]) if columns is None else columns)
    found = np.zeros(codes.columns.shape[1], dtype=np.bool_)
    for variable in range(len(codes.variables)):
        own = list(codes.columns_of(variable))
        if len(own) > 1 and set(own) <= set(read) and np.ptp(codes.columns[:, own].sum(axis=1)) < SUM_ROUNDING:
            found[own[-1]] = True
    return found[read]


def split(n: int, *, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row numbers of a random three quarters to train on, and of the rest to test on."""
    if n < 8:
        raise ValueError(f"the rows are split into train and test, for which at least 8 are needed; got {n}")
    order = np.random.default_rng(seed).permutation(n)
    return order[n // 4 :], order[: n // 4]


def chance(factors: Factors, *, seed: int = 0) -> NDArray[np.float64]:
    """The score of a guess that has seen no code ``[F]``.

    The accuracy, on the test split, of always answering the commonest class of the train split; 0 for R².
    """
    train, test = split(len(factors.values), seed=seed)
    scores = np.zeros(len(factors.names))
    for factor, kind in enumerate(factors.kinds):
        if kind == "categorical":
            classes = factors.classes(factor)
            scores[factor] = (classes[test] == np.bincount(classes[train]).argmax()).mean()
    return scores


def measures(factors: Factors) -> tuple[Literal["accuracy", "r2"], ...]:
    """What `score` is for each factor, ``F`` of them."""
    return tuple("accuracy" if kind == "categorical" else "r2" for kind in factors.kinds)


def score(kind: str, target: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Accuracy for a categorical factor, else `r2`."""
    return float((target == prediction).mean()) if kind == "categorical" else r2(target, prediction)


def r2(target: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """``R² = 1 - Σ |y_n - ŷ_n|² / Σ |y_n - ȳ|²``, one for all components; 0 where ``y`` is constant."""
    moving = np.ptp(target, axis=0) > 0  # rounding of the mean leaves 1e-32 in a constant target
    spread = (np.where(moving, target - target.mean(axis=0), 0.0) ** 2).sum()
    return float(1.0 - ((target - prediction) ** 2).sum() / spread) if spread > 0 else 0.0


def standardised(
    known: NDArray[np.float64], new: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both with the mean and the deviation of the first, so that nothing is learned of the second; 0 if constant."""
    centre, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(np.ptp(known, axis=0) > 0, deviation, np.inf)
    return (known - centre) / deviation, (new - centre) / deviation


def _by_forest(
    known: NDArray[np.float64], target: NDArray[Any], new: NDArray[np.float64], kind: str, _: Reader, seed: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Prediction and importances."""
    forest = _forest(kind, rows=len(known), seed=seed).fit(known, target)
    forest.set_params(n_jobs=1)  # threads would add up the trees' predictions in any order
    strength = np.maximum(forest.feature_importances_, 0.0)  # a difference of impurities: by rounding, -1e-18 happens
    return forest.predict(new), strength


def _forest(kind: str, *, rows: int, seed: int) -> Any:
    make = RandomForestClassifier if kind == "categorical" else RandomForestRegressor
    return make(
        n_estimators=TREES,
        max_features=1.0,  # a split chooses among all columns, else codes without information are split on too
        max_samples=min(rows, ROWS_PER_TREE),
        min_samples_leaf=MIN_ROWS_PER_LEAF,
        n_jobs=-1,
        random_state=seed,
    )


def _by_line(
    known: NDArray[np.float64], target: NDArray[Any], new: NDArray[np.float64], kind: str, reader: Reader, _: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Prediction and importances."""
    known, new = standardised(known, new)
    wanted = np.eye(int(target.max()) + 1)[target] if kind == "categorical" else target.reshape(len(target), -1)
    if (np.ptp(known, axis=0) == 0).all():  # the lasso has no path where nothing correlates
        prediction, strength = np.tile(wanted.mean(axis=0), (len(new), 1)), np.zeros(known.shape[1])
    else:
        fit = _least_squares if reader == "linear" else _lasso
        weights = fit(known, wanted)  # [C, K or 1 or 2]
        prediction = wanted.mean(axis=0) + (new - known.mean(axis=0)) @ weights
        strength = np.linalg.norm(weights, axis=1)
    if kind == "categorical":
        return prediction.argmax(axis=1), strength
    return prediction.reshape(len(new), *target.shape[1:]), strength


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights [C, K] of least squares."""
    return np.asarray(LinearRegression().fit(x, y).coef_.T, dtype=np.float64)


def _lasso(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights [C, K] of a lasso with one penalty for the row of each column, chosen by cross-validation."""
    largest = np.linalg.norm((x - x.mean(axis=0)).T @ (y - y.mean(axis=0)), axis=1).max() / len(x)
    if largest == 0.0:
        return np.zeros((x.shape[1], y.shape[1]))
    penalties = np.geomspace(largest, LASSO_SMALLEST * largest, LASSO_PENALTIES)
    errors = np.zeros(LASSO_PENALTIES)
    for train, test in KFold(min(LASSO_FOLDS, len(x) // 2)).split(x):
        paths = _lasso_path(x[train], y[train], penalties)
        predictions = y[train].mean(axis=0) + (x[test] - x[train].mean(axis=0)) @ paths  # [penalties, n, K]
        errors += ((predictions - y[test]) ** 2).mean(axis=(1, 2))
    best: NDArray[np.float64] = _lasso_path(x, y, penalties[: errors.argmin() + 1])[-1]
    return best


def _lasso_path(x: NDArray[np.float64], y: NDArray[np.float64], penalties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [penalties, C, K] for penalties that fall.

    With x = QR the squared error is that of Qᵀy from R, but for a constant: C rows in the place of n, and a fraction of
    the time.
    """
    q, r = np.linalg.qr(x - x.mean(axis=0))
    scale = np.sqrt(len(r) / len(x))  # scikit-learn divides the squared error by the number of rows
    _, weights, _ = enet_path(
        np.asfortranarray(r * scale),
        q.T @ (y - y.mean(axis=0)) * scale,
        l1_ratio=1.0,
        alphas=penalties,
        tol=LASSO_TOLERANCE,
    )
    return np.asarray(np.moveaxis(weights, -1, 0).swapaxes(1, 2), dtype=np.float64)
