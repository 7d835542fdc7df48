"""Tables of columns of several kinds as one tensor, and back in the user's own units."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.columns import Column, ColumnKind
from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.factored import FactoredData
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.mapped_rows import MappedRows
from pyro_hfvae.data.moments import moments
from pyro_hfvae.data.npz import naming
from pyro_hfvae.data.row_format import decode_rows, encode_rows
from pyro_hfvae.data.table_rows import in_memory, of_codes, quoted
from pyro_hfvae.data.table_source import Source, TableSource, located, open_table

__all__ = ["Table"]


class Table(FactoredData):
    """A table: x is ``[B, D]``, float32, a number for each column, NaN where a cell is missing.

    What a column is follows from its content (:func:`~pyro_hfvae.data.kind_of`), unless the user has it otherwise.
    Numbers and times are standardised by mean and standard deviation of the training rows, categories become codes from
    0, counts and flags stay what they are. :meth:`encode` does the same with new rows, and :meth:`decode` goes back.

    The table is kept as float32. An ``.npy`` file of numbers, or several with the same columns, stays on the disk, and
    only the rows of a batch are read; its columns are called ``x0``, ``x1``, ..., and its categories must be codes.

    Args:
        source: a file that ends in ``.csv`` (values between commas, semicolons or tabs, names in the first line; empty
            cells, ``NA``, ``NaN``, ``?`` and the like are missing), in ``.parquet`` (needs the extra ``tables``), in
            ``.npz`` (an array [N] for each column, or ``x``, [N, D], with the names ``feature_names``, [D]), or in
            ``.npy``; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`). Or a list of ``.npy`` files, a pandas frame, an array [N, D], or
            arrays [N] by name.
        kinds: of columns, by name, or one for all columns: ``number``, ``category``, ``count``, ``flag`` or ``time``.
        factors: columns that are known factors and no part of x.
        factor_kinds: of factors, by name; by default texts, flags and few whole numbers are ``categorical``, all others
            ``continuous``.
        held_out: the rows of the table's own test set: a column of 0 and 1 or truth values, which is then no part of x,
            or their numbers, counted from 0.
        drop: columns that are left out.

    Attributes:
        columns: what the columns of x are, in their order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table, a column never varies or has no value, or cells are not of the kind of their
            column; names file, column and row. Rows are counted from 0, without the names.
    """

    columns: tuple[Column, ...]

    def __init__(
        self,
        source: list[str] | Source,
        kinds: Mapping[str, ColumnKind] | ColumnKind | None = None,
        factors: Sequence[str] = (),
        factor_kinds: Mapping[str, FactorKind] | None = None,
        held_out: str | Sequence[int] | None = None,
        drop: Sequence[str] = (),
    ) -> None:
        mapped, table = _opened(source)
        self._size = table.size
        beside = [*factors, *drop, *([held_out] if isinstance(held_out, str) else [])]
        with naming(table.file):
            _check_names(table.names, beside, kinds)
            names = [name for name in table.names if name not in beside]
            if not names:
                raise ValueError("no column is left for x")
            wanted: dict[str, ColumnKind | None] = {name: _kind(name, kinds) for name in names}
            self._rows: NDArray[np.float32] | MappedRows
            if mapped is None:
                self._rows, self.columns, self._units = in_memory(table, wanted)
            else:
                places = [table.names.index(name) for name in names]
                self._rows, self.columns = mapped.columns(places), of_codes(mapped, table.names, wanted)
                self._units = np.stack([np.zeros(len(names)), np.ones(len(names))])
            self._set_factors({name: table.column(name) for name in factors}, factor_kinds or {})
            self._set_held_out(held_out, table.column)
            self.feature_names = tuple(names)
            self.prepare(self._not_held_out())

    def __len__(self) -> int:
        return self._size

    def prepare(self, training_indices: Tensor) -> None:
        """Standardises numbers and times by the rows that are trained on; until then, by all that are not held out.

        Args:
            training_indices: int64, [M], each once.

        Raises:
            ValueError: a column that is to be standardised does not vary among these rows, or is missing in all; names
                it.
        """
        kept = np.array([column.standardised for column in self.columns])
        mean, scale = np.zeros(len(kept)), np.ones(len(kept))
        if kept.any():
            found = moments(self._rows, training_indices.numpy())
            for column, deviation in zip(self.columns, found.scale, strict=True):
                if column.standardised and not 0 < deviation < np.inf:  # NaN where all are missing
                    raise ValueError(
                        f"column '{column.name}' has the standard deviation {deviation:g} among the "
                        f"{len(training_indices):,} rows that are trained on, and cannot be standardised: leave it out "
                        "by drop, or hold out other rows"
                    )
            mean, scale = np.where(kept, found.mean, 0.0), np.where(kept, found.scale, 1.0)
        self._mean, self._scale = mean, scale  # in the units of what is kept, [D]
        centres, units = self._units
        self.columns = tuple(
            replace(column, mean=float(centres[d] + units[d] * mean[d]), scale=float(units[d] * scale[d]))
            for d, column in enumerate(self.columns)
        )

    def batch(self, indices: Integers) -> Batch:
        """The rows at ``indices`` [B] as the one argument x of model and guide, float32 [B, D], NaN where missing."""
        rows = self._rows[self._checked(indices).numpy()]
        return Batch(x=torch.from_numpy(((rows - self._mean) / self._scale).astype(np.float32)))

    def encode(self, rows: pd.DataFrame | NDArray[Any] | Mapping[str, Any]) -> Tensor:
        """New rows as the tensor x of this table, with its kinds, labels, means and scales.

        Args:
            rows: a frame or arrays by name with the columns of x, in any order, others ignored; or an array [B, D].

        Returns:
            float32, [B, D], NaN where a cell is missing.

        Raises:
            ValueError: a column is not there, or a cell is of another kind or of an unknown category; names column, row
                and value.
        """
        return encode_rows(self.columns, rows)

    def decode(self, x: Tensor | NDArray[Any]) -> pd.DataFrame:
        """What rows of x mean in the user's own units.

        Args:
            x: as batches have it, [B, D].

        Returns:
            A frame of B rows: float64 of numbers, counts and flags, labels of categories, times (UTC, to the second);
            what is NaN in x is missing.

        Raises:
            ValueError: x has another shape, or a code that no category has.
        """
        return decode_rows(self.columns, x)


def _opened(source: list[str] | Source) -> tuple[MappedRows | None, TableSource]:
    """The rows of npy files, if it is such, and the table."""
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".npy":
        source = [str(source)]
    if not isinstance(source, list) or not all(isinstance(path, str | Path) for path in source):
        return None, open_table(source)
    if not source or any(Path(path).suffix.lower() != ".npy" for path in source):
        raise ValueError(f"source is a list of {len(source)} files, expected npy files, one or more")
    files = [located(path, "table") for path in source]
    rows = MappedRows(files)
    names = tuple(f"x{place}" for place in range(rows.shape[1]))
    if rows.shape[0] < 2 or not names:
        raise ValueError(
            f"'{files[0]}' has {rows.shape[0]} rows and {len(names)} columns, expected 2 rows or more and a column"
        )
    return rows, TableSource(files[0], names, rows.shape[0], lambda name: pd.Series(rows.column(names.index(name))))


def _check_names(
    names: tuple[str, ...], beside: list[str], kinds: Mapping[str, ColumnKind] | ColumnKind | None
) -> None:
    """Whether what the user names is there, once, and every kind is one."""
    named = kinds if isinstance(kinds, Mapping) else {}
    if unknown := [name for name in (*beside, *named) if name not in names]:
        raise ValueError(f"there is no column '{unknown[0]}'; the columns are {quoted(names)}")
    if twice := [name for name in beside if beside.count(name) > 1]:
        raise ValueError(f"column '{twice[0]}' is named twice among factors, held_out and drop")
    for kind in named.values() if isinstance(kinds, Mapping) else () if kinds is None else (kinds,):
        if kind not in get_args(ColumnKind):
            raise ValueError(f"{kind!r} is no kind of a column; the kinds are {', '.join(get_args(ColumnKind))}")
    if both := [name for name in named if name in beside]:
        raise ValueError(f"kinds names '{both[0]}', which is no column of x; kinds of factors are in factor_kinds")


def _kind(name: str, kinds: Mapping[str, ColumnKind] | ColumnKind | None) -> ColumnKind | None:
    return kinds.get(name) if isinstance(kinds, Mapping) else kinds
