"""Disentanglement, completeness and informativeness (DCI) from random forests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = [
    "DCI",
    "Reading",
    "code_disentanglement",
    "completeness",
    "dci",
    "dci_from_readings",
    "disentanglement",
    "factor_completeness",
    "read_factors",
    "split",
]

TREES = 50
ROWS_PER_TREE = 3_000  # bounds the cost on large data; a tree on more rows is hardly better once 50 are averaged
MIN_ROWS_PER_LEAF = 5


@dataclass(frozen=True, eq=False)
class DCI:
    """The result of `dci` for ``V`` variables and ``F`` factors.

    Attributes:
        disentanglement: D in ``[0, 1]``: does each variable tell of one factor only?
        completeness: C in ``[0, 1]``: is each factor told by one variable only?
        informativeness: I in ``[0, 1]``: the mean of ``factor_informativeness``.
        code_disentanglement: ``D_i`` of each variable ``[V]``.
        factor_completeness: ``C_j`` of each factor ``[F]``.
        factor_informativeness: the scores, with a negative R² clipped to 0 ``[F]``.
        score: the raw scores on the test split: accuracy for a categorical factor, else R² ``[F]``.
        importance: R, how much each variable tells of each factor ``[V, F]``; a column sums to 1, or to 0 if no
            variable tells anything of the factor.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    code_disentanglement: NDArray[np.float64]
    factor_completeness: NDArray[np.float64]
    factor_informativeness: NDArray[np.float64]
    score: NDArray[np.float64]
    importance: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """How one forest reads one factor off some columns of the codes.

    Attributes:
        score: accuracy (categorical) or R² (ordinal, circular) on the test split; R² may be negative.
        importance: the impurity importance of each column that was read; sums to 1, or to 0 where nothing helps.
    """

    score: float
    importance: NDArray[np.float64]


def dci(codes: Codes, factors: Factors, *, seed: int = 0) -> DCI:
    """DCI with random forests (Eastwood & Williams, A Framework for the Quantitative Evaluation of DR, ICLR 2018, § 2).

    One forest a factor gives the importance matrix ``R`` ``[V, F]`` and, on a test split, the informativeness; D and C
    follow from ``R`` (`disentanglement`, `completeness`). The importances of the columns of one discrete variable are
    summed. A categorical factor is classified (accuracy), an ordinal one is regressed by its index (R²), a circular
    one by the cosine and sine of its angle together (R², see `read_factors`).

    Informativeness is higher-is-better here; the paper reports the error. A factor that no code holds still has a
    column of ``R`` that sums to 1 (of noise), as in the paper: look at the informativeness before D and C.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split and of the forests.

    Returns:
        The three numbers and what they are made of.
    """
    return dci_from_readings(codes, read_factors(codes, factors, seed=seed))


def dci_from_readings(codes: Codes, readings: Sequence[Reading]) -> DCI:
    """DCI from what `read_factors` made of all columns, for callers that need the readings elsewhere too."""
    by_column = np.stack([reading.importance for reading in readings], axis=1)  # [C, F]
    importance = np.stack([by_column[list(codes.columns_of(v))].sum(axis=0) for v in range(len(codes.variables))])
    score = np.array([reading.score for reading in readings])
    informativeness = np.maximum(score, 0.0)
    return DCI(
        disentanglement=disentanglement(importance),
        completeness=completeness(importance),
        informativeness=float(informativeness.mean()),
        code_disentanglement=code_disentanglement(importance),
        factor_completeness=factor_completeness(importance),
        factor_informativeness=informativeness,
        score=score,
        importance=importance,
    )


def disentanglement(importance: NDArray[np.float64]) -> float:
    """``D = Σ_i ρ_i D_i`` with ``ρ_i = Σ_j R_ij / Σ_ij R_ij`` (Eastwood & Williams 2018, § 2); 0 if ``R`` is 0.

    Args:
        importance: R, non-negative ``[V, F]``.
    """
    importance = _checked(importance)
    total = importance.sum()
    if total == 0:
        return 0.0
    return float(np.clip((importance.sum(axis=1) / total) @ code_disentanglement(importance), 0.0, 1.0))


def completeness(importance: NDArray[np.float64]) -> float:
    """``C = (1/F) Σ_j C_j``, every factor with the same weight (Eastwood & Williams 2018, § 2).

    Args:
        importance: R, non-negative ``[V, F]``.
    """
    return float(factor_completeness(importance).mean())


