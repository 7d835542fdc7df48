"""Where a path of the user is, and writing files so that no reader sees half of one, whenever the process dies."""

import fcntl
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from matplotlib.figure import Figure

from pyro_hfvae.interruption import unfinished

__all__ = ["expanded", "replacing", "write_atomically", "write_figure"]


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path of the user, in which ``~`` is a home folder; of a user who does not exist, it stays as it is."""
    return Path(os.path.expanduser(path))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside ``path``, to be written and read, which takes the name at the end.

    Either the old content stands or the new one, on every file system. What a process that was killed left of earlier
    attempts is removed; the file of a process that still writes is locked, and stays.

    Raises:
        OSError: it cannot be written; names ``path``.
    """
    _remove_leftovers(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with unfinished(Path(temporary)), os.fdopen(handle, "w+b") as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine may keep the name and lose the content
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # mkstemp gives a file that only its owner may read
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as a PNG of its own resolution, whole or not at all."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    write_atomically(path, buffer.getvalue())


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}-????????"):  # as mkstemp makes names
        with suppress(OSError), leftover.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _lock(file: BinaryIO) -> None:
    with suppress(OSError):  # a file system without locks
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Makes the new name last; not every file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
