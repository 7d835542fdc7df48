"""The rows of a table as numbers, in memory or in npy files, and what their columns are."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.data.columns import Column, ColumnKind, column_of, number_kind
from pyro_hfvae.data.mapped_rows import MappedRows
from pyro_hfvae.data.table_source import TableSource

__all__ = ["in_memory", "of_codes", "quoted"]


def in_memory(
    table: TableSource, wanted: Mapping[str, ColumnKind | None]
) -> tuple[NDArray[np.float32], tuple[Column, ...], NDArray[np.float64]]:
    """The rows, [N, D], what the columns are, and what 0 and 1 stand for in each, [2, D].

    Numbers are kept about 0 in units of their spread, for float32 would not tell 1,700,000,000 from the next second.
    """
    rows = np.empty((table.size, len(wanted)), dtype=np.float32)
    units = np.stack([np.zeros(len(wanted)), np.ones(len(wanted))])
    columns: list[Column] = []
    empty: list[str] = []
    constant: list[str] = []
    for d, (name, kind) in enumerate(wanted.items()):
        values = table.column(name)
        column = column_of(name, values, kind)
        numbers = column.numbers(values)
        present = numbers[~np.isnan(numbers)]
        if not len(present):
            empty.append(name)
        elif present.min() == present.max():
            constant.append(name)
        elif column.standardised:
            with np.errstate(over="ignore", invalid="ignore"):
                units[:, d] = present.mean(), present.std()
            if not 0 < units[1, d] < np.inf:
                raise ValueError(
                    f"column '{name}' has values from {present.min():g} to {present.max():g}, too far apart or too "
                    "close together to be standardised in float64"
                )
        rows[:, d] = (numbers - units[0, d]) / units[1, d]
        columns.append(column)
    _refuse_empty(empty, constant)
    return rows, tuple(columns), units


def of_codes(mapped: MappedRows, names: Sequence[str], wanted: Mapping[str, ColumnKind | None]) -> tuple[Column, ...]:
    """What columns of numbers are; those of categories must be codes."""
    summary = mapped.summary()
    columns: list[Column] = []
    empty: list[str] = []
    constant: list[str] = []
    for name, kind in wanted.items():
        smallest, largest, whole = (values[names.index(name)].item() for values in summary)
        kind = kind or number_kind(smallest, largest, whole)
        if smallest >= largest:
            (empty if smallest > largest else constant).append(name)
        codes = kind == "category" and whole and 0 <= smallest <= largest < 2**24
        if codes:
            columns.append(Column(name, kind, int(largest) + 1, tuple(map(str, range(int(largest) + 1)))))
        else:
            columns.append(Column(name, kind))
        bound = {"flag": 1, "number": np.inf, "time": np.inf}.get(kind, 2**24 - 1)
        if bound < np.inf and not (whole and smallest >= 0 and largest <= bound):
            expected = {"flag": "flags, 0 or 1", "count": "counts, whole numbers from 0"}.get(kind, "codes from 0")
            raise ValueError(f"column '{name}' has values from {smallest:g} to {largest:g}, expected {expected}")
    _refuse_empty(empty, constant)
    return tuple(columns)


def _refuse_empty(empty: list[str], constant: list[str]) -> None:
    """A column without information is refused, not left out in silence."""
    for names, reason in ((empty, "missing in all rows"), (constant, "constant: the same value in all rows")):
        if names:
            raise ValueError(
                f"{quoted(names)} {'is' if len(names) == 1 else 'are'} {reason}; leave out by drop=[{quoted(names)}]"
            )


def quoted(names: Sequence[str]) -> str:
    """Names in a row, between quotation marks."""
    return ", ".join(f"'{name}'" for name in names)
