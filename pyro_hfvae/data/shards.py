"""Arrays in npy files that need not fit into memory, as one data set."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.data import Data
from pyro_hfvae.data.factor_arrays import KNOWN, factors_of, held_out_of
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.mapped import MappedArray
from pyro_hfvae.data.npz import read_arrays
from pyro_hfvae.data.root import locate

__all__ = ["Shards"]

_OPEN = 256
"""Files that stay open; more are opened for each batch, since a process may have 1,024 or so."""


class Shards(Data):
    """Arrays in one npy file or in many, of which each batch reads its rows alone.

    Images are uint8 from 0 to 255, [N, H, W], [N, H, W, C] or [N, C, H, W] with C from 1 to 4, and become x in [0, 1],
    [B, C, H, W]. All other arrays of numbers, [N, ...], become x as float32 as they are. Nothing is unpickled.

    Args:
        path: the file, a folder whose npy files are taken in the order of their names (``part_2`` before ``part_10``),
            or files in their order; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        known: npz file with what is known of the data, as far as it is: ``factors`` (classes, integers from 0, [N, F]),
            ``factor_names`` [F], ``factor_kinds`` [F] and ``held_out`` (numbers, or a bool for each), as for
            :class:`~pyro_hfvae.data.ImageFile`.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ValueError: a file is no such array, rows differ in shape or type, or what is known does not fit.
    """

    def __init__(self, path: Sequence[str | Path] | str | Path, known: str | Path | None = None) -> None:
        files = _files(path)
        self._shards = [MappedArray(file, "an array", keep=len(files) <= _OPEN) for file in files]
        first = self._shards[0]
        for shard in self._shards:
            if (shard.shape[1:], shard.dtype) != (first.shape[1:], first.dtype):
                raise ValueError(
                    f"'{shard.file}' holds {_described(shard)}, '{first.file}' {_described(first)}: all must have rows "
                    "of one shape and type"
                )
        if first.dtype.kind not in "biuf" or len(first.shape) < 2:
            raise ValueError(f"'{first.file}' holds {_described(first)}, expected numbers with a row for each datum")
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._is_image = first.dtype == np.uint8 and len(first.shape) in (3, 4)
        if self._is_image:
            self._check_images(first)
        if known is not None:
            self._set_known(locate(known))
        else:
            self._factors = torch.empty(len(self), 0, dtype=torch.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Integers) -> Batch:
        """The rows at ``indices`` [B] as the one argument x of model and guide, float32, [B, ...].

        Raises:
            ValueError: a row holds a value that is not finite.
        """
        rows = self._rows(self._checked(indices).numpy())
        if not self._is_image:
            return Batch(x=torch.from_numpy(rows.astype(np.float32)))
        images = torch.from_numpy(rows if rows.ndim == 4 else rows[:, None])
        if images.shape[3] <= 4 and rows.ndim == 4:
            images = images.permute(0, 3, 1, 2).contiguous()
        return Batch(x=images.float().div_(255))

    def factors(self, indices: Integers) -> Tensor:
        """Factors of the data at ``indices`` [B], int64, [B, F]."""
        return self._factors[self._checked(indices)]

    def _rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of all files, file by file, [B, ...]."""
        first = self._shards[0]
        found = np.empty((len(indices), *first.shape[1:]), first.dtype)
        which = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(which):
            shard, at = self._shards[number], np.flatnonzero(which == number)
            within = indices[at] - (self._ends[number] - len(shard))
            found[at] = rows = shard.rows(within)
            if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                bad = within[~np.isfinite(rows).reshape(len(rows), -1).all(1)]
                raise ValueError(f"'{shard.file}': row {bad[0]} holds a value that is not finite")
        return found

    def _check_images(self, first: MappedArray) -> None:
        if len(first.shape) == 4 and first.shape[3] > 4 and first.shape[1] > 4:
            raise ValueError(
                f"'{first.file}' holds {_described(first)}: images are uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] "
                "with 1 to 4 channels C"
            )
        if self._rows(np.linspace(0, len(self) - 1, 100).astype(np.int64)).max() <= 1:
            raise ValueError(
                f"'{first.file}': a hundred of {len(self):,} images hold no value above 1, and 255 is the brightest: "
                "multiply zeros and ones by 255"
            )

    def _set_known(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"no file of what is known of the data at '{file}'")
        content = read_arrays(file, (), KNOWN)
        try:
            known = factors_of(content, len(self))
            self.held_out = held_out_of(content, len(self))
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from error
        self._factors = known.values
        self.factor_names, self.factor_sizes, self.factor_kinds = known[:3]


def _files(path: Sequence[str | Path] | str | Path) -> list[Path]:
    if not isinstance(path, str | Path):
        files = [locate(file) for file in path]
        if not files:
            raise ValueError("path names no file")
    elif (place := locate(path)).is_dir():
        files = sorted(place.glob("*.npy"), key=lambda file: _by_numbers(file.name))
        if not files:
            raise FileNotFoundError(f"no .npy files in '{place}'")
    else:
        files = [place]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"no array at '{missing[0]}': make it with numpy.save")
    return files


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Orders names as people do, numbers by their values."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)]


def _described(array: MappedArray) -> str:
    return f"{array.dtype} {list(array.shape)}"
