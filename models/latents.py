"""Latent parts of models: the prior of named blocks. Here the base class, and blocks that are independent."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn.functional import softplus

from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete

__all__ = ["Independent", "Latents", "normal_of"]

SMALLEST_SCALE = 1e-4
"""A conditional scale that underflows to 0 would make its densities infinite."""


class Latents(PyroModule):
    """The prior of Gaussian and discrete blocks. A subclass says in :meth:`forward` how they depend on one another.

    Any of them goes with any :class:`pyro_hfvae.models.Observation` in a
    :class:`pyro_hfvae.models.StructuredModel`.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: a name or a size of a block is none, or the temperature is not above 0.
    """

    temperature: Tensor

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")
        self.gaussian, self.discrete = block_sizes(gaussian, discrete)
        self.relaxation = relaxation
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    @staticmethod
    def decoded(gaussian: Mapping[str, int], discrete: Mapping[str, int]) -> dict[str, int]:
        """Name and size of the sites that the data are made from, in the order in which a decoder gets them."""
        return {**gaussian, **discrete}

    @property
    def widths(self) -> dict[str, int]:
        """The same of this one's sites."""
        return self.decoded(self.gaussian, self.discrete)

    @abstractmethod
    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples every site, in the plate of the data.

        Args:
            x: the data, ``[B, ...]``, whose type and device the distributions get.
            covariates: of the data, ``[B, ...]`` each.

        Returns:
            Site name to value.
        """

    def sample_discrete(self, x: Tensor) -> dict[str, Tensor]:
        """Samples the discrete sites, uniform ones."""
        return {name: pyro.sample(name, self.categories(x.new_zeros(size))) for name, size in self.discrete.items()}

    def normal(self, size: int, x: Tensor) -> dist.TorchDistribution:
        """The standard normal of a site of V variables."""
        return cast(dist.TorchDistribution, dist.Normal(x.new_zeros(size), 1.0).to_event(1))

    def categories(self, logits: Tensor) -> dist.TorchDistribution:
        """The distribution of a discrete site, ``[..., K]``."""
        if self.relaxation is None:
            return cast(dist.TorchDistribution, dist.OneHotCategorical(logits=logits))
        return self.relaxation(self.temperature, logits=logits)


class Independent(Latents):
    r"""Blocks that are independent of one another: standard normal, and uniform over the categories.

    .. math:: z_d \sim N(0, I), \qquad y_d \sim \mathrm{Concrete}(1/K)

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: a name or a size of a block is none, or the temperature is not above 0.
    """

    def forward(self, x: Tensor, **covariates: Tensor) -> dict[str, Tensor]:
        """Samples the Gaussian sites, then the discrete ones."""
        blocks = {name: pyro.sample(name, self.normal(size, x)) for name, size in self.gaussian.items()}
        return blocks | self.sample_discrete(x)


def normal_of(parameters: Tensor) -> dist.TorchDistribution:
    """The normal of a network's output, ``[..., 2 V]``: means, then scales before their softplus."""
    loc, scale = parameters.chunk(2, -1)
    return cast(dist.TorchDistribution, dist.Normal(loc, softplus(scale) + SMALLEST_SCALE).to_event(1))
