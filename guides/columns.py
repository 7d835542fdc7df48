"""An encoder of tables, whose cells may be missing."""

from collections.abc import Sequence
from operator import index
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pyro_hfvae.models.columns import TableColumn
from pyro_hfvae.networks import dense_layers

__all__ = ["ColumnEncoder"]


class ColumnEncoder(nn.Module):
    """Dense layers from the cells of a row to features, with an indicator for each missing cell.

    Numbers, times and flags enter as they are, counts as log(1 + x), categories one-hot. A missing cell (NaN) enters as
    0, all its categories alike; an indicator for each column is 1 where its cell is missing.

    Args:
        columns: of the table. They follow from the data.
        hidden: units of the hidden layers, from the side of the table, one layer or more.

    Raises:
        ValueError: no columns, no hidden layer, or one without units.
    """

    def __init__(self, columns: Sequence[TableColumn] | None = None, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        if not columns:
            raise ValueError("a ColumnEncoder needs the columns of a table: give data that have columns")
        if not len(hidden):
            raise ValueError("hidden must have one layer or more")
        kinds = [column.kind for column in columns]
        self.plain = [place for place, kind in enumerate(kinds) if kind not in ("count", "category")]
        self.counts = [place for place, kind in enumerate(kinds) if kind == "count"]
        self.categories = {place: index(columns[place].size) for place, kind in enumerate(kinds) if kind == "category"}
        inputs = len(self.plain) + len(self.counts) + sum(self.categories.values()) + len(kinds)
        self.columns = len(kinds)
        self.features = index(hidden[-1])
        self.layers = nn.Sequential(*dense_layers(inputs, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``[B, D]`` to features ``[B, hidden[-1]]``.

        Raises:
            ValueError: another number of columns, or a code that is no category of its column.
        """
        return cast(Tensor, self.layers(self.inputs(x)))

    def inputs(self, x: Tensor) -> Tensor:
        """What the layers are given: plain cells, counts, categories, and indicators of missing cells."""
        if x.shape[-1] != self.columns:
            raise ValueError(f"the encoder is of {self.columns} columns, but the data have {x.shape[-1]}")
        missing = x.isnan()
        cells = x.masked_fill(missing, 0.0)
        parts = [cells[..., self.plain], cells[..., self.counts].log1p()]
        for place, size in self.categories.items():
            codes = cells[..., place].long()
            if bool(((codes < 0) | (codes >= size)).any()):
                raise ValueError(f"column {place} has codes of categories outside of 0 to {size - 1}")
            parts.append(one_hot(codes, size).to(x).masked_fill(missing[..., place, None], 0.0))
        return torch.cat([*parts, missing.to(x)], -1)
