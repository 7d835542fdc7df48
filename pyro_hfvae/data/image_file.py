"""Images of one's own in an npz file, with what is known of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.factor_arrays import KNOWN, factors_of, held_out_of
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
        content = read_arrays(file, ("images",), KNOWN)
        try:
            self._images = _images(content["images"])  # [N, C, H, W]
            known = factors_of(content, len(self))
            self.held_out = held_out_of(content, len(self))
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from error
        channels, height, width = self._images.shape[1:]
        self.image_shape = (channels, height, width)
        self._factors = known.values
        self.factor_names, self.factor_sizes, self.factor_kinds = known[:3]

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
