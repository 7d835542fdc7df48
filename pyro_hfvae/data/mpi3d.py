"""MPI3D: images of a robot arm that holds an object, rendered and real, from the files of its authors."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.image_cache import cached_images, file_state
from pyro_hfvae.data.mapped import MappedImages
from pyro_hfvae.data.npz import open_array, reading
from pyro_hfvae.data.root import locate

__all__ = ["MPI3D"]

_TOGETHER = 2**24
"""Bytes of images that are read at once."""

_SIZES = {math.prod(sizes): sizes for sizes in ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))}
_COLOURS = ("white", "green", "red", "blue", "brown", "olive")
_SHAPES = ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere")


class MPI3D(MappedImages):
    """Images of 64 × 64 in colour, each combination of seven factors once: 1,036,800, or 460,800 of complex objects.

    The authors name the places of the files at https://github.com/rr-learning/disentanglement_dataset; nothing is
    downloaded here. The images are unpacked once, piece by piece, into a file in the data root's folder
    ``image_cache`` (12.7 GB, or 5.7), of which each batch is read. Nothing in the file is unpickled.

    Args:
        path: ``mpi3d_toy.npz``, ``mpi3d_realistic.npz``, ``mpi3d_real.npz``, or the file of complex objects, with
            ``images`` (uint8, [N, H, W, 3]); one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    licence = "CC BY 4.0"
    citation = (
        "Gondal et al.: On the Transfer of Inductive Bias from Simulation to the Real World: a New Disentanglement "
        "Dataset. NeurIPS 2019."
    )
    factor_names = (
        "object_color",
        "object_shape",
        "object_size",
        "camera_height",
        "background_color",
        "horizontal_axis",
        "vertical_axis",
    )
    factor_kinds: tuple[FactorKind, ...] = (
        "categorical",
        "categorical",
        "ordinal",
        "ordinal",
        "categorical",
        "ordinal",
        "ordinal",
    )
    factor_labels: Mapping[str, tuple[str, ...]] = {
        "object_size": ("small", "large"),
        "camera_height": ("top", "center", "bottom"),
        "background_color": ("purple", "sea green", "salmon"),
    }

    def __init__(self, path: str | Path = "mpi3d/mpi3d_real.npz") -> None:
        file = locate(path)
        if not file.is_file():
            raise FileNotFoundError(f"no MPI3D at '{file}': put an npz file of its authors, with images, there")
        pixels, _ = cached_images(file.resolve(), None, file_state(file), lambda _: _blocks(file))
        self.factor_sizes = _SIZES[len(pixels)]
        if self.factor_sizes[0] == len(_COLOURS):
            self.factor_labels = {**self.factor_labels, "object_color": _COLOURS, "object_shape": _SHAPES}
        values = torch.cartesian_prod(*(torch.arange(size) for size in self.factor_sizes))  # the last factor fastest
        super().__init__(pixels, values)


def _blocks(file: Path) -> Iterator[NDArray[np.uint8]]:
    """All images, [n, 3, H, W], piece by piece."""
    with (
        reading(file, "an npz file with the images of MPI3D"),
        zipfile.ZipFile(file) as archive,
        open_array(archive, "images") as entry,
    ):
        shape = entry.shape
        if entry.dtype != np.uint8 or entry.fortran_order or len(shape) != 4 or shape[3] != 3 or shape[0] not in _SIZES:
            counts = " or ".join(f"{count:,}" for count in _SIZES)
            raise ValueError(f"images is {entry.dtype} {list(shape)}, expected uint8 [N, H, W, 3], N = {counts}")
        each = math.prod(shape[1:])
        step = max(1, _TOGETHER // each)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            content = entry.file.read(count * each)
            if len(content) < count * each:
                raise ValueError(f"images ends before image {shape[0]:,}")
            yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:]).transpose(0, 3, 1, 2)
        entry.file.read()  # to the end, where the checksum of the archive is compared
