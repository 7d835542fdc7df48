"""What every metric is given: codes (latent variables in named blocks) and the factors that made the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "Codes", "FactorKind", "Factors", "bins_of_equal_width", "check_matched"]

FactorKind = Literal["categorical", "ordinal", "continuous", "circular"]

BINS = 20


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of ``n`` data in ``C`` columns, grouped to ``V`` latent variables, and those to named blocks.

    A Gaussian variable has one column (say, its posterior mean); a discrete variable with ``K`` categories has the
    ``K`` columns of its probabilities. Each column belongs to exactly one variable; blocks may overlap (a group of
    blocks is a block too) and need not hold every variable.

    Example:
        >>> style, digit = np.zeros((4, 2)), np.eye(3)[[0, 1, 2, 0]]
        >>> codes = Codes(
        ...     columns=np.hstack([style, digit]),
        ...     variables=("style[0]", "style[1]", "digit"),
        ...     variable_columns=((0,), (1,), slice(2, 5)),
        ...     blocks={"style": (0, 1), "digit": (2,)},
        ... )
        >>> codes.block_columns("digit")
        (2, 3, 4)

    Attributes:
        columns: float ``[n, C]``, finite.
        variables: the ``V`` names.
        variable_columns: the columns of each of the ``V`` variables, as a slice or as numbers.
        blocks: block name to the indices of its variables.
    """

    columns: NDArray[np.float64]
    variables: tuple[str, ...]
    variable_columns: tuple[slice | tuple[int, ...], ...]
    blocks: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        columns = np.asarray(self.columns)
        if columns.ndim != 2 or not np.issubdtype(columns.dtype, np.floating):
            raise ValueError(f"codes must be a float array [n, C]; got {columns.dtype} of shape {columns.shape}")
        if columns.size == 0:
            raise ValueError(f"codes are empty: their shape is {columns.shape}")
        object.__setattr__(self, "columns", columns.astype(np.float64, copy=False))
        self._check_variables()
        self._check_blocks()

    def _check_variables(self) -> None:
        if len(self.variables) != len(self.variable_columns):
            raise ValueError(
                f"{len(self.variables)} variables are named, but columns are given for {len(self.variable_columns)}"
            )
        _check_distinct("variable", self.variables)
        owner: dict[int, str] = {}
        for index, name in enumerate(self.variables):
            indices = self.columns_of(index)
            if not indices:
                raise ValueError(f"variable {name!r} has no columns")
            for column in indices:
                if not 0 <= column < self.columns.shape[1]:
                    raise ValueError(
                        f"variable {name!r} names column {column}; the codes have {self.columns.shape[1]} columns"
                    )
                if column in owner:
                    raise ValueError(f"column {column} belongs to both {owner[column]!r} and {name!r}")
                owner[column] = name
            if not np.isfinite(self.columns[:, indices]).all():
                raise ValueError(f"the codes of variable {name!r} contain NaN or infinity")
        stray = sorted(set(range(self.columns.shape[1])) - owner.keys())
        if stray:
            raise ValueError(f"columns {stray} belong to no variable")

    def _check_blocks(self) -> None:
        if not self.blocks:
            raise ValueError("no blocks are given; name at least one")
        for block, indices in self.blocks.items():
            if not indices:
                raise ValueError(f"block {block!r} has no variables")
            if len(set(indices)) < len(indices):
                raise ValueError(f"block {block!r} names a variable twice: {tuple(indices)}")
            for index in indices:
                if not 0 <= index < len(self.variables):
                    raise ValueError(
                        f"block {block!r} names variable {index}; there are {len(self.variables)} variables"
                    )

    def columns_of(self, variable: int) -> tuple[int, ...]:
        """The column numbers of one variable."""
        columns = self.variable_columns[variable]
        if isinstance(columns, slice):
            return tuple(range(*columns.indices(self.columns.shape[1])))
        return tuple(columns)

    def block_columns(self, block: str) -> tuple[int, ...]:
        """The column numbers of all variables of one block."""
        return tuple(column for variable in self.blocks[block] for column in self.columns_of(variable))

    def variances(self) -> NDArray[np.float64]:
        """The variance over the data of each variable, the sum of those of its columns ``[V]``; 0 for a dead one."""
        moving = np.ptp(self.columns, axis=0) > 0  # rounding of the mean leaves 1e-32 in a constant column
        by_column = np.where(moving, self.columns.var(axis=0), 0.0)
        return np.array([by_column[list(self.columns_of(variable))].sum() for variable in range(len(self.variables))])

    def rows(self, which: NDArray[np.int64]) -> "Codes":
        """The codes of some of the data, in the order given."""
        return replace(self, columns=self.columns[which])


