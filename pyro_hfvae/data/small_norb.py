"""Small NORB: photos of 50 toys by two cameras, from the files of its authors."""

import gzip
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

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

__all__ = ["SmallNORB"]

Cameras: TypeAlias = Literal["left", "right", "both"]

_PARTS = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
_TYPES: dict[int, np.dtype[Any]] = {
    0x1E3D4C55: np.dtype("u1"),
    0x1E3D4C54: np.dtype("<i4"),
}  # the first four bytes, lowest first
_TOGETHER = 512


class SmallNORB(MappedImages):
    """Grey photos of toys, 96 × 96: 24,300 of 25 toys to train on, and 24,300 of 25 others held out.

    The authors give the six files out at https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/; nothing is downloaded here.
    Photos are unpacked once into a file in the data root's folder ``image_cache``. An azimuth is the number of 20°.

    Args:
        folder: where ``smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz``, ``...-cat.mat.gz`` and
            ``...-info.mat.gz`` and the same with ``smallnorb-5x01235x9x18x6x2x96x96-testing`` lie, packed or unpacked
            (``.mat``); one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        size: height and width.
        cameras: whose photo is taken; both are two channels.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, or is not what its name says.
    """

    licence = "for research only, not to be sold"
    citation = (
        "LeCun, Huang, Bottou: Learning Methods for Generic Object Recognition with Invariance to Pose and Lighting. "
        "CVPR 2004."
    )
    factor_names = ("category", "instance", "elevation", "azimuth", "lighting")
    factor_sizes = (5, 10, 9, 18, 6)
    factor_kinds: tuple[FactorKind, ...] = ("categorical", "categorical", "ordinal", "circular", "categorical")
    factor_labels: Mapping[str, tuple[str, ...]] = {
        "category": ("animal", "human", "airplane", "truck", "car"),
        "elevation": tuple(str(degrees) for degrees in range(30, 75, 5)),
        "azimuth": tuple(str(degrees) for degrees in range(0, 360, 20)),
    }

    def __init__(
        self, folder: str | Path = "small_norb", size: tuple[int, int] = (96, 96), cameras: Cameras = "left"
    ) -> None:
        if cameras not in ("left", "right", "both"):
            raise ValueError(f"cameras must be 'left', 'right' or 'both', got {cameras!r}")
        chosen = checked_target(size, None, "stretch").size or (96, 96)
        root = locate(folder).resolve()
        photos = [_file(root, part, "dat") for part in _PARTS]
        factors = [_factors(_file(root, part, "cat"), _file(root, part, "info")) for part in _PARTS]
        counts = [len(part) for part in factors]
        options = (chosen, cameras)
        pixels, _ = cached_images(
            root, options, file_state(*photos), lambda _: _blocks(photos, counts, chosen, cameras)
        )
        if len(pixels) != sum(counts):
            raise ValueError(f"'{root}' has {len(pixels):,} photos, and factors of {sum(counts):,}")
        super().__init__(pixels, torch.from_numpy(np.concatenate(factors)))
        self.held_out = torch.arange(counts[0], sum(counts))


def _file(root: Path, part: str, kind: str) -> Path:
    for suffix in (".mat.gz", ".mat"):
        if (root / f"{part}-{kind}{suffix}").is_file():
            return root / f"{part}-{kind}{suffix}"
    raise FileNotFoundError(f"no {part}-{kind}.mat.gz in '{root}': put the six files of small NORB there")


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _header(opened: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of the matrix that follows; the header has three dimensions at least, whatever there are."""
    start = opened.read(8)
    if len(start) < 8:
        raise ValueError(f"it ends after {len(start)} bytes, within its header")
    magic, dimensions = struct.unpack("<Ii", start)
    if magic not in _TYPES or not 1 <= dimensions <= 4:
        raise ValueError(f"it starts with {magic:08x} and {dimensions} dimensions: no matrix of bytes or integers")
    sizes = opened.read(4 * max(dimensions, 3))
    if len(sizes) < 4 * max(dimensions, 3):
        raise ValueError("it ends within its header")
    return _TYPES[magic], struct.unpack(f"<{len(sizes) // 4}I", sizes)[:dimensions]


def _content(opened: BinaryIO, count: int) -> bytes:
    """So many bytes, and no less."""
    content = opened.read(count)
    if len(content) < count:
        raise ValueError(f"it ends {count - len(content):,} bytes too early")
    return content


def _factors(categories: Path, others: Path) -> NDArray[np.int64]:
    """Category, instance, elevation, azimuth in steps of 20°, and lighting of a part, [N, 5]."""
    columns = []
    for file, width in ((categories, 1), (others, 4)):
        with reading(file, "a file of small NORB"), _open(file) as opened:
            dtype, shape = _header(opened)
            if dtype.kind != "i" or shape[1:] != (4,) * (width > 1) or not 0 < shape[0] <= 10**6:
                raise ValueError(f"it holds {dtype} {list(shape)}, expected int32 [N{', 4' if width > 1 else ''}]")
            content = _content(opened, 4 * math.prod(shape))
            columns.append(np.frombuffer(content, dtype).reshape(-1, width).astype(np.int64))
    if len(columns[0]) != len(columns[1]):
        raise ValueError(f"'{categories}' has {len(columns[0]):,} rows, '{others.name}' {len(columns[1]):,}")
    factors = np.concatenate(columns, 1)
    if (factors[:, 3] % 2).any():
        raise ValueError(f"'{others}' holds an odd azimuth, expected 0, 2, ..., 34")
    factors[:, 3] //= 2
    if ((factors < 0) | (factors >= SmallNORB.factor_sizes)).any():
        raise ValueError(f"'{others}' or '{categories.name}' holds values outside 5 × 10 × 9 × 18 × 6")
    return factors


def _blocks(files: list[Path], counts: list[int], size: Size, cameras: Cameras) -> Iterator[NDArray[np.uint8]]:
    """The photos of both parts, [n, C, H, W], piece by piece."""
    views = {"left": slice(0, 1), "right": slice(1, 2), "both": slice(0, 2)}[cameras]
    for file, count in zip(files, counts, strict=True):
        with reading(file, "a file of small NORB"), _open(file) as opened:
            dtype, shape = _header(opened)
            if dtype != np.uint8 or len(shape) != 4 or shape[:2] != (count, 2) or not 0 < math.prod(shape[2:]) < 2**24:
                raise ValueError(f"it holds {dtype} {list(shape)}, expected uint8 [{count}, 2, H, W]")
            for start in range(0, count, _TOGETHER):
                rows = min(_TOGETHER, count - start)
                content = _content(opened, rows * math.prod(shape[1:]))
                photos = np.frombuffer(content, np.uint8).reshape(rows, *shape[1:])[:, views]
                planes = np.ascontiguousarray(photos).reshape(-1, *shape[2:])
                yield resized(planes, size).reshape(rows, -1, *size)
            if opened.read(1):
                raise ValueError("it goes on after its last photo")
