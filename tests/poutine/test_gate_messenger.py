"""Gates: nothing computed changes, to the bit; closed rows get exactly no gradient."""

import doctest

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.poutine import gate, gate_messenger


@pytest.fixture(autouse=True)
def _local_parameters():
    before = pyro.settings.get("module_local_params")
    pyro.settings.set(module_local_params=True)
    yield
    pyro.settings.set(module_local_params=before)


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist}
    results = doctest.testmod(gate_messenger, extraglobs=names)
    assert results.attempted == 4
    assert results.failed == 0


def test_shipped_programs():
    torch.manual_seed(0)
    model = ImageModel({"pose": 4, "look": 3}, {"digit": 10}, MLPDecoder)
    guide = ImageGuide({"pose": 4, "look": 3}, {"digit": 10}, MLPEncoder)
    objective = HierarchicalELBO(100)(model, guide)
    x = torch.rand(6, 1, 28, 28)
    torch.manual_seed(1)
    with gate({"pose": torch.zeros(6, dtype=torch.bool), "digit": torch.zeros(6, dtype=torch.bool)}):
        gated = objective(x)
    gated.backward()
    torch.manual_seed(1)
    assert torch.equal(gated, objective(x))
    assert guide.gaussian["pose"].weight.grad.count_nonzero() == 0
    assert guide.discrete["digit"].weight.grad.count_nonzero() == 0
    assert guide.gaussian["look"].weight.grad.count_nonzero() > 0
    assert all(parameter.grad.count_nonzero() > 0 for parameter in model.parameters())