def code_disentanglement(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``D_i = 1 + Σ_j P_ij log_F P_ij`` with ``P_ij = R_ij / Σ_j R_ij`` (Eastwood & Williams 2018, § 2).

    A dead code (a row of zeros) gets 0, and weighs nothing in `disentanglement`. With a single factor (``F = 1``, where
    the base of the logarithm would be 1) a live code can tell of nothing else and gets 1.

    Args:
        importance: R, non-negative ``[V, F]``.

    Returns:
        ``D_i`` in ``[0, 1]``, ``[V]``.
    """
    return _concentration(_checked(importance))


def factor_completeness(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``C_j = 1 + Σ_i P_ij log_V P_ij`` with ``P_ij = R_ij / Σ_i R_ij`` (Eastwood & Williams 2018, § 2).

    ``V`` counts dead codes too. A factor that no code tells of (a column of zeros) gets 0; with a single variable
    (``V = 1``) any other factor gets 1.

    Args:
        importance: R, non-negative ``[V, F]``.

    Returns:
        ``C_j`` in ``[0, 1]``, ``[F]``.
    """
    return _concentration(_checked(importance).T)


def read_factors(
    codes: Codes, factors: Factors, *, columns: Sequence[int] | None = None, seed: int = 0
) -> tuple[Reading, ...]:
    """Fit one forest a factor on the train split of some columns, and score it on the test split.

    ``accuracy = mean[ŷ = y]`` for a categorical factor, else ``R² = 1 - Σ_n |y_n - ŷ_n|² / Σ_n |y_n - ȳ|²`` (0 if the
    test split has one value only), where ``y`` is the index of an ordinal factor, and the pair (cos, sin) of the angle
    of a circular one: by its index, the two sides of the seam would be far apart.

    Args:
        codes: the codes of ``n`` data.
        factors: the ``F`` factors of the same data.
        columns: the columns to read from; all of them if not given.
        seed: of the split and of the forests.

    Returns:
        ``F`` readings.
    """
    check_matched(codes, factors)
    inputs = codes.columns if columns is None else codes.columns[:, list(columns)]
    train, test = split(len(inputs), seed=seed)
    readable = np.flatnonzero(np.ptp(inputs[train], axis=0) > 0)  # constant columns must not shift the random draws
    used = readable if readable.size else np.array([0])
    readings = []
    for factor in range(len(factors.names)):
        target = _target(factors, factor)
        forest = _forest(factors.kinds[factor], rows=len(train), seed=seed)
        forest.fit(inputs[np.ix_(train, used)], target[train])
        forest.set_params(n_jobs=1)  # threads would add up the trees' predictions in any order
        prediction = forest.predict(inputs[np.ix_(test, used)])
        importance = np.zeros(inputs.shape[1])
        importance[used] = forest.feature_importances_
        readings.append(Reading(_score(factors.kinds[factor], target[test], prediction), importance))
    return tuple(readings)


def split(n: int, *, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row numbers of a random three quarters to train on, and of the rest to test on."""
    if n < 8:
        raise ValueError(f"the rows are split into train and test, for which at least 8 are needed; got {n}")
    order = np.random.default_rng(seed).permutation(n)
    return order[n // 4 :], order[: n // 4]


def _concentration(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - entropy of each row, normalised to sum 1, in the base of its length; 0 for rows of zeros ``[rows]``."""
    sums = rows.sum(axis=1)
    live = sums > 0
    p = rows[live] / sums[live, None]
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(axis=1)
    result = np.zeros(len(rows))
    result[live] = np.clip(1.0 - entropy / np.log(max(rows.shape[1], 2)), 0.0, 1.0)  # length 1: the entropy is 0
    return result


def _checked(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    importance = np.asarray(importance, dtype=np.float64)
    if importance.ndim != 2 or importance.size == 0:
        raise ValueError(f"importance must be a matrix [V, F] that is not empty; got shape {importance.shape}")
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise ValueError("importance must be finite and non-negative")
    return importance


def _target(factors: Factors, factor: int) -> NDArray[Any]:
    """What a forest learns: classes ``[n]``, the index ``[n]``, or cosine and sine ``[n, 2]``."""
    match factors.kinds[factor]:
        case "categorical":
            return factors.classes(factor)
        case "ordinal":
            return factors.values[:, factor].astype(np.float64)
        case "circular":
            angles = factors.angles(factor)
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)


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


def _score(kind: str, target: NDArray[Any], prediction: NDArray[Any]) -> float:
    if kind == "categorical":
        return float((target == prediction).mean())
    spread = ((target - target.mean(axis=0)) ** 2).sum()
    return float(1.0 - ((target - prediction) ** 2).sum() / spread) if spread > 0 else 0.0
