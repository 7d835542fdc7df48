"""One process at a time on a run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["only_process"]


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Locks a run folder for this process; the lock goes with the process, however it ends.

    Record locks are not inherited: processes that prepare batches cannot keep one when this process was killed.

    Raises:
        ValueError: another process has it.
    """
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ValueError(f"run '{folder}' is being trained by another process; wait until it has ended") from None
        except OSError:
            pass  # a file system without locks: nothing can be known
        yield
