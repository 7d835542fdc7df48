"""3D Shapes: 480,000 rendered scenes with six factors, from the file of its authors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.image_cache import cached_images, file_state
from pyro_hfvae.data.mapped import MappedImages
from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.root import locate

__all__ = ["Shapes3D"]

_TOGETHER = 2**26
"""Bytes of images that are read at once, or up to four times as many where the file has them in one piece."""

_WRITTEN = 1024


class Shapes3D(MappedImages):
    """Scenes of one object in a room, 64 × 64 in colour, each combination of the factors once.

    The authors name the place of the file at https://github.com/google-deepmind/3d-shapes; nothing is downloaded here.
    Its images are compressed in pieces of many images each, so that a batch at random would unpack most of the file.
    They are therefore copied once, piece by piece, into a file in the data root's folder ``image_cache`` (5.9 GB), of
    which each batch is read. The classes of a factor are its distinct values in the file, ascending.

    Args:
        path: ``3dshapes.h5``, with ``images`` (uint8, [N, H, W, 3]) and ``labels`` ([N, 6]); one that is not absolute
            is looked for here and then in the data root (:func:`~pyro_hfvae.data.data_root`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    licence = "Apache-2.0"
    citation = "Burgess, Kim: 3D Shapes Dataset. 2018. https://github.com/google-deepmind/3d-shapes"
    factor_names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    factor_kinds: tuple[FactorKind, ...] = ("circular", "circular", "circular", "ordinal", "categorical", "ordinal")

    def __init__(self, path: str | Path = "3dshapes/3dshapes.h5") -> None:
        file = locate(path)
        if not file.is_file():
            raise FileNotFoundError(f"no 3D Shapes at '{file}': put the file 3dshapes.h5 of its authors there")
        labels = _labels(file)
        distinct = [np.unique(column, return_inverse=True) for column in labels.T]
        self.factor_sizes = tuple(len(values) for values, _ in distinct)
        self.factor_labels = {
            name: tuple(f"{value:.4g}" for value in values.tolist())
            for name, (values, _) in zip(self.factor_names, distinct, strict=True)
        }
        pixels, _ = cached_images(file.resolve(), None, file_state(file), lambda _: _blocks(file))
        super().__init__(pixels, torch.from_numpy(np.stack([classes for _, classes in distinct], 1)))


def _labels(file: Path) -> NDArray[np.float64]:
    """The values of the factors, [N, 6], once the images were found to fit them."""
    import h5py  # a tenth of a second

    with reading(file, "the HDF5 file of 3D Shapes"), h5py.File(file, "r") as opened:
        missing = [name for name in ("images", "labels") if not isinstance(opened.get(name), h5py.Dataset)]
        if missing:
            raise ValueError(f"it has no '{missing[0]}'; it has: {', '.join(opened) or 'nothing'}")
        images, labels = opened["images"], opened["labels"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            raise ValueError(f"images is {images.dtype} {list(images.shape)}, expected uint8 [N, H, W, 3]")
        if labels.dtype.kind not in "iuf" or labels.shape != (len(images), 6):
            raise ValueError(f"labels is {labels.dtype} {list(labels.shape)}, expected numbers [{len(images)}, 6]")
        values: NDArray[np.float64] = labels[:].astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("labels holds values that are not finite")
        return values


def _blocks(file: Path) -> Iterator[NDArray[np.uint8]]:
    """All images, [n, 3, H, W], as many at once as a piece of the file has, within bounds."""
    import h5py

    with reading(file, "the HDF5 file of 3D Shapes"), h5py.File(file, "r") as opened:
        images = opened["images"]
        within = max(1, _TOGETHER // int(np.prod(images.shape[1:])))
        piece = images.chunks[0] if images.chunks else 1
        step = max(piece, within // piece * piece) if piece <= 4 * within else within
        for start in range(0, len(images), step):
            read = images[start : start + step]
            for first in range(0, len(read), _WRITTEN):
                yield np.ascontiguousarray(read[first : first + _WRITTEN].transpose(0, 3, 1, 2))
            del read  # before the next is there
