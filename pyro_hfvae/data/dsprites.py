"""dSprites: the 737,280 frames drawn on demand by a rasteriser of ours, or read from a file.

The originals were drawn with LÖVE at 64 × 64 without anti-aliasing (google-deepmind/dsprites-dataset, issues 2 and 3):
a rectangle, an ellipse, and a mesh in the form of a heart. With the constants below, fitted to real frames, 56,071
of 56,080 come out exact; in the others one pixel differs, which hangs on the last bit of the original's float32.
"""

import hashlib
import math
import zipfile
from collections.abc import Mapping
from functools import cache
from operator import index
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers, as_integers
from pyro_hfvae.data.npz import open_array, reading
from pyro_hfvae.data.root import locate

__all__ = ["DSprites", "DSpritesFile", "render"]

CANVAS = 64
HALF_SIDE = 9.6  # of the square at scale 1, in pixels: .3 of the canvas across
ELLIPSE_RATIO = 1.33  # half axes are the half side times and over it, so the area is that of a disc
ELLIPSE_VERTICES = 100
HEART_VERTICES = 150
SUBPIXEL = 256  # the GPU rounds vertices to 1/256 pixel before it fills

FACTOR_NAMES = ("shape", "scale", "orientation", "position_x", "position_y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
FACTOR_KINDS: tuple[FactorKind, ...] = ("categorical", "ordinal", "circular", "ordinal", "ordinal")

FACTOR_PERIODS = MappingProxyType({"orientation": 39})  # the last of the 40 is the first again

FILE_NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
SOURCE = "https://github.com/google-deepmind/dsprites-dataset"

_PHASES = (
    31  # centres lie at 16 + i + i/31, i from 0 to 31: pixel i and phase i/31, save that i = 31 is pixel 32, phase 0
)
_LONGEST = 28  # rows that the longest edge, a side of the square at scale 1, may cross
_ITEMS = HEART_VERTICES

Words = npt.NDArray[np.uint8]


class DSprites(Images):
    """All 3 × 6 × 40 × 32 × 32 frames of dSprites, drawn when asked for, in the order of the original file.

    Orientation runs over 40 values from 0 to 2π with both ends: the first and the last are the same angle.

    Args:
        fixed: factor to the one value that it keeps, counted from 0. It is then no factor of the data:
            ``DSprites({"orientation": 0})`` are the 18,432 upright frames, with four factors.
        first: factor to how many of its values it keeps, the first ones, at least 2.
            ``DSprites(first={"orientation": 10})`` are the 184,320 frames turned by less than a right angle, in which
            orientation is unambiguous: a square looks the same four times in a turn, an ellipse twice.

    Raises:
        ValueError: a factor or value that dSprites does not have, one both fixed and kept in part, or none that varies.
    """

    licence = "Apache-2.0"
    citation = "Matthey, Higgins, Hassabis, Lerchner, dSprites: disentanglement testing sprites dataset, 2017"
    image_shape = (1, CANVAS, CANVAS)

    def __init__(self, fixed: Mapping[str, int] | None = None, first: Mapping[str, int] | None = None) -> None:
        for argument, part in (("fixed", fixed), ("first", first)):
            if not isinstance(part, Mapping | None):
                raise ValueError(
                    f"{argument} must map factors to numbers, got {part!r}; a file is read by DSpritesFile"
                )
        given, kept = ({name: index(value) for name, value in (part or {}).items()} for part in (fixed, first))
        sizes = dict(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True))
        for name in (*given, *kept):
            if name not in sizes:
                raise ValueError(f"dSprites has no factor '{name}'; its factors are: {', '.join(sizes)}")
        for name, value in given.items():
            if not 0 <= value < sizes[name]:
                raise ValueError(f"factor '{name}' can be fixed at 0 to {sizes[name] - 1}, got {value}")
        for name, count in kept.items():
            if name in given:
                raise ValueError(f"factor '{name}' is fixed and has no first values: leave it out of one of the two")
            if not 2 <= count <= sizes[name]:
                raise ValueError(f"the first 2 to {sizes[name]} values of factor '{name}' can be kept, got {count}")
        self._varied = [place for place, name in enumerate(FACTOR_NAMES) if name not in given]
        if not self._varied:
            raise ValueError("every factor is fixed: leave one that varies")
        self._values = torch.tensor([given.get(name, 0) for name in FACTOR_NAMES])
        self.factor_names = tuple(FACTOR_NAMES[place] for place in self._varied)
        self.factor_sizes = tuple(kept.get(name, sizes[name]) for name in self.factor_names)
        # Less than a whole turn has two ends.
        self.factor_periods = {
            name: period
            for name, period in FACTOR_PERIODS.items()
            if name not in given and kept.get(name, period) >= period
        }
        kinds = dict(zip(FACTOR_NAMES, FACTOR_KINDS, strict=True)) | {
            name: "ordinal" for name in FACTOR_PERIODS if name not in self.factor_periods
        }
        self.factor_kinds = tuple(kinds[name] for name in self.factor_names)
        _edge_tables()  # takes a fraction of a second: here, not in the first batch

    def __len__(self) -> int:
        return math.prod(self.factor_sizes)

    def images(self, indices: Integers) -> Tensor:
        """Frames at ``indices`` [B], float32 zeros and ones, [B, 1, 64, 64]."""
        factors = self.factors(indices)
        classes = self._values.expand(len(factors), -1).clone()
        classes[:, self._varied] = factors
        return render(classes).unsqueeze(1).float()

    def factors(self, indices: Integers) -> Tensor:
        """The factors that vary, in dSprites' order, of the frames at ``indices`` [B], int64, [B, F]."""
        return torch.stack(torch.unravel_index(self._checked(indices), self.factor_sizes), dim=1)


