"""Images that were read and resized once, and lie in a file of the data root until their source changes."""

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pyro_hfvae.data.mapped import MappedArray
from pyro_hfvae.data.root import data_root
from pyro_hfvae.files import replacing, write_atomically

__all__ = ["Blocks", "cached_images", "file_state"]

Blocks = Callable[[dict[str, str]], Iterator[NDArray[np.uint8]]]
"""Makes blocks of images, [n, C, H, W], all of one shape; enters what it cannot read, with the reason, in the dict."""

_VERSION = 1
"""To be raised when the same source and options come to give other images."""

_HEADER = 128
"""Bytes of the header, which is written last, when the number of images is known."""


def cached_images(source: Path, options: object, content: str, blocks: Blocks) -> tuple[MappedArray, dict[str, str]]:
    """Images of a source, from the folder ``image_cache`` in the data root, and what of the source cannot be read.

    The file is named for the source, the options and the content. It is made where it is not there, or is damaged; it
    gets its name when it is whole, one process makes it while others wait, and those of earlier contents are removed.

    Args:
        source: the folder or file that the images come from.
        options: what else decides what is made of the source; by its ``repr``.
        content: changes if the source does.
        blocks: reads the source.

    Returns:
        The images, uint8, [N, C, H, W], and a reason for each name that could not be read.
    """
    folder = data_root() / "image_cache"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '_', source.name)[:40]}-{_digest(repr((_VERSION, str(source), options)))}"
    file = folder / f"{name}-{_digest(content)}.npy"
    with FileLock(folder / f".{name}.lock"):
        found = _opened(file)
        if found is None:
            _write(file, blocks)
            found = MappedArray(file, "images"), _noted(file)
        for other in folder.glob(f"{glob.escape(name)}-*"):
            if other.stem != file.stem:
                other.unlink()
    return found


def file_state(*files: Path) -> str:
    """Names, sizes and times of change: what stands for the content of large files."""
    states = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    return repr(states)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _opened(file: Path) -> tuple[MappedArray, dict[str, str]] | None:
    """What was made before, if it is whole."""
    try:
        return MappedArray(file, "images"), _noted(file)
    except (ValueError, OSError):
        return None


def _noted(file: Path) -> dict[str, str]:
    noted: dict[str, str] = json.loads(file.with_suffix(".json").read_text())
    return noted


def _write(file: Path, blocks: Blocks) -> None:
    unreadable: dict[str, str] = {}
    with replacing(file) as out:
        out.write(bytes(_HEADER))
        count, shape = 0, None
        for block in blocks(unreadable):
            if shape is not None and block.shape[1:] != shape:
                raise AssertionError(f"blocks of the shapes {shape} and {block.shape[1:]}")
            shape = block.shape[1:]
            count += len(block)
            out.write(np.ascontiguousarray(block).data)
        out.seek(0)
        out.write(_header((count, *(shape or ()))))
        write_atomically(file.with_suffix(".json"), json.dumps(unreadable))  # before the images get their name


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    content = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, content)
    header = buffer.getvalue()
    if len(header) != _HEADER:
        raise AssertionError(f"a header of {len(header)} bytes")
    return header
