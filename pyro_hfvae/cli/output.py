"""Standard output that may go away while a command runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast

__all__ = ["output_may_close"]


@contextmanager
def output_may_close() -> Iterator[None]:
    """Drops what standard output does not take, for it is closed or its reader has gone: training goes on without."""
    with open(os.devnull, "w") as nowhere:
        stream = nowhere if sys.stdout is None or sys.stdout.closed else sys.stdout
        with redirect_stdout(cast(TextIO, _Lenient(stream))):
            yield


class _Lenient:
    """A stream whose errors do not matter."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if the stream takes it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._go_nowhere()
            return len(text)

    def flush(self) -> None:
        """Flushes, if the stream takes it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._go_nowhere()

    def _go_nowhere(self) -> None:
        """Else the interpreter would try once more at its end, and complain."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
