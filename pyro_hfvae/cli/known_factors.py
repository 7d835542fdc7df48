"""The factors of some held-out data: those that can be measured, and the reason why others cannot."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.data import Data
from pyro_hfvae.metrics import Factors

__all__ = ["KnownFactors", "known_factors"]

FEWEST = 5
"""Data that must have another value than the commonest: a split into training and test data leaves some in both."""


class KnownFactors(NamedTuple):
    """The factors of some data."""

    factors: Factors | None
    """Those that vary enough, of the data of which all of them are known; None if no factor does."""
    left_out: dict[str, str]
    """Of the others, the name and the reason."""
    rows: NDArray[np.int64]
    """Numbers of the data of which all are known, among those given."""


def known_factors(source: Data, values: NDArray[Any]) -> KnownFactors:
    """Which factors of the data vary enough to be measured, and of which data all of them are known.

    A factor that is not known of half of the data is left out, so that it does not take the other data with it.

    Args:
        source: the data.
        values: the factors of some of them, [n, F]; NaN where one is not known.
    """
    missing = np.isnan(values.astype(np.float64))  # [n, F]
    few = {
        name: int(count)
        for name, count in zip(source.factor_names, missing.sum(0), strict=True)
        if 2 * count > len(values)
    }
    left_out = {
        name: f"it is not known of {count:,} of the {len(values):,} held-out data" for name, count in few.items()
    }
    wanted = [place for place, name in enumerate(source.factor_names) if name not in few]
    rows = np.flatnonzero(~missing[:, wanted].any(1))
    kept = []
    for place in wanted:
        reason = _too_constant(source, place, values[rows, place])
        if reason is None:
            kept.append(place)
        else:
            left_out[source.factor_names[place]] = reason
    if not kept:
        return KnownFactors(None, left_out, rows)
    kinds = tuple(source.factor_kinds[place] for place in kept)
    periods = {
        source.factor_names[place]: _period(source, place) for place in kept if source.factor_kinds[place] == "circular"
    }
    names = tuple(source.factor_names[place] for place in kept)
    measured = values[rows][:, kept]
    if "continuous" not in kinds:
        measured = measured.astype(np.int64)
    return KnownFactors(Factors(measured, names, kinds, periods), left_out, rows)


def _too_constant(source: Data, place: int, values: NDArray[Any]) -> str | None:
    """Why a factor varies too little to be measured; None if it varies enough."""
    if not len(values):
        return "no held-out datum has all factors known"
    if source.factor_kinds[place] == "circular":
        values = values % _period(source, place)
    found, counts = np.unique(values, return_counts=True)
    rest = len(values) - int(counts.max())
    if len(found) == 1:
        return f"it has the value {found[0]:g} in all {len(values):,} held-out data"
    if rest < FEWEST:
        return (
            f"all but {rest} of the {len(values):,} held-out data have the value {found[counts.argmax()]:g}; at "
            f"least {FEWEST} must have another"
        )
    return None


def _period(source: Data, place: int) -> int:
    """Steps in one turn of a circular factor."""
    return max(2, source.factor_periods.get(source.factor_names[place], source.factor_sizes[place]))
