"""A generative program of images with Gaussian and Concrete blocks."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.networks import ConvDecoder

__all__ = ["ImageModel"]


class ImageModel(PyroModule):
    r"""Images from continuous and discrete causes, each pixel Bernoulli, or normal with a given scale.

    .. math:: z_d \sim N(0, I), \qquad y_d \sim \mathrm{Concrete}(1/K), \qquad
        x \sim \mathrm{Bernoulli}(f(z, y)) \quad\text{or}\quad N(f(z, y), \sigma^2)

    where f ends in a sigmoid. With a Bernoulli likelihood grey pixels count as the probability of a white one, the
    usual cross-entropy, which forgives small differences: an error of .1 at a grey pixel costs .02 nats. Photos want a
    scale; at .1 the same error costs .5. For another prior, override :meth:`latents`, as the models beside this one do.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.

    Raises:
        ValueError: a name or a size of a block is none, or the temperature or the scale is not above 0.
    """

    temperature: Tensor

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        decoder: Callable[[int], nn.Module] = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature must be above 0 and finite, got {temperature}")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"the scale of the pixels must be above 0 and finite, got {scale}")
        self.scale = None if scale is None else float(scale)
        self.gaussian, self.discrete = block_sizes(gaussian, discrete)
        self.relaxation = relaxation
        sizes = self.gaussian | self.discrete
        self.decoder = decoder(sum(sizes[name] for name in self.decoded))
        if not isinstance(self.decoder, nn.Module):
            raise ValueError(f"the decoder must make a torch.nn.Module, got {type(self.decoder).__name__}")
        self.register_buffer("temperature", torch.tensor(float(temperature)))

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
            logits = self._decode(torch.cat([values[name] for name in self.decoded], -1))  # [B, C, H, W]
            observed = x if target is None else target
            pyro.sample("x", self.likelihood(logits), obs=observed)

    def _decode(self, latents: Tensor) -> Tensor:
        """Logits of latents in the decoder's own precision: Concrete samples are float32 or wider."""
        weights = (weight.dtype for weight in self.decoder.parameters() if weight.is_floating_point())
        return cast(Tensor, self.decoder(latents.to(next(weights, latents.dtype))))

    def likelihood(self, logits: Tensor) -> dist.TorchDistribution:
        """The distribution of an image whose pixels have the given logits, [..., C, H, W]."""
        if self.scale is None:
            # Grey values are outside the support that validation would insist on.
            return cast(dist.TorchDistribution, dist.Bernoulli(logits=logits, validate_args=False).to_event(3))
        return cast(dist.TorchDistribution, dist.Normal(logits.sigmoid(), self.scale).to_event(3))

    def normal(self, size: int, x: Tensor) -> dist.TorchDistribution:
        """The standard normal of a site of V variables."""
        return cast(dist.TorchDistribution, dist.Normal(x.new_zeros(size), 1.0).to_event(1))

    def _categories(self, count: int, x: Tensor) -> dist.TorchDistribution:
        logits = x.new_zeros(count)
        if self.relaxation is None:
            return cast(dist.TorchDistribution, dist.OneHotCategorical(logits=logits))
        return self.relaxation(self.temperature, logits=logits)
