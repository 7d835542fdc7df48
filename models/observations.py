"""Observation parts of models: from latents to the distribution of the data. Here the base class, and images."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_hfvae.covariates import covariate_widths, join_covariates, widths_of
from pyro_hfvae.data.data import Data
from pyro_hfvae.factories import image_sizes, make
from pyro_hfvae.models.networks import ConvDecoder

__all__ = ["Observation", "Pixels"]


class Observation(PyroModule):
    """A decoder and a likelihood. A subclass says what the decoder's output stands for.

    Any of them goes with any :class:`pyro_hfvae.models.Latents`. The decoder is made by :meth:`build`, which
    :class:`pyro_hfvae.models.StructuredModel` calls, because its sizes follow from the latents and from the data.

    Args:
        decoder: called with the size of the latent vector, and with what it takes by name of ``blocks`` (name and size
            of each), ``outputs`` and whatever else a subclass knows. It must keep leading dimensions.
        given: covariates that the decoder gets beside the latents, with their numbers of entries unless the data are
            given to the model.

    Attributes:
        feature_names: of each observed site, the names of what it is made of, where they have names.
    """

    feature_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    decoder: nn.Module | None

    def __init__(self, decoder: Callable[[int], nn.Module], given: Mapping[str, int] | Sequence[str] = ()) -> None:
        super().__init__()
        self.factory: Callable[[int], nn.Module] | None = decoder
        self.decoder = None
        self.given = given
        self.widths: dict[str, int] = {}

    @abstractmethod
    def prepare(self, data: Data | None) -> dict[str, Any]:
        """Makes what else than the decoder follows from the data, and says what a decoder may ask for by name.

        Raises:
            ValueError: data of a kind that this is not for, or none where it needs them.
        """

    @abstractmethod
    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the data given values of the latents, in the plate of the data.

        Args:
            values: of the latent sites.
            x: the data, ``[B, ...]``.
            covariates: of the data, ``[B, ...]`` each.

        Raises:
            ValueError: the decoder's output is of another shape than the data.
        """

    def build(self, widths: Mapping[str, int], data: Data | None = None) -> None:
        """Makes the decoder.

        Args:
            widths: name and size of the latent sites that it gets, in their order.
            data: that the sizes of its output follow from.

        Raises:
            ValueError: what the decoder is made by makes no module, the data do not fit, or a covariate has the name
                of a latent site.
        """
        if self.factory is None:
            raise ValueError(f"this {type(self).__name__} has a decoder already: each model needs one of its own")
        known = self.prepare(data)
        self.given = widths_of(self.given, covariate_widths(data))
        for name in self.given:
            if name in widths:
                raise ValueError(f"the covariate '{name}' has the name of a latent site: rename the site")
        self.widths = dict(widths)
        blocks = {**widths, **self.given}
        decoder = make(self.factory, sum(blocks.values()), **known, blocks=blocks)
        if not isinstance(decoder, nn.Module):
            raise ValueError(f"the decoder must make a torch.nn.Module, got {type(decoder).__name__}")
        self.decoder, self.factory = decoder, None

    def decode(self, values: Mapping[str, Tensor], covariates: Mapping[str, Tensor]) -> Tensor:
        """The decoder's output, in its own precision: Concrete samples are float32 or wider."""
        decoder = cast(nn.Module, self.decoder)
        weights = (weight for weight in decoder.parameters() if weight.is_floating_point())
        latents = torch.cat([values[name] for name in self.widths], -1)  # [..., B, latent_size]
        latents = latents.to(next(weights, latents).dtype)
        if self.given:
            c = join_covariates(cast(dict[str, int], self.given), covariates, latents)
            latents = torch.cat([latents, c.expand(*latents.shape[:-1], -1)], -1)
        return cast(Tensor, decoder(latents))

    def check(self, output: Tensor, expected: Sequence[int], x: Tensor) -> None:
        """Refuses an output whose last dimensions are others than expected, for data of a shape."""
        found = tuple(output.shape[-len(expected) :])
        if found != tuple(expected):
            raise ValueError(
                f"the decoder's output has the shape {found}, but data of the shape {tuple(x.shape[1:])} need "
                f"{tuple(expected)}"
            )


class Pixels(Observation):
    r"""Images, each pixel Bernoulli, or normal with a given scale.

    .. math:: x \sim \mathrm{Bernoulli}(f(z)) \quad\text{or}\quad N(f(z), \sigma^2)

    where f ends in a sigmoid. With a Bernoulli likelihood grey pixels count as the probability of a white one, the
    usual cross-entropy, which is insensitive to small errors: one of .1 at a grey pixel costs .02 nats. For photos set
    a scale; at .1 the same error costs .5.

    Args:
        decoder: makes the network that gives the logits of the pixels, ``[..., C, H, W]``; it may ask for
            ``channels``, ``size`` (H, W), ``image_shape`` (C, H, W) and ``blocks``.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.
        given: covariates that the decoder gets beside the latents.

    Raises:
        ValueError: the scale is not above 0.
    """

    def __init__(
        self,
        decoder: Callable[[int], nn.Module] = ConvDecoder,
        scale: float | None = None,
        given: Mapping[str, int] | Sequence[str] = (),
    ) -> None:
        super().__init__(decoder, given)
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"the scale of the pixels must be above 0 and finite, got {scale}")
        self.scale = None if scale is None else float(scale)

    def prepare(self, data: Data | None) -> dict[str, Any]:
        """The sizes of an image, where there are data."""
        if data is None:
            return {}
        if len(data.shape) != 3:
            raise ValueError(f"Pixels are for images [C, H, W], but a datum has the shape {data.shape}")
        return image_sizes(data.shape)

    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the images x, ``[B, C, H, W]`` in [0, 1]."""
        logits = self.decode(values, covariates)  # [..., B, C, H, W]
        self.check(logits, x.shape[-3:], x)
        pyro.sample("x", self.likelihood(logits), obs=x)

    def likelihood(self, logits: Tensor) -> dist.TorchDistribution:
        """The distribution of images whose pixels have the given logits, ``[..., C, H, W]``."""
        if self.scale is None:
            # Grey values are outside the support that validation would insist on.
            return cast(dist.TorchDistribution, dist.Bernoulli(logits=logits, validate_args=False).to_event(3))
        return cast(dist.TorchDistribution, dist.Normal(logits.sigmoid(), self.scale).to_event(3))
