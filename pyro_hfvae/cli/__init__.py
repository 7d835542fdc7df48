"""The command ``pyro-hfvae``."""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from pyro_hfvae.interruption import advice, advising, end_on_signals, exit_on_signals

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; bad input ends in one line on standard error and exit code 2.

    Args:
        arguments: of the command; by default those of the process, which signals end from now on.
    """
    is_process = arguments is None
    given = list(sys.argv[1:] if arguments is None else arguments)
    if is_process:
        end_on_signals()
    with advising(lambda: _advice(given)):
        try:
            # Late, because it imports torch, Pyro and Lightning: seconds in which a signal may come.
            from pyro_hfvae.cli.run import run

            status = run(given)
        except KeyboardInterrupt:
            print(f"pyro-hfvae: stopped: SIGINT; {advice()}", file=sys.stderr)
            status = 128 + signal.SIGINT
    if is_process:
        with suppress(AttributeError, OSError, ValueError):  # it is closed, and the interpreter does what is to be done
            sys.stdout.flush()
        exit_on_signals(status)
    return status


def _advice(arguments: Sequence[str]) -> str:
    """What can be gone on with if a subcommand is stopped, as long as it says nothing better itself."""
    if arguments[:1] == ["fit"]:
        return "nothing was written: give the command again"
    if arguments[:1] == ["report"] and "--complete" in arguments:
        return "what was completed is kept: give the command again, and it does the rest"
    return "there is nothing to go on from: give the command again"
