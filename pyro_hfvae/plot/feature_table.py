"""The table of features and blocks: how much of what is decoded of a feature each block decides."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.plot.heat_table import HeatTable, as_array, heat_table
from pyro_hfvae.plot.summary import number

__all__ = ["feature_table"]

MOST = 30
"""Features that are shown, unless there are no more than `ALL`."""
ALL = 40


def feature_table(table: Mapping[str, Any], inactive: Collection[str] = ()) -> HeatTable:
    """A row for each feature, or for those of which most is explained, and a column for each block.

    Args:
        table: `features` of `metrics.json`: names, shares and chance, and how much is explained.
        inactive: blocks that are.
    """
    total, chance = as_array(table["total"]).T, as_array(table["chance"])  # [F, D], [D, F]
    explained = as_array(table["explained"]) if table.get("explained") else np.full(len(total), np.nan)
    chosen = _most_explained(total, explained)
    below = [
        "inactive" if block in inactive else f"chance {number(_mean(row))}"
        for block, row in zip(table["blocks"], chance, strict=True)
    ]
    more = len(total) - len(chosen)
    errors = as_array(table["total_error"])
    caption = (
        "How much of what is decoded of each feature a block decides: the share of its variation that goes when the "
        f"block alone is taken from another datum, with standard errors up to {number(_largest(errors))}. Blocks that "
        "depend on one another can have more than 1. Chance is the mean share of a block of as many variables drawn at "
        "random. Explained is the R² of what is decoded: how much of the variation of the data it has."
    )
    if more:
        caption += f" {more:,} more features, of which less is explained, are left out."
    return heat_table(
        caption,
        [table["features"][at] for at in chosen],
        [*table["blocks"], "explained"],
        np.column_stack([total, explained])[chosen],
        below=[*below, "R²"],
    )


def _most_explained(total: NDArray[np.float64], explained: NDArray[np.float64]) -> Sequence[int]:
    """Which features are shown, in the order of the data."""
    if len(total) <= ALL:
        return range(len(total))
    known = np.where(np.isfinite(explained), explained, -np.inf)
    known[np.isnan(total).all(1)] = -np.inf
    return sorted(np.argsort(-known, kind="stable")[:MOST].tolist())


def _mean(values: NDArray[np.float64]) -> float:
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))
