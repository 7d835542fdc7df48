"""Data that are no images, each with a model and a guide of one layer: a table, counts of words, sequences."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_hfvae import Concrete
from pyro_hfvae.batch import Batch
from pyro_hfvae.data import Data

SIZE = 60
HIDDEN = torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(0))


class _Made(Data):
    """Data that follow from two hidden numbers, without known factors."""

    def __len__(self):
        return SIZE

    def factors(self, indices):
        return torch.zeros(len(indices), 0, dtype=torch.long)


class Table(_Made):
    """An age in years, an income, a flag and a colour; every tenth income is missing."""

    columns = (
        SimpleNamespace(name="age", kind="number", mean=40.0, scale=12.0),
        SimpleNamespace(name="income", kind="number", mean=3e4, scale=8e3),
        SimpleNamespace(name="member", kind="flag", mean=0.0, scale=1.0),
        SimpleNamespace(name="colour", kind="category", mean=0.0, scale=1.0),
    )

    def batch(self, indices):
        hidden = HIDDEN[indices]
        colour = (hidden[:, 1] > 0).float() + (hidden[:, 1] > 1).float()
        x = torch.stack([hidden[:, 0], hidden.sum(1) / 2**0.5, (hidden[:, 0] > 0).float(), colour], 1)
        x[indices % 10 == 0, 1] = torch.nan
        return Batch(x=x)


class Words(_Made):
    """Counts of 12 words."""

    feature_names = tuple(f"word {at}" for at in range(12))

    def batch(self, indices):
        shares = (HIDDEN[indices] @ torch.linspace(-2, 2, 24).view(2, 12)).softmax(-1)
        library = 50.0 + indices
        return Batch(x=(shares * library[:, None]).round(), library=library)


class Series(_Made):
    """Two channels over eight steps, some shorter."""

    def batch(self, indices):
        lengths = 8 - indices % 3
        x = HIDDEN[indices][:, None] * torch.arange(8.0).sin()[None, :, None]
        return Batch(x=x * (torch.arange(8) < lengths[:, None])[..., None], lengths=lengths)


class _Model(PyroModule):
    """Blocks z, of two normal numbers, and kind, of three categories."""

    outputs = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, self.outputs)

    def forward(self, x, **covariates):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            kind = pyro.sample("kind", Concrete(logits=x.new_zeros(3)))
            self.observe(self.layer(torch.cat([z, kind], -1)), x, **covariates)


class TableModel(_Model):
    """A likelihood for each column."""

    outputs = 6
    feature_names = {"numbers": ("age", "income"), "colour": ("red", "green", "blue")}  # noqa: RUF012

    def observe(self, made, x):
        numbers, flag, colour = made.split([2, 1, 3], -1)
        known = x[:, :2].isfinite()
        observed = torch.where(known, x[:, :2], 0)
        pyro.sample("numbers", dist.Normal(numbers, 0.5).mask(known).to_event(1), obs=observed)
        pyro.sample("member", dist.Bernoulli(logits=flag[..., 0]), obs=x[:, 2])
        pyro.sample("colour", dist.Categorical(logits=colour), obs=x[:, 3].long())


class WordsModel(_Model):
    """Poisson counts with a library size."""

    outputs = 12

    def observe(self, made, x, library):
        pyro.sample("x", dist.Poisson(library[:, None] * made.softmax(-1)).to_event(1), obs=x)


class SeriesModel(_Model):
    """Normal numbers, masked beyond their lengths."""

    outputs = 16

    def observe(self, made, x, lengths):
        inside = torch.arange(8, device=x.device) < lengths[:, None]
        mean = made.unflatten(-1, (8, 2))
        pyro.sample("x", dist.Normal(mean, 0.5).to_event(1).mask(inside).to_event(1), obs=x)


class Guide(PyroModule):
    """Reads all numbers."""

    def __init__(self, inputs: int):
        super().__init__()
        self.layer = nn.Linear(inputs, 7)

    def forward(self, x, **covariates):
        loc, scale, logits = self.layer((x.flatten(1).nan_to_num() / 10).tanh()).split([2, 2, 3], -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))
            pyro.sample("kind", Concrete(logits=logits))
