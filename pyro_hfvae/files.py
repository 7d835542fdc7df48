"""Where a path of the user is, and writing files so that a reader never sees half of one."""

import os
import tempfile
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

__all__ = ["expanded", "write_atomically", "write_figure"]


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path of the user, in which ``~`` is a home folder; of a user who does not exist, it stays as it is."""
    return Path(os.path.expanduser(path))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes to a temporary file beside ``path``, then renames: either the old content stands or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp gives a file that only its owner may read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as a PNG of its own resolution, whole or not at all."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    write_atomically(path, buffer.getvalue())
