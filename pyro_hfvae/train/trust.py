"""Whose code the configuration of a run may name: a run folder is data, and anybody may have made it.

What a user gave to ``fit`` on this machine is known again by its hash. Of any other configuration only classes of this
library and of ``torch.nn`` and ``torch.optim`` are imported, and what the user trusts by name.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from jsonargparse import ArgumentError, set_parsing_settings
from jsonargparse._common import parsing_settings

import pyro_hfvae
from pyro_hfvae.run_outputs import read_text, refuse_links
from pyro_hfvae.train.run_folder import RunFolder

__all__ = ["is_own", "limited_imports", "remember"]

_PACKAGES = ("data", "distributions", "guides", "infer", "models", "schedules", "weak")
ALLOWED = [
    *(f"pyro_hfvae.{name}" for name in (*_PACKAGES, *pyro_hfvae.__all__)),
    "torch.nn",
    "torch.optim",
]
"""What any configuration may name: nothing here does more than compute, or read the files of data that it is given."""


def remember(config: str) -> None:
    """Takes the text of a configuration as one of the user's own."""
    file = _remembered()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="ascii") as lines:
            lines.write(f"{_hash(config)}\n")
    except OSError:  # no home folder to write to: the user will be asked for --trust
        pass


def is_own(run: RunFolder) -> bool:
    """Whether the configuration of a run is, to the letter, one that the user gave to ``fit`` on this machine."""
    file = _remembered()
    return file.is_file() and _hash(read_text(run.config)) in file.read_text(encoding="ascii", errors="replace").split()


@contextmanager
def limited_imports(run: RunFolder, trust: Sequence[str]) -> Iterator[None]:
    """Within it, the configuration of a run that is not the user's own gets no more imported than it may.

    Args:
        run: the run.
        trust: import paths of modules that the user trusts.

    Raises:
        FileNotFoundError: it is no run folder.
        ValueError: the configuration names something else, or a link in the folder leads out of it.
    """
    run.require()
    refuse_links(run.path)
    if is_own(run):
        yield
        return
    before = dict(parsing_settings)
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED, *trust])
        yield
    except (ArgumentError, ValueError) as error:
        found = re.search(r"Importing '([^']*)' is not allowed", str(error))
        if found is None:
            raise
        module = found[1].rpartition(".")[0]
        raise ValueError(
            f"'{run.config}' names '{found[1]}', which is neither of this library nor of torch.nn or torch.optim, and "
            f"its code would be run: give --trust {module} if you trust that module and whoever made the run"
        ) from error
    finally:
        parsing_settings.update(before)


def _remembered() -> Path:
    return platformdirs.user_state_path("pyro-hfvae") / "configurations"


def _hash(config: str) -> str:
    return hashlib.sha256(config.encode("utf-8", "surrogatepass")).hexdigest()
