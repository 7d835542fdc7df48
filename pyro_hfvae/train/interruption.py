"""SIGINT, SIGTERM and SIGHUP end training after the step that they arrive in."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruption", "TrainingStoppedError", "ignore_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

REPEATED_AFTER = 1.0
"""Seconds after which a further signal is another wish to stop: some send one twice, to the process and its group."""


class TrainingStoppedError(Exception):
    """A signal has ended the training of a run, whose checkpoint is of the step that was reached.

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
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


def ignore_signals(*_: Any) -> None:
    """For processes that prepare batches, which get the signals of their group too: the training process ends them."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
