"""Parameters that a training would leave out are refused with their names; all others are let through."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from support import TinyImages
from torch import nn

from pyro_hfvae.infer import VAE
from pyro_hfvae.train import DataModule, Training
from pyro_hfvae.train.first_batch import try_first_batch
from pyro_hfvae.weak import Pairing

POSITIVE = dist.constraints.positive
OUTSIDE = nn.Linear(2, 64)


class Model(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 64)

    def scale(self):
        return 1.0

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.mean(z), self.scale()).to_event(1), obs=x.flatten(1))

    def mean(self, z):
        return self.layer(z)


class WithPyroParam(Model):
    def __init__(self):
        super().__init__()
        self.width = PyroParam(torch.tensor(0.9), POSITIVE)

    def scale(self):
        return self.width


class WithOwnModule(Model):
    def mean(self, z):
        return pyro.module("own", self.layer)(z)


class WithParam(Model):
    def scale(self):
        return pyro.param("width", torch.tensor(0.9), constraint=POSITIVE)


class WithUnconstrainedParam(Model):
    def mean(self, z):
        return self.layer(z) + pyro.param("offset", torch.zeros(64))


class WithOtherModule(Model):
    def mean(self, z):
        return pyro.module("other", OUTSIDE)(z)


class Plain(nn.Module):
    """No PyroModule: ``pyro.param`` goes to the global store whatever the setting."""

    def __init__(self, own=False):
        super().__init__()
        self.layer = nn.Linear(64, 4)
        self.own = own

    def forward(self, x):
        layer = pyro.module("encoder", self.layer) if self.own else self.layer
        loc, scale = layer(x.flatten(1)).chunk(2, -1)
        if not self.own:
            loc = loc + pyro.param("shift", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


class Known(nn.Module):
    """A guide without parameters."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 1.0).to_event(1))


class KnownModel(Known):
    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), x.new_ones(64)).to_event(1), obs=x.flatten(1))


@pytest.fixture(params=[True, False], ids=["local", "global"])
def attempt(request):
    """Lets the first batch of a pair of programs through, or raises."""
    pyro.clear_param_store()
    data = DataModule(TinyImages(), 16, 30)
    with pyro.settings.context(module_local_params=request.param):
        yield lambda model, guide: try_first_batch(Training(model(), guide(), VAE(70)), data)
    pyro.clear_param_store()


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (WithParam, Known, "pyro.param 'width' of the model would be neither trained nor saved: make it a PyroParam"),
        (WithUnconstrainedParam, Known, "pyro.param 'offset' of the model"),
        (WithOtherModule, Known, r"pyro.param 'other\$\$\$weight' of the model"),
        (Model, Plain, "pyro.param 'shift' of the guide"),
        (KnownModel, Known, "model and guide have no parameters to train"),
    ],
)
def test_what_would_not_be_trained_is_refused(attempt, model, guide, message):
    with pytest.raises(ValueError, match=message):
        attempt(model, guide)


@pytest.mark.parametrize("model", [Model, WithPyroParam, WithOwnModule, KnownModel])
def test_parameters_of_modules_go_through(attempt, model):
    for _ in range(2):  # a second training finds the names of the first in Pyro's store
        attempt(model, lambda: Plain(own=True))


def test_programs_without_parameters_beside_one_that_has_some(attempt):
    attempt(Model, Known)
    attempt(KnownModel, lambda: Plain(own=True))


def test_random_streams_are_left_as_they_were(attempt):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with torch.random.fork_rng():
        model, guide = WithPyroParam(), Plain(own=True)
    attempt(lambda: model, lambda: guide)
    assert torch.rand(3).equal(expected)


class WithTarget(Model):
    def forward(self, x, target):
        super().forward(x)


class Faulty(Model):
    def mean(self, z):
        return self.layer(z)[self.where]


def test_a_program_that_does_not_take_the_arguments(attempt):
    with pytest.raises(ValueError, match=r"^the model WithTarget does not take the one argument x: missing a required"):
        attempt(WithTarget, Known)
    data = DataModule(TinyImages(), 16, 30, pairs=Pairing({"z": ["level"], "rest": ["x", "y"]}))
    message = (
        r"^the model Model does not take the two arguments x and target, which batches.pairs without swap gives its "
        r"programs: too many positional arguments$"
    )
    with pytest.raises(ValueError, match=message):
        try_first_batch(Training(Model(), Known(), VAE(70)), data)


def test_a_fault_of_a_program_is_named_with_its_place(attempt):
    message = r"^the model fails on a batch .*: AttributeError: .*'where' \(.*, line \d+\)$"
    with pytest.raises(ValueError, match=message):
        attempt(Faulty, Known)
