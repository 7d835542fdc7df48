"""Arrays and images that stay in a file: rows are read as they are asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.npz import map_array

__all__ = ["MappedArray", "MappedImages"]


class MappedArray:
    """The array of an npy file, mapped into memory.

    A copy of the object, in another process too, maps the file again; NumPy's own maps are pickled as whole arrays.

    Args:
        file: which is there.
        what: is in it, for the error.
        keep: the file stays open. Then it may be removed; but a process has a limit of open files.

    Attributes:
        file: as given.
        shape: of the array, [N, ...].
        dtype: of the array.

    Raises:
        ValueError: it is no npy file, is damaged or empty.
    """

    def __init__(self, file: Path, what: str, keep: bool = True) -> None:
        self.file = file
        self._what = what
        self._keep = keep
        array = map_array(file, what)
        self._array = array if keep else None
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of the rows at ``indices`` [B], [B, ...]; the file is read from its start to its end."""
        array = map_array(self.file, self._what) if self._array is None else self._array
        if self._keep:
            self._array = array
        order = np.argsort(indices)
        found = np.empty((len(indices), *self.shape[1:]), self.dtype)
        found[order] = array[indices[order]]
        return found


class MappedImages(Images):
    """Images in a file, with their factors in memory.

    Args:
        pixels: uint8, [N, C, H, W].
        factors: int64 or float64, [N, F].
    """

    def __init__(self, pixels: MappedArray, factors: Tensor) -> None:
        self._pixels = pixels
        self._factors = factors
        channels, height, width = pixels.shape[1:]
        self.image_shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self._pixels)

    def images(self, indices: Integers) -> Tensor:
        """Images at ``indices`` [B], float32 in [0, 1], [B, C, H, W]."""
        return torch.from_numpy(self._pixels.rows(self._checked(indices).numpy())).float().div_(255)

    def factors(self, indices: Integers) -> Tensor:
        """Factors of the images at ``indices`` [B], [B, F]: int64, or float64 where not all are classes and known."""
        return self._factors[self._checked(indices)]
