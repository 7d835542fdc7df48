"""Unsupervised disentanglement ranking (UDR): do runs that differ by their seed find the same variables?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pyro_hfvae.metrics.codes import Codes
from pyro_hfvae.metrics.unsupervised import active_units

__all__ = ["UDR", "udr"]


@dataclass(frozen=True, eq=False)
class UDR:
    """The result of `udr` for ``R`` runs.

    Attributes:
        score: of each run, the median of its agreement with the others, in ``[0, 1]``, ``[R]``.
        agreement: of each pair of runs; NaN on the diagonal ``[R, R]``.
    """

    score: NDArray[np.float64]
    agreement: NDArray[np.float64]


def udr(runs: Sequence[Codes], informative: Sequence[NDArray[np.bool_]] | None = None) -> UDR:
    """``UDR_ij = 1/(d_a + d_b) [Σ_b r_b² / Σ_a R(a, b) + Σ_a r_a² / Σ_b R(a, b)]`` for the variables of two runs.

    Duan et al., Unsupervised Model Selection for Variational Disentangled Representation Learning, ICLR 2020, with
    ``R`` the absolute Spearman correlation of informative variable ``a`` of run ``i`` with ``b`` of run ``j`` over the
    same data, and ``r`` the greatest of a column or row. It is 1 where each variable has one partner, and about
    ``1 / d`` times the greatest correlation where all correlate alike.

    Args:
        runs: the codes of the same data, in the same order, by two models or more.
        informative: the variables of each run that count ``[V]``, in the paper those with a mean KL of more than .01
            nats; those that `active_units` finds by default.

    Raises:
        ValueError: fewer than two runs, different numbers of data, or a discrete variable.
    """
    if len(runs) < 2:
        raise ValueError(f"UDR compares runs with each other: give at least 2; got {len(runs)}")
    if len({len(codes.columns) for codes in runs}) > 1:
        raise ValueError(f"runs must have codes of the same data; they have {[len(c.columns) for c in runs]} rows")
    if informative is None:
        informative = [active_units(codes).active for codes in runs]
    ranks = [_ranks(codes, which, run) for run, (codes, which) in enumerate(zip(runs, informative, strict=True))]
    agreement = np.full((len(runs), len(runs)), np.nan)
    for i in range(len(runs)):
        for j in range(i):
            agreement[i, j] = agreement[j, i] = _agreement(np.abs(ranks[i].T @ ranks[j]))
    return UDR(np.nanmedian(agreement, axis=1), agreement)


def _ranks(codes: Codes, informative: NDArray[np.bool_], run: int) -> NDArray[np.float64]:
    """The ranks of informative variables, with mean 0 and length 1 ``[n, d]``, so that products are correlations."""
    if informative.shape != (len(codes.variables),):
        raise ValueError(
            f"informative must have one entry for each of the {len(codes.variables)} variables of run {run}; "
            f"got shape {informative.shape}"
        )
    columns = []
    for variable in np.flatnonzero(informative).tolist():
        if len(codes.columns_of(variable)) > 1:
            raise ValueError(
                f"variable {codes.variables[variable]!r} of run {run} is discrete: its categories have no ranks; "
                "leave it out by `informative`"
            )
        columns.append(codes.columns[:, codes.columns_of(variable)[0]])
    ranks = rankdata(np.stack(columns, axis=1), axis=0) if columns else np.zeros((len(codes.columns), 0))
    ranks = ranks - ranks.mean(axis=0)
    lengths = np.linalg.norm(ranks, axis=0)
    return np.asarray(np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0))


def _agreement(correlation: NDArray[np.float64]) -> float:
    """Of a matrix ``[d_a, d_b]``; 0 where a run has no informative variable."""
    if not correlation.size:
        return 0.0
    parts = 0.0
    for matrix in (correlation, correlation.T):
        sums = matrix.sum(axis=0)
        parts += np.divide(matrix.max(axis=0) ** 2, sums, out=np.zeros_like(sums), where=sums > 0).sum()
    return float(parts / sum(correlation.shape))
