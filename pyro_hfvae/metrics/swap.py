"""Which factors a picture takes from which block: read off pictures that have one block of another datum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from pyro_hfvae.metrics.codes import Factors
from pyro_hfvae.metrics.regressors import chance, measures, score, split

__all__ = ["Paint", "SwapScores", "swap_scores"]

Paint = Callable[[str | None, NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
"""Paints pictures ``[B, ...]`` of a block of B data with all else of B others, or with None of the others as they are.

Both are given by the numbers of their rows ``[B]``."""

TREES = 50


@dataclass(frozen=True, eq=False)
class SwapScores:
    """The result of `swap_scores` for ``D`` blocks and ``F`` factors.

    Attributes:
        blocks: the names of the rows.
        factors: the names of the columns.
        given: how well the factor of the datum that gave the block is read off the picture, raw: R² may be negative
            ``[D, F]``.
        kept: the same for the factor of the datum that gave all else ``[D, F]``.
        unswapped: how well the factor is read off pictures of data as they are, which is as much as can be had ``[F]``.
        chance: the score of one who sees no picture ``[F]``.
        measure: "accuracy" or "r2", ``F`` of them.
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    given: NDArray[np.float64]
    kept: NDArray[np.float64]
    unswapped: NDArray[np.float64]
    chance: NDArray[np.float64]
    measure: tuple[Literal["accuracy", "r2"], ...]


def swap_scores(paint: Paint, blocks: Sequence[str], factors: Factors, *, seed: int = 0) -> SwapScores:
    """Whether a block decides its factor in what the model paints, and nothing else does.

    Codes show what a block encodes, not what the decoder uses: two blocks may encode the same, and
    one of them alone be painted. Here one block of a datum is painted with all else of another, and extremely
    randomised trees, which have learned factors from pictures that the model painted of data as they are, read the
    picture. Where a block decides factor ``j`` alone, ``given`` of that block is as high as ``unswapped``; ``kept`` is
    so for all other blocks. A factor that several blocks decide together is in between, or lost: then both are low.

    Accuracy for a categorical factor, R² for any other, which is about −1 where the picture follows the other datum.
    The data that are swapped are the test split, each with another one of it; the trees learn from the rest.

    Args:
        paint: paints the pictures.
        blocks: the ``D`` names.
        factors: the ``F`` factors of ``n`` data.
        seed: of the split and of the trees.

    Raises:
        ValueError: fewer than 8 data.
    """
    train, test = split(len(factors.values), seed=seed)
    giving = np.roll(test, 1)  # in random order: never the datum itself
    known, own = (_rows(paint(None, rows, rows)) for rows in (train, test))
    swapped = [_rows(paint(block, giving, test)) for block in blocks]
    given, kept = np.empty((2, len(blocks), len(factors.names)))
    unswapped = np.empty(len(factors.names))
    for factor, kind in enumerate(factors.kinds):
        target = factors.target(factor)
        trees = _trees(kind, seed).fit(known, target[train])
        trees.set_params(n_jobs=1)  # threads would add up the trees' predictions in any order
        unswapped[factor] = score(kind, target[test], trees.predict(own))
        for block, pictures in enumerate(swapped):
            prediction = trees.predict(pictures)
            given[block, factor] = score(kind, target[giving], prediction)
            kept[block, factor] = score(kind, target[test], prediction)
    return SwapScores(
        blocks=tuple(blocks),
        factors=factors.names,
        given=given,
        kept=kept,
        unswapped=unswapped,
        chance=chance(factors, seed=seed),
        measure=measures(factors),
    )


def _rows(pictures: NDArray[Any]) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), -1).astype(np.float32, copy=False)


def _trees(kind: str, seed: int) -> Any:
    """Trees that look at few pixels for each split: of thousands, neighbours carry the same information."""
    make = ExtraTreesClassifier if kind == "categorical" else ExtraTreesRegressor
    return make(n_estimators=TREES, max_features="sqrt", n_jobs=-1, random_state=seed)
