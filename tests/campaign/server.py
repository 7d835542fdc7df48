"""Runs commands in forked children of a process that has imported everything: .3 s for each instead of 5."""

import atexit
import io
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyro_hfvae.posterior  # noqa: F401  what `check` imports late
from pyro_hfvae.cli import main

SECONDS = 60.0
"""After which a command hangs."""

MEMORY = 8 * 2**30
"""Bytes that a command may address."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    """Exit code; minus the signal that killed it."""
    out: str
    err: str
    hung: bool
    seconds: float


def command(arguments: Sequence[str]) -> int:
    """What the process of the command does."""
    sys.argv = ["pyro-hfvae", *arguments]
    return main()


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    call: Callable[[Sequence[str]], int] = command,
    before: Callable[[], None] | None = None,
    signals: tuple[float, signal.Signals] | None = None,
) -> Done:
    """Runs a command of ``pyro-hfvae`` in a process group of its own.

    Args:
        arguments: of the command.
        folder: an existing one, whose folder ``work`` is the current one, and ``home`` is home; output goes beside it.
        call: what is called with the arguments instead of the command.
        before: called in the child first.
        signals: seconds after which the child gets a signal, and which.
    """
    work, home, out, err = (folder / name for name in ("work", "home", "out", "err"))
    for made in (work, home):
        made.mkdir(exist_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(arguments, work, home, out, err, call, before)
    hung = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        seconds = time.monotonic() - started
        if signals is not None and seconds >= signals[0]:
            os.kill(child, signals[1])
            signals = None
        if seconds > SECONDS:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes that prepare batches
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, err)]
    return Done(os.waitstatus_to_exitcode(status), *texts, hung, time.monotonic() - started)


def _be_child(
    arguments: Sequence[str],
    work: Path,
    home: Path,
    out: Path,
    err: Path,
    call: Callable[[Sequence[str]], int],
    before: Callable[[], None] | None,
) -> None:
    """Never returns."""
    status = 99
    try:
        os.setsid()
        atexit._clear()  # what the parent is to do at its end
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for signum in (signal.SIGTERM, signal.SIGHUP):  # nohup may have them ignored
            signal.signal(signum, signal.SIG_DFL)
        for descriptor, file in enumerate((os.devnull, out, err)):
            opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8", write_through=True)
            for number in (1, 2)
        )
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.environ |= {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "PYRO_HFVAE_DATA": str(home / "data")}
        os.chdir(work)
        if before is not None:
            before()
        status = call(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        threading._shutdown()
        atexit._run_exitfuncs()
        os._exit(status)
