"""The factorised guide of any data: one encoder, one head for each block."""

import inspect
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
from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.factories import make, sizes_of

__all__ = ["FactorisedGuide"]

SMALLEST_SCALE = 1e-4
"""A posterior scale that underflows to 0 would make its densities infinite."""


class FactorisedGuide(PyroModule):
    r"""Blocks that are independent given the datum.

    .. math:: q(z, y | x) = \prod_d N(z_d; \mu_d(x), \sigma_d(x)) \prod_d \mathrm{Concrete}(y_d; \pi_d(x))

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        encoder: makes the network that gives the features which the heads read, ``[B, features]``, and that has their
            number as ``features``. Of the data it is made with what it takes by name of ``channels``, ``size`` and
            ``image_shape`` (images), ``columns`` (tables), ``inputs`` (counts), ``length`` and ``inputs`` (sequences),
            ``covariates``; it is called with x and with those covariates that it takes by name.
        temperature: of the Concrete sites; set ``guide.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        initial_scale: let the posteriors start as normals with mean 0 and this scale and as uniform categories,
            whatever the datum. Heads that start at random pass on features of it, and a decoder reads them even
            from a block that a gate keeps closed. With 1, the prior's scale, the decoder learns to ignore the noisy
            code; .1 made blocks find their factor earlier and with fewer collapsed variables. None for heads at random.
        random_means: with an initial scale, let means and categories start at random all the same, for factors that a
            decoder is slow to see; the logits of categories divided by the scale, so that they too stand out of their
            noise, which cannot be made smaller.
        data: that the sizes of the encoder follow from, unless it is given others.

    Raises:
        ValueError: a name or a size of a block is none, the temperature is not above 0, the initial scale is not above
            0.0001, there is none though only means are to be random, or the encoder is no module with ``features``.
    """

    temperature: Tensor

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        encoder: Callable[[], nn.Module],
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        initial_scale: float | None = None,
        random_means: bool = False,
        data: Data | None = None,
    ) -> None:
        super().__init__()
        gaussian, discrete = block_sizes(gaussian, discrete)
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")
        self.encoder = make(encoder, **sizes_of(data))
        if not isinstance(self.encoder, nn.Module):
            raise ValueError(f"the encoder must make a torch.nn.Module, got {type(self.encoder).__name__}")
        if not isinstance(getattr(self.encoder, "features", None), int):
            raise ValueError(
                f"the encoder {type(self.encoder).__name__} must have its number of features as 'features'"
            )
        self.features = cast(int, self.encoder.features)
        self.gaussian = nn.ModuleDict({name: nn.Linear(self.features, 2 * size) for name, size in gaussian.items()})
        self.discrete = nn.ModuleDict({name: nn.Linear(self.features, size) for name, size in discrete.items()})
        self.relaxation = relaxation
        if random_means and initial_scale is None:
            raise ValueError("random_means is for an initial_scale; without one, all is random")
        if initial_scale is not None:
            if not SMALLEST_SCALE < initial_scale < math.inf:
                raise ValueError(f"initial_scale must be above {SMALLEST_SCALE:g} and finite, got {initial_scale}")
            self._start(float(initial_scale), random_means)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def _start(self, initial_scale: float, random_means: bool) -> None:
        """Heads whose outputs, or whose scales alone, are the same for every datum."""
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

    def forward(self, x: Tensor, target: Tensor | None = None, **covariates: Tensor) -> None:
        """Samples the blocks of the data x, ``[B, ...]``, whatever their targets are."""
        posteriors = self.posteriors(x, **covariates)
        with pyro.plate("data", len(x)):
            for name, fn in posteriors.items():
                pyro.sample(name, fn)

    def posteriors(self, x: Tensor, **covariates: Tensor) -> dict[str, dist.TorchDistribution]:
        """The distribution of each site given the data x, ``[B, ...]``, without a sample."""
        features = self.encode(x, covariates)
        found = {name: self.normal(head(features)) for name, head in self.gaussian.items()}
        return found | {name: self.categories(head(features)) for name, head in self.discrete.items()}

    def encode(self, x: Tensor, covariates: Mapping[str, Tensor]) -> Tensor:
        """Features of the data, ``[B, features]``."""
        parameters = inspect.signature(self.encoder.forward).parameters
        every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        taken = {name: tensor for name, tensor in covariates.items() if every or name in parameters}
        return cast(Tensor, self.encoder(x, **taken))

    def normal(self, parameters: Tensor) -> dist.TorchDistribution:
        """The posterior of a Gaussian site from the output of its head, ``[..., 2 V]``."""
        loc, scale = parameters.chunk(2, -1)  # [..., V] each
        return cast(dist.TorchDistribution, dist.Normal(loc, softplus(scale) + SMALLEST_SCALE).to_event(1))

    def categories(self, logits: Tensor) -> dist.TorchDistribution:
        """The posterior of a discrete site from the output of its head, ``[..., K]``."""
        if self.relaxation is None:
            return cast(dist.TorchDistribution, dist.OneHotCategorical(logits=logits))
        return self.relaxation(self.temperature, logits=logits)
