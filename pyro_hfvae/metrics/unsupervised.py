"""Measures of codes without factors: active units, and the total correlation between and within blocks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors

__all__ = ["ActiveUnits", "TotalCorrelation", "active_units", "gaussian_total_correlation"]

ACTIVE = 0.01
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """The result of `active_units` for ``V`` variables.

    Attributes:
        count: the number of active variables.
        active: which ``[V]``.
        variance: ``Var_x(E[z_i|x])`` ``[V]``.
        block_count: the number of active variables of each block.
    """

    count: int
    active: NDArray[np.bool_]
    variance: NDArray[np.float64]
    block_count: dict[str, int]


@dataclass(frozen=True, eq=False)
class TotalCorrelation:
    """The result of `gaussian_total_correlation`, in nats; infinite where one column is a linear function of others.

    Attributes:
        between: that of the blocks with each other.
        within: that of the variables of each block.
    """

    between: float
    within: dict[str, float]


def active_units(codes: Codes, factors: Factors | None = None, *, seed: int = 0) -> ActiveUnits:
    """``Var_x(E_q(z|x)[z_i]) > .01``: the variables whose posterior mean depends on the datum.

    Burda, Grosse, Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, § 5.1. The codes must be posterior means,
    as `pyro_hfvae.metrics.encode` gives them, and the prior's variance of the order of 1. For a discrete variable the
    variances of its probabilities are added.

    Args:
        codes: the codes of ``n`` data.
        factors: not used; all metrics share one signature.
        seed: not used.
    """
    variance = codes.variances()
    active = variance > ACTIVE
    block_count = {block: int(active[list(variables)].sum()) for block, variables in codes.blocks.items()}
    return ActiveUnits(int(active.sum()), active, variance, block_count)


def gaussian_total_correlation(codes: Codes, factors: Factors | None = None, *, seed: int = 0) -> TotalCorrelation:
    """``TC = ½ (Σ_p log det Σ_p - log det Σ)`` of the parts ``p``, which are blocks or the variables of a block.

    The total correlation of the normal distribution with the covariance of the codes. It is that of the codes only if
    they are normal together; otherwise it sees linear dependence alone, and codes that depend on each other without
    correlation read 0. The exact terms of the objective are `HierarchicalELBO.aggregate_terms`.

    A discrete variable enters with its columns but the last, which follows from the others. Constant columns are
    left out. On ``n`` data of ``d`` independent columns the value is too high by about ``d² / 4n``.

    Args:
        codes: the codes of ``n`` data.
        factors: not used; all metrics share one signature.
        seed: not used.

    Raises:
        ValueError: two blocks share a variable.
    """
    blocks = list(codes.blocks.values())
    members = [variable for variables in blocks for variable in variables]
    if len(set(members)) < len(members):
        twice = sorted({codes.variables[v] for v in members if members.count(v) > 1})
        raise ValueError(f"total correlation between blocks needs blocks that share no variable; shared: {twice}")
    moving = np.ptp(codes.columns, axis=0) > 0
    columns = {v: [c for c in _free(codes.columns_of(v)) if moving[c]] for v in members}
    live = np.flatnonzero(moving)
    scaled = np.zeros_like(codes.columns)  # deviations of 1 keep the determinants in range
    scaled[:, live] = (codes.columns[:, live] - codes.columns[:, live].mean(axis=0)) / codes.columns[:, live].std(
        axis=0
    )
    covariance = scaled.T @ scaled / len(scaled)  # [C, C]
    by_block = [[c for v in variables for c in columns[v]] for variables in blocks]
    within = {
        block: _total_correlation(covariance, [columns[v] for v in variables])
        for block, variables in codes.blocks.items()
    }
    return TotalCorrelation(_total_correlation(covariance, by_block), within)


def _free(columns: tuple[int, ...]) -> tuple[int, ...]:
    return columns[:-1] if len(columns) > 1 else columns


def _total_correlation(covariance: NDArray[np.float64], parts: list[list[int]]) -> float:
    """``-½ log det`` of the covariance of the parts once each is white; a part may be singular itself.

    A single part depends on nothing: exactly 0, whatever the rounding of a determinant would be.
    """
    parts = [part for part in parts if part]  # what is constant has no columns here
    if len(parts) < 2:
        return 0.0
    white: list[NDArray[np.float64]] = []
    for part in parts:
        variances, directions = np.linalg.eigh(covariance[np.ix_(part, part)])
        kept = variances > ROUNDING * max(variances[-1], 1.0)
        basis = np.zeros((len(covariance), int(kept.sum())))
        basis[part] = directions[:, kept] / np.sqrt(variances[kept])
        white.append(basis)
    together = np.concatenate(white, axis=1)
    variances = np.linalg.eigvalsh(together.T @ covariance @ together)
    if variances[0] <= ROUNDING * variances[-1]:
        return float("inf")
    return max(float(-0.5 * np.log(variances).sum()), 0.0)
