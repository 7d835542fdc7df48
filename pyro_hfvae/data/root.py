"""Where data sets are kept on this machine."""

import os
from pathlib import Path

import platformdirs

__all__ = ["data_root"]


def data_root() -> Path:
    """``$PYRO_HFVAE_DATA``, or a folder in the user's cache where that is not set."""
    chosen = os.environ.get("PYRO_HFVAE_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("pyro-hfvae")
