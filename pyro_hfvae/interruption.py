"""SIGINT, SIGTERM and SIGHUP: they end a command with one line, and training after the step that they arrive in."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

__all__ = [
    "Interruption",
    "TrainingStoppedError",
    "advice",
    "advising",
    "end_on_signals",
    "exit_on_signals",
    "ignore_signals",
    "unfinished",
]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

REPEATED_AFTER = 1.0
"""Seconds after which a further signal is another wish to stop: some send one twice, to the process and its group."""

_unfinished: set[Path] = set()
_advice: list[Callable[[], str]] = []


def end_on_signals() -> None:
    """From now on a signal ends the process at once, with one line on standard error and 128 + its number.

    The line ends with the :func:`advice` of the moment, and what is :func:`unfinished` is deleted. No exception is
    raised: code of others may swallow one, and threads may wait for what it broke off. Signals that are ignored, as by
    ``nohup``, stay so.
    """
    _take(_end)


def exit_on_signals(status: int) -> None:
    """From now on a signal makes the process, whose work is done, exit at once with this status."""
    _take(lambda *_: os._exit(status))


def _take(handler: Callable[[int, FrameType | None], object]) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


def _end(signum: int, frame: FrameType | None) -> None:
    try:
        for path in _unfinished:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        line = f"pyro-hfvae: stopped: {signal.Signals(signum).name}; {advice()}\n"
        os.write(2, line.encode(errors="replace"))  # not through sys.stderr, which may be in the middle of a write
    finally:
        os._exit(128 + signum)


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Within it, a signal that ends the process deletes this file or folder."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


@contextmanager
def advising(text: Callable[[], str]) -> Iterator[None]:
    """Within it, ``text`` gives the advice that is printed when a signal arrives."""
    _advice.append(text)
    try:
        yield
    finally:
        _advice.pop()


def advice() -> str:
    """What can be gone on with if the command is stopped now, and how."""
    return _advice[-1]() if _advice else "there is nothing to go on from"


class TrainingStoppedError(Exception):
    """A signal has ended the training of a run; the message says whether there is a checkpoint of the step reached.

    Attributes:
        signal: which.
    """

    def __init__(self, signum: signal.Signals, message: str) -> None:
        super().__init__(message)
        self.signal = signum


class Interruption:
    """Remembers a signal while the context is open, instead of breaking off whatever happens to run.

    A KeyboardInterrupt in the middle of a logger's queue, say, would leave a thread that waits for ever. A second
    signal ends the process at once. Signals that are ignored, as by ``nohup``, stay so; threads other than the main one
    cannot take any.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
            self._before = {signum: now for signum, now in self._before.items() if now != signal.SIG_IGN}
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def take(self) -> None:
        """Takes the signals, again where Lightning has taken one."""
        for signum in self._before:
            signal.signal(signum, self._receive)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = signal.Signals(signum), now
        elif now - self._at > REPEATED_AFTER:
            # A KeyboardInterrupt, say, is not at once.
            signal.signal(signum, _end if self._before[signal.Signals(signum)] is _end else signal.SIG_DFL)
            os.kill(os.getpid(), signum)


def ignore_signals(*_: Any) -> None:
    """For processes that prepare batches, which get the signals of their group too: the training process ends them."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
