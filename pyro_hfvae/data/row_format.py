"""Rows of a table as the numbers of x and back, by what its columns are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.columns import Column
from pyro_hfvae.data.table_rows import quoted

__all__ = ["decode_rows", "encode_rows"]


def encode_rows(columns: Sequence[Column], rows: pd.DataFrame | NDArray[Any] | Mapping[str, Any]) -> Tensor:
    """Rows as the tensor x of a table, with the kinds, labels, means and scales of its columns.

    Args:
        columns: of the table.
        rows: a frame or arrays by name with these columns, in any order, others ignored; or an array ``[B, D]``.

    Returns:
        float32, ``[B, D]``, NaN where a cell is missing.

    Raises:
        ValueError: a column is not there, or a cell is of another kind or of an unknown category; names column, row
            and value.
    """
    if not isinstance(rows, pd.DataFrame | Mapping):
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != len(columns):
            raise ValueError(f"rows are {array.dtype} {list(array.shape)}, expected [B, {len(columns)}]")
        rows = {column.name: array[:, d] for d, column in enumerate(columns)}
    frame = pd.DataFrame(rows)
    names = [column.name for column in columns]
    if missing := [name for name in names if name not in frame.columns]:
        raise ValueError(f"rows have no column {quoted(missing)}; expected are {quoted(names)}")
    if twice := [name for name in names if frame.columns.to_list().count(name) > 1]:
        raise ValueError(f"rows have more than one column called '{twice[0]}'")
    found = [column.encoded(frame[column.name].reset_index(drop=True)) for column in columns]
    return torch.from_numpy(np.stack(found, axis=1).astype(np.float32))


def decode_rows(columns: Sequence[Column], x: Tensor | NDArray[Any]) -> pd.DataFrame:
    """What rows of x mean in the units of the columns.

    Args:
        columns: of the table.
        x: as batches have it, ``[B, D]``.

    Returns:
        A frame of B rows: float64 of numbers, counts and flags, labels of categories, times (UTC, to the second); what
        is NaN in x is missing.

    Raises:
        ValueError: x has another shape, or a code that no category has.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise ValueError(f"x is {list(array.shape)}, expected [B, {len(columns)}]")
    return pd.DataFrame({column.name: column.decoded(array[:, d]) for d, column in enumerate(columns)})
