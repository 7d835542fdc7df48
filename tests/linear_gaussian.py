"""A factor analysis in float64 whose posterior, evidence and aggregate are known, with guides right and wrong."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import MultivariateNormal

NOISE = 0.5
# Orthogonal columns: the posterior of the three variables factorises.
LOADINGS = torch.tensor(
    [[1.0, 0.5, 0.5], [1.0, -0.5, -0.5], [1.0, 0.5, -0.5], [1.0, -0.5, 0.5]], dtype=torch.float64
) * torch.tensor([0.5, 0.8, 0.6], dtype=torch.float64)
SIZES = {"a": 2, "b": 1}


def model(x):
    with pyro.plate("data", len(x)):
        parts = [pyro.sample(name, dist.Normal(x.new_zeros(size), 1.0).to_event(1)) for name, size in SIZES.items()]
        z = torch.cat(parts, -1)
        pyro.sample("x", dist.Normal(z @ LOADINGS.mT, NOISE).to_event(1), obs=x)


def posterior(x):
    """Mean, [B, 3], and standard deviation, [3], of the exact posterior."""
    variance = 1 / (1 + LOADINGS.square().sum(0) / NOISE**2)
    return variance * (x @ LOADINGS) / NOISE**2, variance.sqrt()


def evidence(x):
    """Log p(x), [B]."""
    covariance = LOADINGS @ LOADINGS.mT + NOISE**2 * torch.eye(4, dtype=torch.float64)
    return MultivariateNormal(x.new_zeros(4), covariance).log_prob(x)


def data(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return z @ LOADINGS.mT + NOISE * noise


@dataclass
class Guide:
    """The exact posterior, with its scale multiplied, its mean shifted, or a block drawn from the prior."""

    scale: float = 1.0
    shift: float = 0.0
    ignored: str = ""

    def __call__(self, x):
        loc, scale = posterior(x)
        with pyro.plate("data", len(x)):
            for name, columns in (("a", slice(0, 2)), ("b", slice(2, 3))):
                if name == self.ignored:
                    fn = dist.Normal(x.new_zeros(SIZES[name]), 1.0)
                else:
                    fn = dist.Normal(loc[:, columns] + self.shift, self.scale * scale[columns])
                pyro.sample(name, fn.to_event(1))
