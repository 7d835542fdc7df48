"""Pictures in files, decoded by several threads, piece by piece, into a cache of images of one shape."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyro_hfvae.data.decode import Channels, Fit, Size, decode
from pyro_hfvae.data.image_cache import cached_images
from pyro_hfvae.data.integers import as_integers
from pyro_hfvae.data.mapped import MappedArray

__all__ = ["Listed", "Target", "cached_pictures", "checked_target", "report"]

_TOGETHER = 128
"""Pictures that are decoded before they are written: what is in memory at once."""


class Listed(NamedTuple):
    """A picture in a folder or an archive."""

    name: str
    """Relative to the folder, with ``/``."""
    size: int
    """In bytes."""
    changed: int
    """Time of the last change, or a checksum: another number when the content changes."""


class Target(NamedTuple):
    """What pictures are made into: the arguments of :func:`~pyro_hfvae.data.decode.decode`."""

    size: Size | None
    channels: Channels | None
    fit: Fit


def checked_target(size: Sequence[int] | None, channels: Channels | None, fit: Fit) -> Target:
    """What comes from the user.

    Raises:
        ValueError: it is none of the sizes, channels or fits.
    """
    if size is not None:
        sides = as_integers("size", [size] if isinstance(size, int) else size, "[2]").tolist()
        if min(sides) < 1:
            raise ValueError(f"size must be height and width, 1 or more each, got {sides}")
        size = sides[0], sides[1]
    if channels not in (None, 1, 3, 4):
        raise ValueError(f"channels must be 1 (grey), 3 (red, green, blue) or 4 (with opacity), got {channels}")
    if fit not in ("crop", "stretch"):
        raise ValueError(f"fit must be 'crop' or 'stretch', got {fit!r}")
    return Target(size, channels, fit)


def cached_pictures(
    source: Path, listing: Sequence[Listed], load: Callable[[str], Path | bytes], target: Target, kept: object = None
) -> tuple[MappedArray, dict[str, str]]:
    """Decodes pictures, or finds them decoded.

    Args:
        source: the folder or archive that they lie in.
        listing: the pictures, one at least.
        load: gives the file of a name, or its content.
        target: what they are made into; without size or channels they must all have those of the first.
        kept: sets apart listings of the same source that are kept side by side; by its ``repr``.

    Returns:
        Images, uint8, [N, C, H, W], of the names that could be read, in their order; and why others could not.

    Raises:
        ValueError: pictures differ in size or channels, or more than half cannot be read; names the source.
    """

    def blocks(unreadable: dict[str, str]) -> Iterator[NDArray[np.uint8]]:
        shape: tuple[int, ...] | None = None
        first = ""
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(listing), _TOGETHER):
                names = [listed.name for listed in listing[start : start + _TOGETHER]]
                sources = [_loaded(load, name) for name in names]
                decoded = dict(zip(names, pool.map(_attempted, sources, [target] * len(names)), strict=True))
                images = {name: image for name, image in decoded.items() if not isinstance(image, str)}
                unreadable.update((name, reason) for name, reason in decoded.items() if isinstance(reason, str))
                _check_most(source, len(listing), unreadable)
                for name, image in images.items():
                    if shape is None:
                        shape, first = image.shape, name
                    elif image.shape != shape:
                        raise ValueError(_mixed(source, first, shape, name, image.shape))
                if images:
                    yield np.stack(list(images.values()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such pictures are refused by name
        return cached_images(source, (tuple(target), kept), repr([tuple(listed) for listed in listing]), blocks)


def report(source: Path, unreadable: Mapping[str, str]) -> None:
    """Warns of pictures that are left out, by their names."""
    if unreadable:
        some = "; ".join(f"{name!r} ({reason})" for name, reason in list(unreadable.items())[:5])
        more = f"; and {len(unreadable) - 5:,} more" if len(unreadable) > 5 else ""
        warnings.warn(f"'{source}': left out what cannot be read as an image: {some}{more}", stacklevel=3)


def _loaded(load: Callable[[str], Path | bytes], name: str) -> Path | bytes | str:
    """A file or its content, or the reason why there is none."""
    try:
        return load(name)
    except Exception as error:  # zipfile raises a dozen kinds
        return _reason(error)


def _attempted(source: Path | bytes | str, target: Target) -> NDArray[np.uint8] | str:
    """The image, or the reason why there is none."""
    if isinstance(source, str):
        return source
    try:
        return decode(source, *target)
    except Exception as error:  # so does pillow
        return _reason(error)


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return "no image, or damaged" if reason.startswith("cannot identify image file") else reason


def _check_most(source: Path, count: int, unreadable: Mapping[str, str]) -> None:
    if 2 * len(unreadable) > count:
        name, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"'{source}': more than half of {count:,} images cannot be read; the first of these is {name!r}: {reason}"
        )


def _mixed(source: Path, first: str, shape: tuple[int, ...], name: str, other: tuple[int, ...]) -> str:
    if shape[1:] != other[1:]:
        sizes = [f"{height} × {width}" for _, height, width in (shape, other)]
        return (
            f"'{source}': images of different sizes: {first!r} is {sizes[0]}, {name!r} is {sizes[1]} (height × width); "
            "give size=(height, width), to which all are brought"
        )
    kinds = [{1: "grey"}.get(channels, "in colour") for channels in (shape[0], other[0])]
    return (
        f"'{source}': {first!r} is {kinds[0]}, {name!r} is {kinds[1]}; give channels=1 to have all grey, or channels=3 "
        "to have all in colour"
    )
