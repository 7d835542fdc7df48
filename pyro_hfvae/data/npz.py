"""Arrays from npz and npy files of others: headers are checked against the file size, and nothing is unpickled."""

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayEntry", "map_array", "naming", "open_array", "read_all", "read_array", "read_arrays", "reading"]


_PIECE = 2**24
"""Bytes that are read at once."""


class ArrayEntry(NamedTuple):
    """An array in a file, of which only the header was read."""

    file: IO[bytes]
    """Stands behind the header."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    def values(self) -> NDArray[Any]:
        """The array itself."""
        flat = np.empty(math.prod(self.shape), self.dtype)
        raw = flat.view(np.uint8) if flat.nbytes else np.empty(0, np.uint8)
        for start in range(0, len(raw), _PIECE):
            part = raw[start : start + _PIECE]
            content = self.file.read(len(part))
            if len(content) < len(part):
                raise ValueError(f"it ends after {start + len(content):,} bytes of {len(raw):,}")
            part[:] = np.frombuffer(content, np.uint8)
        return flat.reshape(self.shape, order="F" if self.fortran_order else "C")


@contextmanager
def reading(file: Path, what: str) -> Iterator[None]:
    """Turns whatever a damaged file raises into one line.

    zipfile, the decompressors and NumPy raise a dozen kinds of errors for it, MemoryError and tokenize errors among
    them.

    Raises:
        ValueError: something failed; names the file, and what it should have been.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"'{file}' cannot be read as {what}: {_reason(error)}") from error


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """Puts the name of a file in front of a ValueError that lacks it; None is no file.

    Raises:
        ValueError: that of the body.
    """
    try:
        yield
    except ValueError as error:
        if file is None or f"'{file}'" in str(error):
            raise
        raise ValueError(f"'{file}': {error}") from error


def read_all(file: Path, what: str) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file, unpickling nothing.

    Args:
        file: which is there.
        what: it is, for the error.

    Raises:
        ValueError: it is no npz file, or is damaged.
    """
    with reading(file, what), zipfile.ZipFile(file) as archive:
        return {name: _read(archive, name) for name in (entry.removesuffix(".npy") for entry in archive.namelist())}


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with open_array(archive, name) as entry:
        values = entry.values()
        entry.file.read()  # to the end, where the checksum of the archive is compared
        return values


def _reason(error: Exception) -> str:
    """What an error gives as its reason, in one line; its kind where it gives none."""
    return " ".join(str(error).split()) or type(error).__name__


def read_arrays(file: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, unpickling nothing.

    Args:
        file: which is there.
        names: what must be in it.
        optional: what is read if it is in it.

    Raises:
        ValueError: it is no npz file, is damaged, or lacks an array.
    """
    with reading(file, f"an npz file with {' and '.join(names)}"), zipfile.ZipFile(file) as archive:
        found = [name for name in optional if f"{name}.npy" in archive.namelist()]
        return {name: _read(archive, name) for name in (*names, *found)}


def read_array(file: Path, what: str) -> NDArray[Any]:
    """The array of an npy file, unpickling nothing.

    Args:
        file: which is there.
        what: is in it, for the error.

    Raises:
        ValueError: it is no npy file, or is damaged.
    """
    with reading(file, f"an .npy file with {what}"), file.open("rb") as opened:
        return _entry(opened, os.fstat(opened.fileno()).st_size).values()


def map_array(file: Path, what: str) -> NDArray[Any]:
    """The array of an npy file, of which nothing is read before it is asked for.

    Args:
        file: which is there.
        what: is in it, for the error.

    Raises:
        ValueError: it is no npy file, is damaged, empty, or has its rows scattered over the file.
    """
    with reading(file, f"an .npy file with {what}"), file.open("rb") as opened:
        entry = _entry(opened, os.fstat(opened.fileno()).st_size)
        if not math.prod(entry.shape):
            raise ValueError(f"its shape is {list(entry.shape)}, which is empty")
        if entry.fortran_order and len(entry.shape) > 1:
            raise ValueError("it is in Fortran order, rows scattered over the file: save numpy.ascontiguousarray of it")
        return np.memmap(opened, entry.dtype, "r", opened.tell(), entry.shape)


@contextmanager
def open_array(archive: zipfile.ZipFile, name: str) -> Iterator[ArrayEntry]:
    """An array of an npz file that is to be read, once its header was found to fit the size of the entry.

    Raises:
        ValueError: there is no such array, or its header is damaged or claims more or less than is there.
    """
    names = [entry.removesuffix(".npy") for entry in archive.namelist()]
    if name not in names:
        raise ValueError(f"it has no '{name}'; it has: {', '.join(names) or 'nothing'}")
    with archive.open(f"{name}.npy") as opened:
        try:
            entry = _entry(opened, archive.getinfo(f"{name}.npy").file_size)
        except Exception as error:
            raise ValueError(f"{name}: {_reason(error)}") from error
        yield entry


def _entry(opened: IO[bytes], size: int) -> ArrayEntry:
    """The header at the start of a file of so many bytes."""
    version = np.lib.format.read_magic(opened)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(opened)
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, which are not unpickled: save numbers, and strings with .astype(str)"
        )
    if any(not 0 <= count < 2**63 for count in shape):
        raise ValueError(f"its header claims the shape {list(shape)}")
    claimed, there = math.prod(shape) * dtype.itemsize, size - opened.tell()
    if claimed != there:
        raise ValueError(f"its header claims {dtype} {list(shape)}, {claimed:,} bytes, but {there:,} are there")
    return ArrayEntry(opened, shape, dtype, fortran_order)
