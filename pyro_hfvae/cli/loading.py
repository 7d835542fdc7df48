"""Which code a subcommand may import: the user's own, or of a run only what the user trusts."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyro_hfvae.train import LoadedRun, RunFolder, load_run
from pyro_hfvae.train.trust import is_own, limited_imports

__all__ = ["imports_of_fit", "load", "resumed", "trusted"]


def load(run: Path, trust: Sequence[str] | None) -> LoadedRun:
    """Loads a run; the current folder is an import path only for what is the user's own or trusted."""
    folder = RunFolder(run)
    folder.require()
    if trust or is_own(folder):
        _import_from_here()
    return load_run(folder.path, trust=trust or ())


@contextmanager
def imports_of_fit(arguments: Sequence[str]) -> Iterator[None]:
    """What ``fit`` may import while it reads its options and trains: anything, or what a resumed run may name.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: ``--trust`` without ``--resume``; later, the run names what is not trusted.
    """
    folder, trust = resumed(arguments), trusted(arguments)
    if folder is None:
        if trust:
            raise ValueError("--trust is for --resume: what you configure yourself is trusted")
        _import_from_here()
        yield
        return
    run = RunFolder(Path(folder))
    run.require()
    if trust or is_own(run):
        _import_from_here()
    with limited_imports(run, trust):
        yield


def resumed(arguments: Sequence[str]) -> str | None:
    """The run that ``fit --resume RUN`` goes on with."""
    return next(iter(_values(arguments, "--resume")), None)


def trusted(arguments: Sequence[str]) -> list[str]:
    """The modules that ``--trust`` names, before any option is parsed."""
    return _values(arguments, "--trust")


def _values(arguments: Sequence[str], option: str) -> list[str]:
    found = []
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == option and (equals or place + 1 < len(arguments)):
            found.append(value if equals else arguments[place + 1])
    return found


def _import_from_here() -> None:
    """The user's own programs are named by import path, and lie in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
