"""Where data sets are kept on this machine."""

import os
from pathlib import Path

import platformdirs

from pyro_hfvae.files import expanded

__all__ = ["data_root", "locate"]


def data_root() -> Path:
    """``$PYRO_HFVAE_DATA``, or a folder in the user's cache where that is not set."""
    chosen = os.environ.get("PYRO_HFVAE_DATA")
    return expanded(chosen) if chosen else platformdirs.user_cache_path("pyro-hfvae")


def locate(path: str | Path) -> Path:
    """The path as it stands if it exists, else in the data root; an absolute one stays what it is."""
    here = expanded(path)
    return here if here.exists() else data_root() / here