@dataclass(frozen=True, eq=False)
class Factors:
    """The ``F`` factors of ``n`` data, each by the index of its value, or by the value if it is continuous.

    A categorical factor (shape) has no order; an ordinal one (scale) lies on a line; a continuous one (a temperature)
    too, with any value; a circular one (orientation) on a circle, at the angle ``2 π value / period``, so that its last
    value is next to its first.

    The period defaults to the largest value + 1. Give it where that is wrong: the 40 orientations of dSprites run from
    0 to 2π *inclusive*, so its period is 39, and 0 and 39 are one orientation.

    Attributes:
        values: int64 ``[n, F]``; float64 if any factor is continuous, whole numbers for the others.
        names: the ``F`` names.
        kinds: the ``F`` kinds, each "categorical", "ordinal", "continuous" or "circular".
        periods: the period of circular factors, by name, where it is not the largest value + 1.
    """

    values: NDArray[Any]
    names: tuple[str, ...]
    kinds: tuple[FactorKind, ...]
    periods: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        whole = np.issubdtype(values.dtype, np.integer)
        if values.ndim != 2 or not (whole or (np.issubdtype(values.dtype, np.floating) and "continuous" in self.kinds)):
            raise ValueError(
                f"factors must be an integer array [n, F]; got {values.dtype} of shape {values.shape} "
                "(floats are taken where a factor is of kind 'continuous')"
            )
        if values.size == 0:
            raise ValueError(f"factors are empty: their shape is {values.shape}")
        object.__setattr__(self, "values", values.astype(np.int64 if whole else np.float64, copy=False))
        if not len(self.names) == len(self.kinds) == values.shape[1]:
            raise ValueError(
                f"there are {values.shape[1]} factors, but {len(self.names)} names and {len(self.kinds)} kinds"
            )
        _check_distinct("factor", self.names)
        for name, kind in zip(self.names, self.kinds, strict=True):
            if kind not in get_args(FactorKind):
                raise ValueError(f"factor {name!r} is of kind {kind!r}; the kinds are {get_args(FactorKind)}")
        self._check_numbers()
        circular = tuple(name for name, kind in zip(self.names, self.kinds, strict=True) if kind == "circular")
        for name in circular:
            if values[:, self.names.index(name)].min() < 0:
                raise ValueError(f"the values of circular factor {name!r} must not be negative")
        for name, period in self.periods.items():
            if name not in circular:
                raise ValueError(f"a period is given for {name!r}; the circular factors are {circular}")
            if period < 2:
                raise ValueError(f"the period of factor {name!r} must be at least 2; got {period}")
        for index, name in enumerate(self.names):
            if np.ptp(self.classes(index)) == 0:
                raise ValueError(
                    f"factor {name!r} is constant (value {values[0, index]} in all {len(values)} rows): leave it out"
                )

    def _check_numbers(self) -> None:
        for index, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            column = self.values[:, index]
            if not np.isfinite(column).all():
                raise ValueError(f"factor {name!r} contains NaN or infinity")
            if kind != "continuous" and (column != np.round(column)).any():
                raise ValueError(f"the values of {kind} factor {name!r} must be whole numbers")

    def period(self, factor: int) -> int:
        """The number of steps in one turn of a circular factor."""
        return self.periods.get(self.names[factor], int(self.values[:, factor].max()) + 1)

    def classes(self, factor: int) -> NDArray[np.int64]:
        """The values of one factor as ``0, ..., K - 1`` without gaps ``[n]``.

        A circular one is folded to one turn, a continuous one put in `BINS` bins of equal width.
        """
        values = self.values[:, factor]
        if self.kinds[factor] == "continuous":
            values = bins_of_equal_width(values.astype(np.float64))
        if self.kinds[factor] == "circular":
            values = values % self.period(factor)
        return np.unique(values, return_inverse=True)[1].astype(np.int64, copy=False)

    def angles(self, factor: int) -> NDArray[np.float64]:
        """The angle ``2 π value / period`` of a circular factor ``[n]``."""
        return 2.0 * np.pi * self.values[:, factor] / self.period(factor)

    def target(self, factor: int) -> NDArray[Any]:
        """What a regressor learns: classes ``[n]``, the value ``[n]``, or the cosine and sine of the angle ``[n, 2]``.

        By the index of a circular factor, the two sides of the seam would be far apart.
        """
        match self.kinds[factor]:
            case "categorical":
                return self.classes(factor)
            case "ordinal" | "continuous":
                return self.values[:, factor].astype(np.float64)
            case "circular":
                angles = self.angles(factor)
                return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def bins_of_equal_width(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the bin of equal width, ``0, ..., BINS - 1`` ``[n]``; 0 everywhere for a constant column."""
    low, high = column.min(), column.max()
    if low == high:
        return np.zeros(len(column), dtype=np.int64)
    bins: NDArray[np.int64] = ((column - low) / (high - low) * BINS).astype(np.int64)
    bins[column == high] = BINS - 1  # the last bin is closed
    return bins


def check_matched(codes: Codes, factors: Factors) -> None:
    """Raise ``ValueError`` unless codes and factors describe the same number of data."""
    if len(codes.columns) != len(factors.values):
        raise ValueError(f"codes have {len(codes.columns)} rows, factors have {len(factors.values)}")


def _check_distinct(what: str, names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} names must differ; these occur twice: {twice}")
