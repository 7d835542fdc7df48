"""Runs a subcommand, and says in one line why it did not end well."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path

import pyro
from jsonargparse import ArgumentError, Namespace

import pyro_hfvae
from pyro_hfvae.cli import commands
from pyro_hfvae.cli.check import check
from pyro_hfvae.cli.data import data
from pyro_hfvae.cli.loading import imports_of_fit
from pyro_hfvae.cli.parser import build_parser
from pyro_hfvae.cli.report import report
from pyro_hfvae.cli.traverse import traverse
from pyro_hfvae.infer import NonFiniteError
from pyro_hfvae.interruption import TrainingStoppedError
from pyro_hfvae.train.one_line import one_line

__all__ = ["run"]

PACKAGE = Path(pyro_hfvae.__file__).parent


def run(given: Sequence[str]) -> int:
    """Runs the subcommand of these arguments; gives the exit code."""
    _quiet()
    _print_anywhere()
    subcommands: dict[str, Callable[[Namespace], None]] = {
        "fit": commands.fit,
        "evaluate": commands.evaluate,
        "traverse": traverse,
        "report": report,
        "check": check,
        "data": data,
    }
    try:
        # Parameters stay with their modules: in Pyro's global store a second model would find those of the first.
        fits = given[:1] == ["fit"]
        with pyro.settings.context(module_local_params=True), imports_of_fit(given) if fits else nullcontext():
            config = build_parser().parse_args(commands.expand_resume(list(given)))
            subcommands[config.command](config[config.command])
    except (ArgumentError, ValueError, NotImplementedError, OSError) as error:
        print(f"pyro-hfvae: error: {one_line(error)}", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        print(f"pyro-hfvae: stopped: {error}", file=sys.stderr)
        return 1
    except TrainingStoppedError as error:
        print(f"pyro-hfvae: stopped: {error}", file=sys.stderr)
        return 128 + error.signal
    return 0


def _print_anywhere() -> None:
    """A letter that the terminal cannot encode is replaced, so that it does not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _quiet() -> None:
    """Silences messages of libraries about hardware, workers and tips, and puts our own warnings in one line."""
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*no pre-optimization state was saved.*")
    # A name in an alphabet that no installed font has: its letters are boxes in the pictures, and right on the page.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
    warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
    warnings.formatwarning = _format_warning


_usual_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Of a warning of this library its text is of use, and not the line of code that gave it."""
    if Path(filename).is_relative_to(PACKAGE):
        return f"pyro-hfvae: warning: {message}\n"
    return _usual_format(message, category, filename, lineno, line)
