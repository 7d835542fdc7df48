"""A pair of programs with a normal and a discrete site, which may depend on one another."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_hfvae import Concrete
from pyro_hfvae.distributions import nearest_category

V, K = 3, 4


class Guide(nn.Module):
    """A normal and a discrete site; with ``structured``, the normal one depends on the discrete one."""

    def __init__(self, structured=False, relaxed=True):
        super().__init__()
        self.heads = nn.Linear(6, 2 * V + K)
        self.shift = nn.Linear(K, V)
        self.structured, self.relaxed = structured, relaxed

    def forward(self, x):
        loc, scale, logits = self.heads(x).split([V, V, K], -1)
        categorical = Concrete(0.7, logits=logits) if self.relaxed else dist.OneHotCategorical(logits=logits)
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", categorical)
            loc = loc + self.shift(nearest_category(y)) if self.structured else loc
            pyro.sample("z", dist.Normal(loc, 0.3 + scale.sigmoid()).to_event(1))


class Model(nn.Module):
    def __init__(self, structured=False, relaxed=True):
        super().__init__()
        self.decoder = nn.Linear(V + K, 6)
        self.shift = nn.Linear(K, V)
        self.structured, self.relaxed = structured, relaxed

    def forward(self, x):
        logits = x.new_zeros(K)
        categorical = Concrete(0.7, logits=logits) if self.relaxed else dist.OneHotCategorical(logits=logits)
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", categorical)
            loc = self.shift(nearest_category(y)) if self.structured else x.new_zeros(V)
            z = pyro.sample("z", dist.Normal(loc, 1.5).to_event(1))
            y = y.expand(*z.shape[:-1], K)
            pyro.sample("x", dist.Normal(self.decoder(torch.cat([z, y], -1)), 0.8).to_event(1), obs=x)
