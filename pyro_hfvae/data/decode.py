"""One picture of any format that pillow reads, as uint8 of the channels and size that are asked for."""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["Channels", "Fit", "Size", "decode", "picture_suffixes", "resized"]

Channels: TypeAlias = Literal[1, 3, 4]
Fit: TypeAlias = Literal["crop", "stretch"]
Size: TypeAlias = tuple[int, int]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "LA")
_TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")

# Other programs decode these (EPS, by running Ghostscript), or nothing does: pillow knows no more than their headers.
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


def picture_suffixes() -> frozenset[str]:
    """The suffixes of the formats that pillow reads by itself, in lower case, with the dot."""
    formats = _formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def decode(source: Path | bytes, size: Size | None, channels: Channels | None, fit: Fit) -> NDArray[np.uint8]:
    """Reads a picture.

    It is turned as its EXIF orientation asks. Grey becomes colour and colour grey (ITU-R 601-2); palettes, CMYK and
    other spaces become RGB; of a film the first frame is taken. Transparent pixels are laid over black, unless there
    are four channels. Values of 16 bits are divided by 257, and floats from 0 to 1 multiplied by 255.

    Args:
        source: a file, or its content.
        size: height and width; None keeps that of the picture.
        channels: 1 grey, 3 red, green, blue, 4 with opacity; None is 1 for grey pictures and 3 for all others.
        fit: ``crop`` cuts the largest part in the middle that has the proportions of the size, ``stretch`` takes all.

    Returns:
        uint8, [C, H, W].

    Raises:
        Exception: of any kind, where pillow cannot read it.
        ValueError: it has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or values that are not of one of the kinds
            above.
    """
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as opened:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and opened.width * opened.height > limit:
            raise ValueError(
                f"{opened.width} × {opened.height} pixels, more than PIL.Image.MAX_IMAGE_PIXELS, {limit:,}"
            )
        if size is not None:
            opened.draft(None, (2 * max(size), 2 * max(size)))  # JPEGs are decoded at half the size and less, if large
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        picture = _in_bytes(opened, opened.format)
    if channels is None:
        channels = 1 if picture.mode in _GREY else 3
    picture = _converted(picture, channels)
    if size is not None:
        picture = _fitted(picture, size, fit)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def resized(images: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Grey planes, uint8, [n, H, W], at another size, height and width."""
    if images.shape[1:] == size:
        return images
    return np.stack([np.asarray(_fitted(Image.fromarray(plane), size, "stretch")) for plane in images])


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED)


def _in_bytes(picture: Image.Image, file_format: str | None) -> Image.Image:
    """The same with 8 bits for each value."""
    mode = picture.mode
    if mode.startswith("I;16") or (mode == "I" and file_format == "PNG"):  # pillow before 11 has I for 16-bit PNGs
        values = np.asarray(picture).astype(np.int64)
        if 0 < values.max() <= 255:
            raise ValueError(f"16 bits for each value, but none above {values.max()}: save it with 8 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if mode == "I":
        raise ValueError("32-bit integers, expected 8 or 16 bits for each value")
    if mode == "F":
        reals = np.asarray(picture)
        if not (reals.min() >= 0 and reals.max() <= 1):  # not so of NaN either
            raise ValueError(f"real values from {reals.min():g} to {reals.max():g}, expected 0 to 1")
        return Image.fromarray((reals * 255).round().astype(np.uint8))
    return picture


def _converted(picture: Image.Image, channels: Channels) -> Image.Image:
    transparent = picture.mode in _TRANSPARENT or "transparency" in picture.info
    if transparent and channels < 4:
        opaque = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(opaque, picture.convert("RGBA")).convert("RGB")
    if picture.mode in ("LAB", "HSV") and channels != 3:
        picture = picture.convert("RGB")
    return picture if picture.mode == _MODES[channels] else picture.convert(_MODES[channels])


def _fitted(picture: Image.Image, size: Size, fit: Fit) -> Image.Image:
    height, width = size
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
