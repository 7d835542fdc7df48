"""The interventional robustness score (IRS)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = ["IRS", "irs"]

QUANTILE = 0.99


@dataclass(frozen=True, eq=False)
class IRS:
    """The result of `irs` for ``V`` variables and ``F`` factors.

    Attributes:
        irs: the mean of ``code_irs`` with the weights ``reach``, in ``[0, 1]``; 0 where all variables are dead.
        code_irs: the greatest robustness of each variable ``[V]``; 0 for a dead one.
        robustness: how little each variable moves while each factor stays, in ``[0, 1]``, ``[V, F]``.
        reach: how far each variable moves from its mean when everything changes ``[V]``.
    """

    irs: float
    code_irs: NDArray[np.float64]
    robustness: NDArray[np.float64]
    reach: NDArray[np.float64]


def irs(codes: Codes, factors: Factors, *, seed: int = 0) -> IRS:
    """``IRS_ij = 1 - E_{v_j}[ max |E[z_i|v_j] - z_i| ] / max |E[z_i] - z_i|``, greatest over ``j``, mean over ``i``.

    Suter et al., Robustly Disentangled Causal Mechanisms, ICML 2019: how far a variable can be moved from its mean by
    all other factors while factor ``j`` stays, against how far it can be moved at all. The maximum is the 99 %
    quantile, which few outliers do not change. The distance in a discrete variable is the Euclidean one over its
    columns. Only differences to a mean enter, so any kind of factor will do; a continuous one stays within one of 20
    bins. The paper assumes that factors do not cause each other; in the rows given they should be independent.

    Values with few rows bring the score up: a value with a single row moves nothing.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: not used (nothing is drawn); all metrics share one signature.
    """
    check_matched(codes, factors)
    own = [list(codes.columns_of(variable)) for variable in range(len(codes.variables))]
    reach = _reach(codes.columns, own)
    live = reach > 0
    robustness = np.zeros((len(own), len(factors.names)))
    for factor in range(len(factors.names)):
        classes = factors.classes(factor)
        moved = np.zeros(len(own))
        for value, count in enumerate(np.bincount(classes)):
            moved += count / len(classes) * _reach(codes.columns[classes == value], own)
        robustness[live, factor] = np.clip(1.0 - moved[live] / reach[live], 0.0, 1.0)
    code_irs = robustness.max(axis=1)
    total = float(np.average(code_irs, weights=reach)) if live.any() else 0.0
    return IRS(total, code_irs, robustness, reach)


def _reach(columns: NDArray[np.float64], own: list[list[int]]) -> NDArray[np.float64]:
    """How far each variable is from its mean, in the 99 % quantile ``[V]``; 0 for one that does not move."""
    moving = np.ptp(columns, axis=0) > 0  # rounding of the mean would move a constant column
    squares = np.where(moving, columns - columns.mean(axis=0), 0.0) ** 2
    distances = np.stack([np.sqrt(squares[:, indices].sum(axis=1)) for indices in own], axis=1)  # [n, V]
    return np.asarray(np.quantile(distances, QUANTILE, axis=0))
