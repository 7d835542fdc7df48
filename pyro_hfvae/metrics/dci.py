"""Disentanglement, completeness and informativeness (DCI), of variables and of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors
from pyro_hfvae.metrics.regressors import Reader, Reading, chance, read_factors

__all__ = [
    "DCI",
    "code_disentanglement",
    "completeness",
    "dci",
    "dci_from_readings",
    "disentanglement",
    "factor_completeness",
    "weighted_completeness",
]


@dataclass(frozen=True, eq=False)
class DCI:
    """The result of `dci` for ``V`` variables in ``D`` blocks and ``F`` factors.

    Attributes:
        disentanglement: D in ``[0, 1]``: does each variable encode one factor only?
        completeness: C in ``[0, 1]``: is each factor encoded by one variable only?
        weighted_completeness: the same with the weights of `weighted_completeness`.
        informativeness: I in ``[0, 1]``: the mean of ``factor_informativeness``.
        code_disentanglement: ``D_i`` of each variable ``[V]``.
        factor_completeness: ``C_j`` of each factor ``[F]``.
        factor_informativeness: the scores, with a negative R² clipped to 0 ``[F]``.
        score: the raw scores on the test split: accuracy for a categorical factor, else R² ``[F]``.
        chance: the score of a guess that has seen no code ``[F]``, see `pyro_hfvae.metrics.regressors.chance`.
        importance: R, how much each variable helps to predict each factor ``[V, F]``; a column sums to 1, or to 0 if no
            variable predicts the factor.
        blocks: the names of the ``D`` blocks.
        block_importance: the importances of the variables of each block, summed ``[D, F]``.
        disentanglement_of_blocks: D of ``block_importance``: does each block encode one factor only?
        completeness_of_blocks: C of ``block_importance``: is each factor encoded by one block only?
        block_disentanglement: ``D_d`` of each block ``[D]``.
    """

    disentanglement: float
    completeness: float
    weighted_completeness: float
    informativeness: float
    code_disentanglement: NDArray[np.float64]
    factor_completeness: NDArray[np.float64]
    factor_informativeness: NDArray[np.float64]
    score: NDArray[np.float64]
    chance: NDArray[np.float64]
    importance: NDArray[np.float64]
    blocks: tuple[str, ...]
    block_importance: NDArray[np.float64]
    disentanglement_of_blocks: float
    completeness_of_blocks: float
    block_disentanglement: NDArray[np.float64]


def dci(codes: Codes, factors: Factors, *, reader: Reader = "forest", seed: int = 0) -> DCI:
    """D, C and I (Eastwood & Williams, A Framework for the Quantitative Evaluation of DR, ICLR 2018).

    One regressor a factor gives the importance matrix ``R`` ``[V, F]`` and, on a test split, the informativeness; D and
    C follow from ``R`` (§ 2: `disentanglement`, `completeness`). The importances of the columns of one discrete
    variable are summed, and so are those of the variables of a block. A categorical factor is classified (accuracy), an
    ordinal or continuous one is regressed (R²), a circular one by the cosine and sine of its angle together (R²).

    Informativeness is higher-is-better here; the paper reports the error. A factor that no code holds still has a
    column of ``R`` that sums to 1 (of noise), as in the paper: look at the informativeness before D and C.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        reader: where the importances come from: a random forest, the lasso, or least squares
            (`pyro_hfvae.metrics.regressors.read_factors`).
        seed: of the split and of the forests.

    Returns:
        The numbers and what they are made of.
    """
    return dci_from_readings(codes, factors, read_factors(codes, factors, reader=reader, seed=seed), seed=seed)


def dci_from_readings(codes: Codes, factors: Factors, readings: Sequence[Reading], *, seed: int = 0) -> DCI:
    """DCI from what `read_factors` made of all columns with the same seed, for callers that need the readings too."""
    by_column = np.stack([reading.importance for reading in readings], axis=1)  # [C, F]
    importance = np.stack([by_column[list(codes.columns_of(v))].sum(axis=0) for v in range(len(codes.variables))])
    by_block = np.stack([importance[list(variables)].sum(axis=0) for variables in codes.blocks.values()])  # [D, F]
    score = np.array([reading.score for reading in readings])
    informativeness = np.maximum(score, 0.0)
    return DCI(
        disentanglement=disentanglement(importance),
        completeness=completeness(importance),
        weighted_completeness=weighted_completeness(importance),
        informativeness=float(informativeness.mean()),
        code_disentanglement=code_disentanglement(importance),
        factor_completeness=factor_completeness(importance),
        factor_informativeness=informativeness,
        score=score,
        chance=chance(factors, seed=seed),
        importance=importance,
        blocks=tuple(codes.blocks),
        block_importance=by_block,
        disentanglement_of_blocks=disentanglement(by_block),
        completeness_of_blocks=completeness(by_block),
        block_disentanglement=code_disentanglement(by_block),
    )


def disentanglement(importance: NDArray[np.float64]) -> float:
    """``D = Σ_i ρ_i D_i`` with ``ρ_i = Σ_j R_ij / Σ_ij R_ij`` (Eastwood & Williams 2018, § 2); 0 if ``R`` is 0.

    Args:
        importance: R, non-negative ``[V, F]``.
    """
    importance = _checked(importance)
    weights = importance.sum(axis=1)
    if not weights.any():
        return 0.0
    return float(np.average(code_disentanglement(importance), weights=weights))


def completeness(importance: NDArray[np.float64]) -> float:
    """``C = (1/F) Σ_j C_j``, every factor with the same weight (Eastwood & Williams 2018, § 2).

    Args:
        importance: R, non-negative ``[V, F]``.
    """
    return float(factor_completeness(importance).mean())


def weighted_completeness(importance: NDArray[np.float64]) -> float:
    """``C = Σ_j w_j C_j`` with ``w_j = Σ_i R_ij / Σ_ij R_ij``, as some programs report it; 0 if ``R`` is 0.

    The paper's is `completeness`. The two differ where the columns of ``R`` do not have the same sum.

    Args:
        importance: R, non-negative ``[V, F]``.
    """
    return disentanglement(_checked(importance).T)


def code_disentanglement(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``D_i = 1 + Σ_j P_ij log_F P_ij`` with ``P_ij = R_ij / Σ_j R_ij`` (Eastwood & Williams 2018, § 2).

    A dead code (a row of zeros) gets 0, and weighs nothing in `disentanglement`. With a single factor (``F = 1``, where
    the base of the logarithm would be 1) a live code cannot encode another and gets 1.

    Args:
        importance: R, non-negative ``[V, F]``.

    Returns:
        ``D_i`` in ``[0, 1]``, ``[V]``.
    """
    return _concentration(_checked(importance))


def factor_completeness(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``C_j = 1 + Σ_i P_ij log_V P_ij`` with ``P_ij = R_ij / Σ_i R_ij`` (Eastwood & Williams 2018, § 2).

    ``V`` counts dead codes too. A factor that no code predicts (a column of zeros) gets 0; with a single variable
    (``V = 1``) any other factor gets 1.

    Args:
        importance: R, non-negative ``[V, F]``.

    Returns:
        ``C_j`` in ``[0, 1]``, ``[F]``.
    """
    return _concentration(_checked(importance).T)


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
