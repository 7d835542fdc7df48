"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: ``$PYRO_HFVAE_SHARED``, or ``shared/data`` beside the repository."""
    chosen = os.environ.get("PYRO_HFVAE_SHARED")
    folder = Path(chosen) if chosen else Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data are not at '{folder}': name their folder in PYRO_HFVAE_SHARED")
    return folder
