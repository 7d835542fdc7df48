"""Images of one's own in an npz file, with what is known of them."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.npz import read_arrays
from pyro_hfvae.data.root import locate
from pyro_hfvae.files import expanded

__all__ = ["ImageFile"]


class ImageFile(Images):
    """Images in an npz file: photos, say, with or without labels. ``np.savez(path, images=..., ...)`` makes one.

    The file holds ``images`` (uint8 from 0 to 255, [N, H, W] for grey ones, [N, H, W, C] for colours, C from 1 to 4;
    255 becomes 1), and what is known of them, as far as it is:

    - ``factors``: classes of known factors, integers from 0, [N, F];
    - ``factor_names``: the names of the factors, [F];
    - ``factor_kinds``: ``categorical``, ``ordinal`` or ``circular``, [F]; all categorical by default;
    - ``held_out``: numbers of the images that are not to be trained on, integers, each once, or one bool for each of
      the N.

    Nothing in it is unpickled.

    Args:
        path: the file; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file; the message names the array.
    """

    def __init__(self, path: str | Path) -> None:
        file = locate(path)
        if not file.is_file():
            here = "" if expanded(path) == file else f"'{path}' in the current folder, nor "
            raise FileNotFoundError(
                f"no images at {here}'{file}': make it with numpy.savez(path, images=...), uint8 [N, H, W] or "
                "[N, H, W, C]"
            )
        known = ("factors", "factor_names", "factor_kinds", "held_out")
        content = read_arrays(file, ("images",), known)
        try:
            self._images = _images(content["images"])  # [N, C, H, W]
            self._set_factors(content)
            self.held_out = _held_out(content["held_out"], len(self)) if "held_out" in content else None
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from error
        channels, height, width = self._images.shape[1:]
        self.image_shape = (channels, height, width)

    def _set_factors(self, content: dict[str, NDArray[Any]]) -> None:
        """Takes factors, their names, sizes and kinds from the content of the file."""
        factors = content.get("factors", np.zeros((len(self), 0), dtype=np.int64))
        if factors.dtype.kind not in "iu" or factors.ndim != 2 or len(factors) != len(self):
            raise ValueError(
                f"factors is {factors.dtype} {list(factors.shape)}, expected integers [{len(self)}, F], a column for "
                "each factor"
            )
        if factors.size and factors.max() >= 2**31:
            raise ValueError(f"factors holds {factors.max()}, expected classes that are counted from 0")
        if factors.size and factors.min() < 0:
            raise ValueError(
                f"factors holds {factors.min()}, expected classes from 0; what is known of some images alone can be "
                "given to pairs as groups (pyro_hfvae.weak.Groups)"
            )
        count = factors.shape[1]
        names = content.get("factor_names", np.zeros(0, dtype=str))
        if names.dtype.kind != "U" or names.shape != (count,) or len(set(names.tolist())) < count:
            raise ValueError(f"factor_names is {names.tolist()}, expected {count} different names, one for each factor")
        if unprintable := [name for name in names.tolist() if not (name and name.isprintable())]:
            raise ValueError(f"factor_names holds {unprintable[0]!r}, expected names that can be printed")
        kinds = content.get("factor_kinds", np.full(count, "categorical"))
        if kinds.shape != (count,) or not set(kinds.tolist()) <= set(get_args(FactorKind)):
            raise ValueError(f"factor_kinds is {kinds.tolist()}, expected {count} of {', '.join(get_args(FactorKind))}")
        self._factors = torch.from_numpy(factors.astype(np.int64))
        self.factor_names = tuple(names.tolist())
        self.factor_kinds = tuple(kinds.tolist())
        self.factor_sizes = tuple(int(size) + 1 for size in factors.max(axis=0)) if count else ()

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: Integers) -> Tensor:
        """Images at ``indices`` [B], float32 in [0, 1], [B, C, H, W]."""
        return self._images[self._checked(indices)].float().div_(255)

    def factors(self, indices: Integers) -> Tensor:
        """Factors of the images at ``indices`` [B], int64, [B, F]."""
        return self._factors[self._checked(indices)]


def _images(images: NDArray[Any]) -> Tensor:
    """uint8, [N, C, H, W]."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"images is {images.dtype} {list(images.shape)}, expected uint8 [N, H, W] or [N, H, W, C], from 0 to 255"
        )
    if images.ndim == 4 and images.shape[3] > 4:
        first = "; [N, C, H, W] becomes it by images.transpose(0, 2, 3, 1)" if images.shape[1] <= 4 else ""
        raise ValueError(f"images is {list(images.shape)}, expected [N, H, W, C] with 1 to 4 channels C{first}")
    if images.max() <= 1:
        raise ValueError("images holds no value above 1, and 255 is the brightest: multiply zeros and ones by 255")
    with_channels = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(np.ascontiguousarray(with_channels.transpose(0, 3, 1, 2)))


def _held_out(given: NDArray[Any], size: int) -> Tensor:
    """Numbers of images, ascending."""
    if given.dtype.kind == "b" and given.shape == (size,):
        return torch.from_numpy(np.flatnonzero(given))
    if given.dtype.kind not in "iu" or given.ndim != 1 or not given.size or given.min() < 0 or given.max() >= size:
        raise ValueError(
            f"held_out is {given.dtype} {list(given.shape)}, expected numbers from 0 to {size - 1}, or a bool for each "
            f"of the {size} images"
        )
    numbers, counts = np.unique(given.astype(np.int64), return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"held_out names image {numbers[counts.argmax()]} {counts.max()} times: give each number once, and a mask "
            "of zeros and ones as bool"
        )
    return torch.from_numpy(numbers)