class DSpritesFile(Images):
    """dSprites frames in a file: the official one, or a part of it with the same names inside.

    Nothing in the file is unpickled. The frames are kept as bits: 512 bytes each.

    Args:
        path: the ``.npz`` file, or the folder in which it lies under its official name; one that is not absolute is
            looked for here and then in the data root (:func:`~pyro_hfvae.data.data_root`). It holds ``imgs`` (uint8,
            zeros and ones, [N, 64, 64]) and ``latents_classes`` ([N, 5], or [N, 6] with the constant colour first).
        sha256: what the file's checksum must be, if that is to be checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or its checksum is another.
    """

    factor_names = FACTOR_NAMES
    factor_sizes = FACTOR_SIZES
    factor_kinds = FACTOR_KINDS
    factor_periods = FACTOR_PERIODS
    image_shape = (1, CANVAS, CANVAS)

    def __init__(self, path: str | Path, sha256: str | None = None) -> None:
        file = locate(path)
        if file.is_dir():
            file = file / FILE_NAME
        if not file.is_file():
            raise FileNotFoundError(f"no dSprites file at '{file}': put {FILE_NAME} from {SOURCE} there")
        if sha256 is not None:
            _check_sha256(file, sha256)
        with reading(file, "an npz file with imgs and latents_classes"), zipfile.ZipFile(file) as archive:
            self._words = _read_frames(archive)  # [N, 512]
            self._classes = _read_classes(archive)  # [N, 5]
            if len(self._words) != len(self._classes):
                raise ValueError(f"it holds {len(self._words):,} imgs but {len(self._classes):,} latents_classes")

    def __len__(self) -> int:
        return len(self._classes)

    def images(self, indices: Integers) -> Tensor:
        """Frames at ``indices`` [B], float32 zeros and ones, [B, 1, 64, 64]."""
        return _unpack(self._words[self._checked(indices).numpy()]).unsqueeze(1).float()

    def factors(self, indices: Integers) -> Tensor:
        """Shape, scale, orientation and position of the frames at ``indices`` [B], int64, [B, 5]."""
        return self._classes[self._checked(indices)]


