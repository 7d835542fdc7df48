"""Regressors that read factors off codes, on a train split, and how well they do on the rest."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, MultiTaskLassoCV

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = ["Reader", "Reading", "chance", "measures", "r2", "read_factors", "score", "split", "standardised"]

Reader = Literal["forest", "lasso", "linear"]

TREES = 50
ROWS_PER_TREE = 3_000  # bounds the cost on large data; a tree on more rows is hardly better once 50 are averaged
MIN_ROWS_PER_LEAF = 5
LASSO_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Reading:
    """How one regressor reads one factor off some columns of the codes.

    Attributes:
        score: accuracy (categorical) or R² (ordinal, continuous, circular) on the test split; R² may be negative.
        importance: the importance of each column that was read; sums to 1, or to 0 where nothing helps.
    """

    score: float
    importance: NDArray[np.float64]


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
      its penalty chosen by five-fold cross-validation on it;
    - ``"linear"``: the same without penalty.

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
    readable = np.flatnonzero(np.ptp(inputs[train], axis=0) > 0)  # constant columns must not shift the random draws
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
        max_features=1.0,  # a split chooses among all columns, else codes that tell nothing are split on too
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
        line = LinearRegression() if reader == "linear" else MultiTaskLassoCV(cv=min(LASSO_FOLDS, len(known) // 2))
        prediction = line.fit(known, wanted).predict(new)  # [n, K or 1 or 2]
        strength = np.linalg.norm(line.coef_, axis=0)
    if kind == "categorical":
        return prediction.argmax(axis=1), strength
    return prediction.reshape(len(new), *target.shape[1:]), strength
