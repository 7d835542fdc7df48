"""What a user would bring, named by import path in the tests: data, programs, callbacks."""

import os
import signal
import time

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from pytorch_lightning import Callback
from torch import nn

from pyro_hfvae import Concrete
from pyro_hfvae.data import Batch, Data, Images
from pyro_hfvae.infer import HierarchicalELBO


class TinyImages(Images):
    """A bright 3 × 3 square on 8 × 8 pixels, 5 × 5 places, four grey levels: 100 images."""

    factor_names = ("x", "y", "level")
    factor_sizes = (5, 5, 4)
    factor_kinds = ("ordinal", "ordinal", "categorical")
    image_shape = (1, 8, 8)

    def __init__(self, size: int = 100):
        self.size = size

    def __len__(self):
        return self.size

    def factors(self, indices):
        return torch.stack(torch.unravel_index(indices % 100, self.factor_sizes), 1)

    def images(self, indices):
        x, y, level = self.factors(indices).unbind(1)
        images = torch.zeros(len(indices), 1, 8, 8)
        for row, (a, b, c) in enumerate(zip(x, y, level, strict=True)):
            images[row, 0, b : b + 3, a : a + 3] = (c + 1) / 4
        return images


class PlainImages(TinyImages):
    """The same without known factors."""

    factor_names = ()
    factor_sizes = ()
    factor_kinds = ()

    def factors(self, indices):
        return torch.zeros(len(indices), 0, dtype=torch.long)

    def images(self, indices):
        return TinyImages().images(indices)


class Rates(Data):
    """Counts of three kinds, of totals that differ, with a class that decides which kind is common."""

    factor_names = ("kind",)
    factor_sizes = (3,)
    factor_kinds = ("categorical",)
    feature_names = ("a", "b", "c")

    def __len__(self):
        return 60

    def batch(self, indices):
        kind, total = self.factors(indices)[:, 0], 7.0 * (1 + indices % 4)
        return Batch(x=(1 + 4 * torch.eye(3)[kind]) * total[:, None] / 7, total=total)

    def factors(self, indices):
        return (indices % 3).unsqueeze(1)


class RatesModel(PyroModule):
    """Poisson counts whose total is given; its sizes follow from the data."""

    def __init__(self, data: Data | None = None):
        super().__init__()
        (features,) = data.shape
        self.decoder = nn.Linear(3, features)

    def forward(self, x, target=None, *, total):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1).to_event(1))
            scale = pyro.sample("scale", dist.Normal(x.new_zeros(1), 1).to_event(1))
            rates = total.unsqueeze(-1) * self.decoder(torch.cat([z, scale], -1)).softmax(-1)
            observed = x if target is None else target
            pyro.sample("x", dist.Poisson(rates, validate_args=False).to_event(1), obs=observed)


class RatesGuide(PyroModule):
    """Reads the shares."""

    def __init__(self, data: Data | None = None):
        super().__init__()
        self.encoder = nn.Linear(data.shape[0], 6)

    def forward(self, x, target=None, *, total):
        loc, scale = self.encoder(x / total.unsqueeze(-1)).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc[..., :2], scale[..., :2].exp()).to_event(1))
            pyro.sample("scale", dist.Normal(loc[..., 2:], scale[..., 2:].exp()).to_event(1))


class SignallingImages(TinyImages):
    """The same; a signal arrives while images are given for the first or a later time."""

    def __init__(self, signum: int, time: int):
        super().__init__()
        self.signum, self.time = signum, time

    def images(self, indices):
        self.time -= 1
        if self.time == 0:
            os.kill(os.getpid(), self.signum)
        return super().images(indices)


class KillAt(Callback):
    """The machine goes down, or another signal arrives, at the end of a batch, or in the validation after it."""

    def __init__(self, step: int, signum: int = int(signal.SIGKILL), validating: bool = False):
        self.step, self.signum, self.validating = step, signum, validating

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and not self.validating:
            os.kill(os.getpid(), self.signum)

    def on_validation_start(self, trainer, *_):
        if trainer.global_step == self.step and self.validating:
            os.kill(os.getpid(), self.signum)


class KillTwice(KillAt):
    """A signal arrives, and once more, in a step that does not end."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            for wait in (0, 1.1, 60):
                time.sleep(wait)
                os.kill(os.getpid(), self.signum)


class NaNGuide(PyroModule):
    """A guide whose scale overflows after some steps."""

    def __init__(self, after: int = 3):
        super().__init__()
        self.layer = nn.Linear(64, 4)
        self.after = after

    def forward(self, x):
        loc, scale = self.layer(x.flatten(1)).chunk(2, -1)
        if self.training and torch.is_grad_enabled():
            self.after -= 1
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc / (self.after > 0), scale.exp()).to_event(1))


class FaultyGuide(NaNGuide):
    """A guide that raises after some steps."""

    def forward(self, x):
        if self.after == 1:
            raise ValueError("a fault of the program")
        super().forward(x)


class RowModel(PyroModule):
    """A model whose data are rows of numbers: it paints no picture."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 64)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            level = pyro.sample("level", Concrete(logits=x.new_zeros(4)))
            means = self.layer(torch.cat([z, level], -1))
            pyro.sample("x", dist.Normal(means, 1.0).to_event(1), obs=x.flatten(1))


class KnownModel(PyroModule):
    """A model without parameters of its own: a known renderer."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 8, 8)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(3), obs=x)


class KnownGuide(PyroModule):
    """A guide without parameters of its own."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 0.1).to_event(1))


class Halved(HierarchicalELBO):
    """An objective of the user's own."""

    def __init__(self, data_size: int, half: float = 0.5):
        super().__init__(data_size, half, half, half, half)


def halved(data_size: int, half: float = 0.5) -> HierarchicalELBO:
    """The same as a function."""
    return Halved(data_size, half)


def numbers(*shape, seed=0):
    """Normal numbers in float64, the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def brighter(x, generator):
    """A distortion of the user's own."""
    return (x * (1 + torch.rand(len(x), 1, 1, 1, generator=generator))).clamp(max=1)


def cut(x, generator):
    """No distortion: it returns other images."""
    return x[..., 1:]
