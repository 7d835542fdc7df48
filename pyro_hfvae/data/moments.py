"""Mean and standard deviation of columns, block by block, so that no copy of the whole is made."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "moments"]

BLOCK = 2**16
"""Rows that are looked at together."""


class Rows(Protocol):
    """Rows of numbers that can be taken by index."""

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[Any]:
        """The rows at ``indices``, [B, D]."""


class Moments(NamedTuple):
    """Of the present values of each column, [D]; NaN where none is present."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def moments(rows: Rows, indices: NDArray[np.int64], block: int = BLOCK) -> Moments:
    """Mean and standard deviation, Σ (x - mean)² / count, of the columns of some rows; NaN is left out.

    Blocks are merged by their counts, means and sums of squares (Chan, Golub and LeVeque, 1979).

    Args:
        rows: [N, D].
        indices: of the rows, [M], 1 or more.
        block: how many of them are looked at together.
    """
    count: Any = 0.0
    mean: Any = 0.0
    squares: Any = 0.0
    for start in range(0, len(indices), block):
        values = np.asarray(rows[indices[start : start + block]], dtype=np.float64)  # [B, D]
        there = ~np.isnan(values)
        new = there.sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            new_mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(new, 1)
            new_squares = np.where(there, (values - new_mean) ** 2, 0.0).sum(axis=0)
            total, difference = count + new, new_mean - mean
            squares = squares + new_squares + difference**2 * count * new / np.maximum(total, 1)
            mean = mean + difference * new / np.maximum(total, 1)
        count = total
    with np.errstate(invalid="ignore", divide="ignore"):
        return Moments(np.where(count > 0, mean, np.nan), np.sqrt(np.where(count > 0, squares / count, np.nan)))
