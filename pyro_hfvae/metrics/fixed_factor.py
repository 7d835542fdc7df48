"""Scores from groups of data that share the value of one factor: BetaVAE score and FactorVAE score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.regressors import split, standardised

__all__ = ["BetaVAEScore", "FactorVAEScore", "beta_vae_score", "can_be_fixed", "factor_vae_score"]

GROUP = 64
"""Data in a group, pairs in a group."""
GROUPS = 800
"""Groups that the classifier learns from, and as many others that score it."""


@dataclass(frozen=True, eq=False)
class BetaVAEScore:
    """The result of `beta_vae_score` for ``F`` factors.

    Attributes:
        score: the accuracy on groups that were not learned from, in ``[0, 1]``; chance is ``1 / F``.
        factor_score: the accuracy on the groups of each factor ``[F]``; NaN where there was none.
    """

    score: float
    factor_score: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FactorVAEScore:
    """The result of `factor_vae_score` for ``V`` variables and ``F`` factors.

    Attributes:
        score: the accuracy on groups that were not learned from, in ``[0, 1]``; chance is about ``1 / F``.
        factor_score: the accuracy on the groups of each factor ``[F]``; NaN where there was none.
        votes: how often variable ``i`` varied least in a group of factor ``j``, of the groups learned from ``[V, F]``.
    """

    score: float
    factor_score: NDArray[np.float64]
    votes: NDArray[np.int64]


def beta_vae_score(codes: Codes, factors: Factors, *, seed: int = 0) -> BetaVAEScore:
    """How well a linear classifier predicts which factor is fixed, from ``(1/L) Σ_l |z_l1 - z_l2|`` of ``L`` pairs.

    Higgins et al., beta-VAE, ICLR 2017, § 3: in the pairs of a group, one factor has the same value in both, all others
    are as they come. Here pairs are drawn with replacement from the rows given, with ``L`` = 64; 800 groups from the
    train split are learned from, 800 from the test split scored. A continuous factor is fixed within one of 20 bins.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split and the groups.

    Raises:
        ValueError: a factor has no value with two rows in a split.
    """
    check_matched(codes, factors)
    rng, sides, answers = np.random.default_rng(seed), [], []
    for rows in split(len(codes.columns), seed=seed):
        fixed, first, second = _groups(factors, rows, rng, pairs=True)
        sides.append(np.abs(codes.columns[first] - codes.columns[second]).mean(axis=1))  # [GROUPS, C]
        answers.append(fixed)
    if len(factors.names) == 1:
        return BetaVAEScore(1.0, np.ones(1))
    known, new = standardised(*sides)
    right = LogisticRegression().fit(known, answers[0]).predict(new) == answers[1]
    return BetaVAEScore(float(right.mean()), _by_factor(right, answers[1], len(factors.names)))


def factor_vae_score(codes: Codes, factors: Factors, *, seed: int = 0) -> FactorVAEScore:
    """How well the variable with ``argmin_i Var_group(z_i) / Var(z_i)`` predicts which factor is fixed in a group.

    Kim & Mnih, Disentangling by Factorising, ICML 2018, § 4. The classifier is a majority vote: the factor that was
    fixed most often when the variable varied least. Dead variables never vote. A discrete variable's variance is the
    sum of those of its columns. 800 groups of 64 rows, drawn with replacement, from the train split are learned from,
    800 from the test split are scored. A continuous factor is fixed within one of 20 bins.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split and the groups.

    Raises:
        ValueError: a factor has no value with two rows in a split.
    """
    check_matched(codes, factors)
    rng = np.random.default_rng(seed)
    variances = codes.variances()
    live = np.flatnonzero(variances > 0)
    votes = np.zeros((len(codes.variables), len(factors.names)), dtype=np.int64)
    for learning, rows in zip((True, False), split(len(codes.columns), seed=seed), strict=True):
        fixed, members, _ = _groups(factors, rows, rng, pairs=False)
        if not live.size:
            winner = np.zeros(GROUPS, dtype=np.int64)
        else:
            by_column = codes.columns[members].var(axis=1)  # [GROUPS, C]
            spread = np.stack([by_column[:, list(codes.columns_of(i))].sum(axis=1) for i in live.tolist()], axis=1)
            winner = live[(spread / variances[live]).argmin(axis=1)]  # [GROUPS]
        if learning:
            np.add.at(votes, (winner, fixed), 1)
    right = votes.argmax(axis=1)[winner] == fixed
    right &= votes[winner].sum(axis=1) > 0  # a variable that never voted before answers nothing
    return FactorVAEScore(float(right.mean()), _by_factor(right, fixed, len(factors.names)), votes)


def can_be_fixed(factors: Factors, *, seed: int = 0) -> bool:
    """Whether each factor has a value that two rows share in both splits, without which there are no groups."""
    return all(
        np.bincount(factors.classes(factor)[rows]).max() > 1
        for factor in range(len(factors.names))
        for rows in split(len(factors.values), seed=seed)
    )


def _groups(
    factors: Factors, rows: NDArray[np.int64], rng: np.random.Generator, *, pairs: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The fixed factor ``[GROUPS]`` and the rows of groups ``[GROUPS, GROUP]``, twice for pairs.

    A group of rows has one value of the fixed factor; of a group of pairs, each pair has its own.
    """
    fixed = rng.integers(0, len(factors.names), GROUPS)
    first = np.empty((GROUPS, GROUP), dtype=np.int64)
    second = np.empty((GROUPS, GROUP), dtype=np.int64)
    for factor, name in enumerate(factors.names):
        which = np.flatnonzero(fixed == factor)
        classes = factors.classes(factor)[rows]
        counts = np.bincount(classes)
        shared = np.flatnonzero(counts[classes] > 1)  # places in rows whose value another has too
        if not shared.size:
            raise ValueError(
                f"no two rows of a split share a value of factor {name!r}: give more data, or declare it 'continuous'"
            )
        order = np.argsort(classes, kind="stable")
        start = np.cumsum(counts) - counts
        drawn = shared[rng.integers(0, shared.size, (len(which), GROUP if pairs else 1))]  # a value as often as it is
        values = np.broadcast_to(classes[drawn], (len(which), GROUP))
        for members in (first, second) if pairs else (first,):
            at = start[values] + (rng.random(values.shape) * counts[values]).astype(np.int64)
            members[which] = rows[order[at]]
    return fixed, first, second


def _by_factor(right: NDArray[np.bool_], fixed: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    return np.array([right[fixed == j].mean() if (fixed == j).any() else np.nan for j in range(count)])
