"""The columns of a table: what kind of values each has, as numbers and back in the user's own units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.cells import as_labels, as_numbers, as_seconds, content_of, refuse_infinities

__all__ = ["Column", "ColumnKind", "column_of", "kind_of", "number_kind"]

ColumnKind: TypeAlias = Literal["number", "category", "count", "flag", "time"]

MOST_CATEGORIES = 100
"""Different texts of a column that becomes a category by its content; more look like names of the rows."""

LARGEST_COUNT = 2**24
"""Whole numbers below it are exact in float32."""


@dataclass(frozen=True)
class Column:
    """A column of a table, and how its values become the numbers of x.

    Attributes:
        name: as in the table.
        kind: a ``number`` becomes (value - mean) / scale, and so does a ``time``, of which the value is in seconds
            since 1970 (UTC); a ``category`` becomes its code, the place of its label from 0; a ``count`` (whole, 0 or
            more) and a ``flag`` (0 or 1) stay what they are. What is missing is NaN.
        size: K, the number of categories of a category; 1 of all other columns.
        labels: names of the K categories; whole numbers are written without a point.
        mean: of the training data, in the column's own units (of times, seconds since 1970); 0 where nothing is
            standardised.
        scale: standard deviation of the training data, in the column's own units (seconds); 1 where nothing is
            standardised.
    """

    name: str
    kind: ColumnKind
    size: int = 1
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def standardised(self) -> bool:
        """Whether mean and scale are taken from the training data."""
        return self.kind in ("number", "time")

    def numbers(self, values: pd.Series) -> NDArray[np.float64]:
        """The values of some rows as numbers before they are standardised, [B]; NaN where missing.

        Raises:
            ValueError: a value is of another kind, an infinity or an unknown category; names column, row and value.
        """
        if self.kind == "category":
            codes, labels = as_labels(self.name, values)
            place = {label: float(code) for code, label in enumerate(self.labels)}
            unknown = [code for code, label in enumerate(labels) if label not in place]
            if unknown:
                row = int(np.isin(codes, unknown).argmax())
                raise ValueError(
                    f"column '{self.name}' has the unknown category {labels[codes[row]]!r} in row {row}; known are: "
                    f"{_listed(self.labels)}"
                )
            return np.array([*(place[label] for label in labels), np.nan])[codes]  # the code -1 is the last: missing
        found = as_seconds(self.name, values) if self.kind == "time" else as_numbers(self.name, values)
        refuse_infinities(self.name, found)
        if self.kind in _EXPECTED:
            fits, expected = _EXPECTED[self.kind]
            _refuse(self, found, ~np.isnan(found) & ~fits(found), expected)
        return found

    def encoded(self, values: pd.Series) -> NDArray[np.float64]:
        """The values of some rows as they stand in x, [B]; NaN where missing.

        Raises:
            ValueError: as :meth:`numbers`.
        """
        return (self.numbers(values) - self.mean) / self.scale

    def decoded(self, x: Tensor | NDArray[Any]) -> pd.Series:
        """What a column of x, [B], means in the column's own units.

        Returns:
            float64 of numbers, counts and flags; times (UTC, to the second) and labels of categories; what is NaN is
            missing.

        Raises:
            ValueError: a code that no category has.
        """
        found = np.asarray(x, dtype=np.float64)
        if self.kind == "category":
            missing = np.isnan(found)
            known = missing | ((found >= 0) & (found < self.size) & (found == np.floor(found)))
            _refuse(self, found, ~known, f"codes of categories, whole numbers from 0 to {self.size - 1}")
            codes = np.where(missing, -1, found).astype(np.int64)
            return pd.Series(pd.Categorical.from_codes(codes, categories=list(self.labels)), name=self.name)
        values = found * self.scale + self.mean
        if self.kind == "time":
            seconds = pd.Series(np.round(values), name=self.name)
            return pd.to_datetime(seconds, unit="s").dt.as_unit("s")
        return pd.Series(values, name=self.name)


_Fits: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.bool_]]

_EXPECTED: dict[str, tuple[_Fits, str]] = {
    "count": (
        lambda found: (found >= 0) & (found < LARGEST_COUNT) & (found == np.floor(found)),
        "counts, whole numbers from 0 below 2^24",
    ),
    "flag": (lambda found: (found == 0) | (found == 1), "flags, 0 or 1"),
}


def column_of(name: str, values: pd.Series, kind: ColumnKind | None = None) -> Column:
    """What a column is, by its content where no kind is given; not standardised yet.

    Args:
        name: of the column.
        values: of all rows.
        kind: as the user has it; None is :func:`kind_of`.

    Raises:
        ValueError: the values are not of that kind, or of none.
    """
    chosen = kind_of(name, values) if kind is None else kind
    if chosen != "category":
        return Column(name, chosen)
    labels = as_labels(name, values)[1]
    if kind is None and len(labels) > MOST_CATEGORIES:
        raise ValueError(
            f"column '{name}' has {len(labels):,} different texts in {len(values):,} rows, as names of rows have: "
            f"leave it out by drop, or take it as it is by kinds={{'{name}': 'category'}}"
        )
    return Column(name, chosen, len(labels), labels)


def kind_of(name: str, values: pd.Series) -> ColumnKind:
    """The kind of a column by its content.

    - texts are a ``category``, but a ``time`` where all of them are dates of ISO 8601 (``2024-05-01``);
    - dates are a ``time``;
    - truth values are a ``flag``, and so are numbers of which each is 0 or 1;
    - whole numbers that begin at 0 and stay below 2^24 are a ``count``;
    - all other numbers are a ``number``.

    Missing values do not count, whatever the others are.

    Args:
        name: of the column, for the error.
        values: of all rows.

    Raises:
        ValueError: texts among numbers, values of several types or of a type that is none of these, or infinities.
    """
    content = content_of(name, values)
    if content == "text":
        return "category"
    if content != "number":
        return "time" if content == "time" else "flag"
    found = as_numbers(name, values)
    refuse_infinities(name, found)
    found = found[~np.isnan(found)]
    return number_kind(found.min(), found.max(), bool((found == np.floor(found)).all())) if len(found) else "number"


def number_kind(smallest: float, largest: float, whole: bool) -> ColumnKind:
    """The kind of a column of numbers, as :func:`kind_of` has it."""
    if whole and smallest >= 0 and largest <= 1:
        return "flag"
    return "count" if whole and smallest == 0 and largest < LARGEST_COUNT else "number"


def _listed(labels: tuple[str, ...]) -> str:
    """The first labels."""
    shown = ", ".join(repr(label) for label in labels[:10])
    return shown if len(labels) <= 10 else f"{shown} and {len(labels) - 10} more"


def _refuse(column: Column, found: NDArray[np.float64], wrong: NDArray[np.bool_], expected: str) -> None:
    """A ValueError for the first value that is wrong."""
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"column '{column.name}' has {found[row]:g} in row {row}, expected {expected}")
