"""Fixtures for all tests."""

import os
from pathlib import Path

import pyro
import pytest
import torch

from pyro_hfvae.infer import pairwise


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: ``$PYRO_HFVAE_SHARED``, or ``shared/data`` beside the repository."""
    chosen = os.environ.get("PYRO_HFVAE_SHARED")
    folder = Path(chosen) if chosen else Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data are not at '{folder}': name their folder in PYRO_HFVAE_SHARED")
    return folder


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory):
    """What ``fit`` remembers of its configurations is not kept among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(params=[1, 2**40], ids=["sample by sample", "in one piece"])
def ways_of_comparing(request, monkeypatch):
    """All pairs are compared one sample at a time, and again on the way back; or at once, and kept for it."""
    monkeypatch.setattr(pairwise, "CHUNK_NUMBERS", request.param)


@pytest.fixture
def double_precision():
    """A fixed seed, no parameters of earlier tests, and float64 by default."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
