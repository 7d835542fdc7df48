"""Cars3D: 183 models of cars, each from 96 directions, from the files of its authors."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.decode import Size, resized
from pyro_hfvae.data.image_cache import cached_images, file_state
from pyro_hfvae.data.mapped import MappedImages
from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.pictures import checked_target
from pyro_hfvae.data.root import locate

__all__ = ["Cars3D"]

_AZIMUTHS, _ELEVATIONS = 24, 4


class Cars3D(MappedImages):
    """Cars in colour, 128 × 128, by default brought to 64 × 64: 4 elevations × 24 azimuths × 183 cars.

    The authors give the files out at http://www.scottreed.info as ``nips2015-analogy-data.tar.gz``; nothing is
    downloaded here. The images are unpacked once into a file in the data root's folder ``image_cache``. Cars are
    numbered in the order of their files' names; images are in the order car, azimuth, elevation.

    Args:
        folder: the folder ``data/cars`` of the archive, with a ``.mat`` file for each car that holds ``im`` (uint8,
            [H, W, 3, 24, 4]: azimuth, elevation); one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        size: height and width.

    Raises:
        FileNotFoundError: there is no such folder, or no such file in it.
        ValueError: a file is not such a file.
    """

    citation = "Reed, Zhang, Zhang, Lee: Deep Visual Analogy-Making. NIPS 2015."
    factor_names = ("elevation", "azimuth", "car")
    factor_kinds: tuple[FactorKind, ...] = ("ordinal", "circular", "categorical")

    def __init__(self, folder: str | Path = "cars3d", size: tuple[int, int] = (64, 64)) -> None:
        root = locate(folder).resolve()
        chosen = checked_target(size, None, "stretch").size or (64, 64)
        files = sorted(root.glob("*.mat"))
        if not files:
            raise FileNotFoundError(f"no .mat files in '{root}': put those of data/cars of Cars3D there")
        pixels, _ = cached_images(root, chosen, file_state(*files), lambda _: _blocks(files, chosen))
        self.factor_sizes = (_ELEVATIONS, _AZIMUTHS, len(files))
        cars = torch.cartesian_prod(torch.arange(len(files)), torch.arange(_AZIMUTHS), torch.arange(_ELEVATIONS))
        super().__init__(pixels, cars.flip(1))


def _blocks(files: Sequence[Path], size: Size) -> Iterator[NDArray[np.uint8]]:
    """The images of one car after the other, [96, 3, H, W]."""
    from scipy.io import loadmat  # a second

    for file in files:
        with reading(file, "a MATLAB file of Cars3D"):
            content = loadmat(file, variable_names=["im"])
            if "im" not in content:
                raise ValueError("it has no 'im'")
            images = content["im"]
            if images.dtype != np.uint8 or images.ndim != 5 or images.shape[2:] != (3, _AZIMUTHS, _ELEVATIONS):
                raise ValueError(f"im is {images.dtype} {list(images.shape)}, expected uint8 [H, W, 3, 24, 4]")
        height, width = images.shape[:2]
        planes = images.transpose(3, 4, 2, 0, 1).reshape(-1, height, width)  # azimuth slow, elevation fast, channels
        yield resized(np.ascontiguousarray(planes), size).reshape(-1, 3, *size)
