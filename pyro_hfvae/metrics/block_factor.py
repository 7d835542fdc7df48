"""Which block has information about which factor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.regressors import Reading, chance, measures, read_factors

__all__ = ["BlockFactor", "block_factor", "block_factor_from_readings"]


@dataclass(frozen=True, eq=False)
class BlockFactor:
    """The result of `block_factor` for ``D`` blocks and ``F`` factors.

    Attributes:
        blocks: the names of the rows.
        factors: the names of the columns.
        score: how well each factor is read off each block, raw: R² may be negative ``[D, F]``.
        all: the same off all codes together ``[F]``.
        chance: the score of one who knows no code ``[F]``.
        measure: "accuracy" or "r2", ``F`` of them.
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    score: NDArray[np.float64]
    all: NDArray[np.float64]
    chance: NDArray[np.float64]
    measure: tuple[Literal["accuracy", "r2"], ...]


def block_factor(codes: Codes, factors: Factors, *, seed: int = 0) -> BlockFactor:
    """``score_dj``: how well a random forest reads factor ``j`` off the columns of block ``d``, on a test split.

    Accuracy for a categorical factor, R² for any other (`pyro_hfvae.metrics.regressors.read_factors`). In a model that
    is disentangled by blocks, one row of each column is close to ``all`` and the others to ``chance``, which is the
    accuracy of always answering the commonest class of the train split, and 0 for R².

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split and of the forests.

    Returns:
        The table, with the scores of all codes together and of chance.
    """
    return block_factor_from_readings(codes, factors, read_factors(codes, factors, seed=seed), seed=seed)


def block_factor_from_readings(
    codes: Codes, factors: Factors, of_all: Sequence[Reading], *, seed: int = 0
) -> BlockFactor:
    """The table from what `read_factors` made of all columns with the same seed, so that it is not fitted twice."""
    check_matched(codes, factors)
    known = {tuple(range(codes.columns.shape[1])): of_all}
    rows = []
    for block in codes.blocks:
        columns = tuple(sorted(codes.block_columns(block)))
        if columns not in known:
            known[columns] = read_factors(codes, factors, columns=columns, seed=seed)
        rows.append([reading.score for reading in known[columns]])
    return BlockFactor(
        blocks=tuple(codes.blocks),
        factors=factors.names,
        score=np.array(rows),
        all=np.array([reading.score for reading in of_all]),
        chance=chance(factors, seed=seed),
        measure=measures(factors),
    )
