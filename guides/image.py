"""The factorised guide of images: one encoder, one head for each block."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.guides.networks import ConvEncoder, Encoder

__all__ = ["ImageGuide"]

SMALLEST_SCALE = 1e-4
"""A posterior scale that underflows to 0 would make its densities infinite."""


class ImageGuide(PyroModule):
    r"""Blocks that are independent given the image.

    .. math:: q(z, y | x) = \prod_d N(z_d; \mu_d(x), \sigma_d(x)) \prod_d \mathrm{Concrete}(y_d; \pi_d(x))

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        encoder: makes the network that gives the features which the heads read.
        temperature: of the Concrete sites; set ``guide.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        initial_scale: let the posteriors start as normals with mean 0 and this scale and as uniform categories,
            whatever the image. Heads that start at random pass on features of the image, and a decoder reads them even
            from a block that a gate keeps closed. 1 is the prior, whose noise a decoder soon learns not to listen to;
            from .1 a block takes its factor earlier and keeps more of its variables. None for heads at random.
        random_means: with an initial scale, let means and categories start at random all the same, for factors that a
            decoder is slow to see; the logits of categories divided by the scale, so that they too stand out of their
            noise, which cannot be made smaller.

    Raises:
        ValueError: a name or a size of a block is none, the temperature is not above 0, the initial scale is not above
            0.0001, or there is none though only means are to be random.
    """

    temperature: Tensor

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        encoder: Callable[[], nn.Module] = ConvEncoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        initial_scale: float | None = None,
        random_means: bool = False,
    ) -> None:
        super().__init__()
        gaussian, discrete = block_sizes(gaussian, discrete)
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")
        self.encoder = encoder()
        if not isinstance(self.encoder, nn.Module):
            raise ValueError(f"the encoder must make a torch.nn.Module, got {type(self.encoder).__name__}")
        features = cast(Encoder, self.encoder).features
        self.gaussian = nn.ModuleDict({name: nn.Linear(features, 2 * size) for name, size in gaussian.items()})
        self.discrete = nn.ModuleDict({name: nn.Linear(features, size) for name, size in discrete.items()})
        self.relaxation = relaxation
        if random_means and initial_scale is None:
            raise ValueError("random_means is for an initial_scale; without one, all is random")
        if initial_scale is not None:
            if not SMALLEST_SCALE < initial_scale < math.inf:
                raise ValueError(f"initial_scale must be above {SMALLEST_SCALE:g} and finite, got {initial_scale}")
            self._start(float(initial_scale), random_means)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def _start(self, initial_scale: float, random_means: bool) -> None:
        """Heads whose outputs, or whose scales alone, are the same for every image."""
        for parameter in self.gaussian.parameters():  # rows of means, then rows of scales
            means, scales = parameter.detach().chunk(2)
            nn.init.zeros_(scales)
            if not random_means:
                nn.init.zeros_(means)
        for parameter in self.discrete.parameters():
            parameter.detach().mul_(1 / initial_scale if random_means else 0.0)
        for head in self.gaussian.values():
            _, scale = cast(Tensor, head.bias).detach().chunk(2)
            scale.fill_(math.log(math.expm1(initial_scale - SMALLEST_SCALE)))  # softplus makes the scale of it

    def forward(self, x: Tensor, target: Tensor | None = None) -> None:
        """Samples the blocks of the images x, [B, C, H, W], whatever their targets are."""
        features = self.encoder(x)  # [B, features]
        with pyro.plate("data", len(x)):
            for name, head in self.gaussian.items():
                pyro.sample(name, self.normal(head(features)))
            for name, head in self.discrete.items():
                pyro.sample(name, self._categories(head(features)))

    def normal(self, parameters: Tensor) -> dist.TorchDistribution:
        """The posterior of a Gaussian site from the output of its head, [..., 2 V]."""
        loc, scale = parameters.chunk(2, -1)  # [..., V] each
        return cast(dist.TorchDistribution, dist.Normal(loc, softplus(scale) + SMALLEST_SCALE).to_event(1))

    def _categories(self, logits: Tensor) -> dist.TorchDistribution:
        if self.relaxation is None:
            return cast(dist.TorchDistribution, dist.OneHotCategorical(logits=logits))
        return self.relaxation(self.temperature, logits=logits)
