"""The Lightning module by itself."""

import pickle

import pyro
import pytest
import torch
from torch.optim import Adam

from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import BetaVAE, NonFiniteError
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.schedules import Linear
from pyro_hfvae.train import Training


def test_it_can_be_pickled():
    """As processes that are spawned, and ``torch.save``, need it."""
    with pyro.settings.context(module_local_params=True):
        model, guide = ImageModel({"z": 2}, {"y": 3}, MLPDecoder), ImageGuide({"z": 2}, {"y": 3}, MLPEncoder)
        training = Training(model, guide, BetaVAE(50, beta=4.0), temperature=Linear(1.0, 0.5, 10))
        copy = pickle.loads(pickle.dumps(training))
    assert all(copy.state_dict()[name].equal(value) for name, value in training.state_dict().items())
    optimizer = copy.make_optimizer()
    assert isinstance(optimizer, Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in copy.programs.parameters()}
    assert copy.terms(torch.rand(4, 1, 28, 28)).elbo.isfinite()


def test_a_parameter_that_an_optimizers_step_made_infinite_is_not_saved():
    with pyro.settings.context(module_local_params=True):
        model, guide = ImageModel({"z": 2}, {"y": 3}, MLPDecoder), ImageGuide({"z": 2}, {"y": 3}, MLPEncoder)
        training = Training(model, guide, BetaVAE(50, beta=4.0))
    training.on_save_checkpoint({})
    name, parameter = next(iter(training.programs.named_parameters()))
    parameter.data[0] = torch.inf
    with pytest.raises(NonFiniteError, match=f"^the parameter '{name}' is not finite after step 0$"):
        training.on_save_checkpoint({})