def render(classes: Integers) -> Tensor:
    """Draws dSprites frames.

    A frame is a polygon, scaled by .5, .6, ..., 1, turned by minus 2πj/39, moved to (16 + 32·i/31, 16 + 32·k/31), its
    vertices rounded to 1/256 pixel, and filled where pixel centres are inside; a centre on the outline is inside at
    the left and at the bottom. In a row, every edge that crosses the line of centres adds 2^column to a word of 64 bits
    if it bounds the inside to the right, and takes it off if to the left: the sum has the bits of the inside set.

    Args:
        classes: shape, scale, orientation, x and y as indices in 3 × 6 × 40 × 32 × 32, integers, [B, 5].

    Returns:
        Zeros and ones, uint8, [B, 64, 64].
    """
    classes = as_integers("classes", classes, "[B, 5]")
    table = _edge_tables()
    shape, scale, orientation, column, row = classes.unbind(1)
    sprite = (shape * FACTOR_SIZES[1] + scale) * FACTOR_SIZES[2] + orientation
    upper_x, lower_x = table.x[sprite * _PHASES + column % _PHASES].int().unbind(1)  # [B, _ITEMS] each
    upper_y, lower_y = table.y[sprite * _PHASES + row % _PHASES].int().unbind(1)

    # Rows whose centre y has upper_y < y <= lower_y. A shift by 8 is a floor division by SUBPIXEL.
    line = ((upper_y + SUBPIXEL // 2) >> 8) + table.row[shape]
    y = line * SUBPIXEL + SUBPIXEL // 2
    crosses = y <= lower_y

    # The first column whose centre is at the crossing or right of it, in whole numbers throughout.
    height = (lower_y - upper_y).clamp(min=1)
    from_upper = torch.div((y - upper_y) * (upper_x - lower_x), height, rounding_mode="floor")  # minus the ceiling
    first = (upper_x - from_upper + SUBPIXEL // 2 - 1) >> 8

    pixel_x, pixel_y = (16 + at + at // _PHASES for at in (column[:, None], row[:, None]))
    bits = table.sign[sprite] * crosses << torch.where(crosses, first + pixel_x, 0)
    words = torch.zeros(len(classes), CANVAS, dtype=torch.int64)
    words.scatter_add_(1, torch.where(crosses, line + pixel_y, 0), bits)
    return _unpack(words.numpy().astype("<i8", copy=False).view(np.uint8))


class _Edges(NamedTuple):
    """Edges of every sprite, upper end first, as items: a long edge is one item for each row that it may cross."""

    x: Tensor  # of upper and lower end, in 1/256 pixel from the centre's pixel, int16, [720 · 31 phases, 2, _ITEMS]
    y: Tensor
    sign: Tensor  # +1 where the inside is to the left, -1 where to the right, int64, [720, _ITEMS]
    row: Tensor  # which of the rows that the edge crosses, int32, [3, _ITEMS]


@cache
def _edge_tables() -> _Edges:
    edges = torch.zeros(3, _ITEMS, 2, 2, dtype=torch.float64)  # shape, item, end, coordinate
    row = torch.zeros(3, _ITEMS, dtype=torch.int32)
    for shape, outline in enumerate((_square(), _ellipse(), _heart())):
        rows = _LONGEST if shape == 0 else 1  # edges of the others are shorter than a pixel
        count = len(outline) * rows
        edges[shape, :count] = torch.stack([outline, outline.roll(-1, 0)], 1).repeat_interleave(rows, 0)
        row[shape, :count] = torch.arange(rows, dtype=torch.int32).repeat(len(outline))

    scale = 0.5 + 0.1 * torch.arange(6, dtype=torch.float64)[:, None, None]
    angle = 2 * torch.pi * torch.arange(40, dtype=torch.float64)[:, None] / 39
    cos, sin = scale * angle.cos(), scale * angle.sin()  # [6, 40, 1]
    u, v = edges.permute(3, 0, 2, 1)[:, :, :, None, None]  # [3, 2, 1, 1, _ITEMS]
    x, y = cos * u + sin * v, cos * v - sin * u  # [3, 2, 6, 40, _ITEMS]
    x, y = (c.permute(0, 2, 3, 1, 4).reshape(-1, 1, 2, _ITEMS) for c in (x, y))  # [720, 1, 2, _ITEMS]
    downward = y[:, :, :1] < y[:, :, 1:]  # outlines run clockwise on the screen: their right side runs down
    x, y = (torch.where(downward, c, c.flip(2)) for c in (x, y))
    phase = torch.arange(_PHASES, dtype=torch.float64)[:, None, None] / _PHASES
    x, y = ((c + phase).mul_(SUBPIXEL).round_().to(torch.int16).flatten(0, 1) for c in (x, y))
    return _Edges(x, y, torch.where(downward, 1, -1)[:, 0, 0], row)


def _square() -> Tensor:
    return HALF_SIDE * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)


def _ellipse() -> Tensor:
    t = 2 * torch.pi * torch.arange(ELLIPSE_VERTICES, dtype=torch.float64) / ELLIPSE_VERTICES
    return HALF_SIDE * torch.stack([ELLIPSE_RATIO * t.cos(), t.sin() / ELLIPSE_RATIO], 1)


def _heart() -> Tensor:
    """The curve (16 sin³t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t), about 32 wide and 29 high, brought to 2 by 2."""
    t = 2 * torch.pi * torch.arange(HEART_VERTICES, dtype=torch.float64) / HEART_VERTICES
    x = t.sin() ** 3
    y = (13 * t.cos() - 5 * (2 * t).cos() - 2 * (3 * t).cos() - (4 * t).cos()) / 14.5 + 0.15
    return HALF_SIDE * torch.stack([x, -y], 1)  # up is minus in an array


def _unpack(words: Words) -> Tensor:
    """Bytes, lowest bit first, [B, 512], to pixels, uint8, [B, 64, 64]."""
    return torch.from_numpy(np.unpackbits(words, axis=-1, bitorder="little")).view(-1, CANVAS, CANVAS)


def _check_sha256(file: Path, expected: str) -> None:
    with file.open("rb") as opened:
        actual = hashlib.file_digest(opened, "sha256").hexdigest()
    if actual != expected.lower():
        raise ValueError(f"'{file}' has SHA-256 {actual}, expected {expected}")


def _read_frames(archive: zipfile.ZipFile) -> Words:
    """The bits of ``imgs``, [N, 512], read in pieces: whole, the official array would take 3 GB."""
    with open_array(archive, "imgs") as entry:
        dims = entry.shape
        if entry.dtype != np.uint8 or entry.fortran_order or len(dims) != 3 or dims[1:] != (CANVAS, CANVAS):
            raise ValueError(f"imgs is {entry.dtype} {list(dims)}, expected uint8 [N, {CANVAS}, {CANVAS}]")
        words = np.empty((dims[0], CANVAS * CANVAS // 8), np.uint8)
        for start in range(0, len(words), 4096):
            part = words[start : start + 4096]
            content = entry.file.read(len(part) * CANVAS * CANVAS)
            if len(content) < len(part) * CANVAS * CANVAS:
                raise ValueError(f"imgs ends before frame {dims[0]:,}")
            pixels = np.frombuffer(content, np.uint8).reshape(len(part), -1)
            if pixels.max() > 1:
                raise ValueError(f"imgs holds the value {pixels.max()}, expected only 0 and 1")
            part[:] = np.packbits(pixels, axis=1, bitorder="little")
        entry.file.read()  # to the end, where the checksum of the archive is compared
        return words


def _read_classes(archive: zipfile.ZipFile) -> Tensor:
    with open_array(archive, "latents_classes") as entry:
        if entry.dtype.kind not in "iu" or len(entry.shape) != 2 or entry.shape[1] not in (5, 6):
            raise ValueError(
                f"latents_classes is {entry.dtype} {list(entry.shape)}, expected integers [N, 5] or [N, 6]"
            )
        classes = entry.values()
        entry.file.read()
    if classes.shape[1] == 6:
        if classes[:, 0].any():
            raise ValueError("latents_classes has six columns, and the first, colour, is not all 0")
        classes = classes[:, 1:]
    if ((classes < 0) | (classes >= np.array(FACTOR_SIZES))).any():
        raise ValueError(f"latents_classes holds classes outside {' × '.join(map(str, FACTOR_SIZES))}")
    return torch.from_numpy(classes.astype(np.int64))
