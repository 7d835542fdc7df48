"""The factors of some held-out data: those that can be measured, and the reason why others cannot."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.data import Images
from pyro_hfvae.metrics import Factors

__all__ = ["KnownFactors", "known_factors"]

FEWEST = 5
"""Data that must have another value than the commonest: a split into training and test data leaves some in both."""


class KnownFactors(NamedTuple):
    """The factors of some data."""

    factors: Factors | None
    """Those that vary enough; None if no factor does."""
    left_out: dict[str, str]
    """Of the others, the name and the reason."""


def known_factors(source: Images, values: NDArray[np.int64]) -> KnownFactors:
    """Which factors of the data vary enough to be measured.

    Args:
        source: the data.
        values: the factors of some of them, [n, F].
    """
    kept, left_out = [], {}
    for place, name in enumerate(source.factor_names):
        classes = values[:, place]
        if source.factor_kinds[place] == "circular":
            classes = classes % _period(source, place)
        found, counts = np.unique(classes, return_counts=True)
        rest = len(classes) - int(counts.max())
        if len(found) == 1:
            left_out[name] = f"it has the value {found[0]} in all {len(classes):,} held-out data"
        elif rest < FEWEST:
            left_out[name] = (
                f"all but {rest} of the {len(classes):,} held-out data have the value {found[counts.argmax()]}; at "
                f"least {FEWEST} must have another"
            )
        else:
            kept.append(place)
    if not kept:
        return KnownFactors(None, left_out)
    kinds = tuple(source.factor_kinds[place] for place in kept)
    periods = {
        source.factor_names[place]: _period(source, place) for place in kept if source.factor_kinds[place] == "circular"
    }
    names = tuple(source.factor_names[place] for place in kept)
    return KnownFactors(Factors(values[:, kept], names, kinds, periods), left_out)


def _period(source: Images, place: int) -> int:
    """Steps in one turn of a circular factor."""
    return max(2, source.factor_periods.get(source.factor_names[place], source.factor_sizes[place]))
