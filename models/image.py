"""A generative program of images with Gaussian and Concrete blocks."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.networks import ConvDecoder

__all__ = ["ImageModel"]


class ImageModel(PyroModule):
    r"""Images from continuous and discrete causes, with a Bernoulli likelihood of each pixel.

    .. math:: z_d \sim N(0, I), \qquad y_d \sim \mathrm{Concrete}(1/K), \qquad x \sim \mathrm{Bernoulli}(f(z, y))

    Grey pixels count as the probability of a white one, the usual cross-entropy. For another prior, override
    :meth:`latents`, as the models beside this one do.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.

    Raises:
        ValueError: the temperature is not above 0.
    """

    temperature: Tensor

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        decoder: Callable[[int], nn.Module] = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")
        self.gaussian = dict(gaussian)
        self.discrete = dict(discrete)
        self.relaxation = relaxation
        sizes = self.gaussian | self.discrete
        self.decoder = decoder(sum(sizes[name] for name in self.decoded))
        self.register_buffer("temperature", torch.tensor(temperature))

    @property
    def decoded(self) -> list[str]:
        """Names of the sites that the image is made from."""
        return [*self.gaussian, *self.discrete]

    def latents(self, x: Tensor) -> dict[str, Tensor]:
        """Samples every latent site, in the plate of the data; x is [B, C, H, W]. Returns site name to value."""
        blocks = {name: pyro.sample(name, self.normal(size, x)) for name, size in self.gaussian.items()}
        return blocks | self.discrete_latents(x)

    def discrete_latents(self, x: Tensor) -> dict[str, Tensor]:
        """Samples the discrete sites alone."""
        return {name: pyro.sample(name, self._categories(size, x)) for name, size in self.discrete.items()}

    def forward(self, x: Tensor, target: Tensor | None = None) -> None:
        """Samples the blocks and observes the images x, or their targets if given, [B, C, H, W] in [0, 1]."""
        with pyro.plate("data", len(x)):
            values = self.latents(x)
            logits = self.decoder(torch.cat([values[name] for name in self.decoded], -1))  # [B, C, H, W]
            observed = x if target is None else target
            # Grey values are outside the support that validation would insist on.
            pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=observed)

    def normal(self, size: int, x: Tensor) -> dist.TorchDistribution:
        """The standard normal of a site of V variables."""
        return cast(dist.TorchDistribution, dist.Normal(x.new_zeros(size), 1.0).to_event(1))

    def _categories(self, count: int, x: Tensor) -> dist.TorchDistribution:
        logits = x.new_zeros(count)
        if self.relaxation is None:
            return cast(dist.TorchDistribution, dist.OneHotCategorical(logits=logits))
        return self.relaxation(self.temperature, logits=logits)
