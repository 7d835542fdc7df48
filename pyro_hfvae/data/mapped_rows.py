"""Rows of numbers in npy files that need not fit into memory: only the rows that are asked for are read."""

from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.data.npz import map_array

__all__ = ["MappedRows", "Summary"]

BLOCK = 2**16
"""Rows that are looked at together where all are read."""


class Summary(NamedTuple):
    """What the present values of each column are, [D] each; infinite and -infinite bounds where none is present."""

    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]
    whole: NDArray[np.bool_]


class MappedRows:
    """Rows [N, D] of one or more npy files, one file after the other.

    Args:
        files: which are there, with numbers [N_i, D] each.

    Raises:
        ValueError: a file is no such file, or has other columns than the first; names the file.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._places: list[int] | slice = slice(None)
        self._files = list(files)
        self._shards = [map_array(file, "numbers [N, D]") for file in files]
        for file, shard in zip(files, self._shards, strict=True):
            if shard.ndim != 2 or shard.dtype.kind not in "biuf":
                raise ValueError(f"'{file}' holds {shard.dtype} {list(shard.shape)}, expected numbers [N, D]")
            if shard.shape[1] != self._shards[0].shape[1]:
                raise ValueError(
                    f"'{file}' has {shard.shape[1]} columns, but '{files[0]}' has {self._shards[0].shape[1]}"
                )
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self.shape = (int(self._ends[-1]), self._shards[0].shape[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": None}  # NumPy would write the whole arrays

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._shards = [map_array(file, "numbers [N, D]") for file in self._files]

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """The rows at ``indices`` [B], [B, D]."""
        found = np.empty((len(indices), self.shape[1]))  # float64, which holds every number of theirs
        shards = np.searchsorted(self._ends, indices, side="right")
        for place in np.unique(shards):
            here = shards == place
            start = self._ends[place] - len(self._shards[place])
            found[here] = self._shards[place][indices[here] - start][:, self._places]
        return found

    def columns(self, places: Sequence[int]) -> "MappedRows":
        """The same rows with some of the columns."""
        chosen = copy(self)
        chosen._places, chosen.shape = list(places), (self.shape[0], len(places))
        return chosen

    def column(self, place: int) -> NDArray[Any]:
        """All values of a column, [N]."""
        return np.concatenate([shard[:, place] for shard in self._shards])

    def summary(self) -> Summary:
        """Bounds of each column, and whether all its values are whole.

        Raises:
            ValueError: a value is infinite; names the file, the column and the row.
        """
        columns = self.shape[1]
        smallest, largest, whole = np.full(columns, np.inf), np.full(columns, -np.inf), np.ones(columns, dtype=np.bool_)
        for file, start, block in self._blocks():
            if np.isinf(block).any():
                row, column = (int(place) for place in np.argwhere(np.isinf(block))[0])
                raise ValueError(
                    f"'{file}': column 'x{column}' has {block[row, column]:g} in row {start + row}, expected finite "
                    "numbers, or NaN for missing"
                )
            missing = np.isnan(block)
            smallest = np.minimum(smallest, np.where(missing, np.inf, block).min(axis=0))
            largest = np.maximum(largest, np.where(missing, -np.inf, block).max(axis=0))
            whole &= (missing | (block == np.floor(block))).all(axis=0)
        return Summary(smallest, largest, whole)

    def _blocks(self) -> Iterator[tuple[Path, int, NDArray[np.float64]]]:
        """Successive rows, with the file and their first row in it."""
        for file, shard in zip(self._files, self._shards, strict=True):
            for start in range(0, len(shard), BLOCK):
                yield file, start, np.asarray(shard[start : start + BLOCK], dtype=np.float64)
