"""Generative programs of images: blocks that are independent, a mixture, a hierarchy or correlated."""

from collections.abc import Callable, Mapping

from torch import nn

from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.models.latents import Independent, Latents
from pyro_hfvae.models.latents_structured import Correlated, Hierarchy, Mixture
from pyro_hfvae.models.model import StructuredModel
from pyro_hfvae.models.networks import ConvDecoder
from pyro_hfvae.models.observations import Pixels

__all__ = ["CorrelatedModel", "HierarchicalModel", "ImageModel", "MixtureModel"]

Decoder = Callable[[int], nn.Module]


def _pixels(
    kind: type[Latents],
    gaussian: Mapping[str, int],
    discrete: Mapping[str, int],
    decoder: Decoder,
    scale: float | None,
    data: Data | None,
) -> Pixels:
    """Pixels with their decoder, whose parameters are drawn before those of the latents, as a seed has always done."""
    pixels = Pixels(decoder, scale)
    pixels.build(kind.decoded(*block_sizes(gaussian, discrete)), data)
    return pixels


class ImageModel(StructuredModel):
    """Images from independent blocks: :class:`pyro_hfvae.models.Independent` and :class:`pyro_hfvae.models.Pixels`.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.
        data: that the decoder takes its channels and size from, unless it is given others.

    Raises:
        ValueError: a name or a size of a block is none, or the temperature or the scale is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        decoder: Decoder = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        scale: float | None = None,
        data: Data | None = None,
    ) -> None:
        pixels = _pixels(Independent, gaussian, discrete, decoder, scale, data)
        super().__init__(Independent(gaussian, discrete, temperature, relaxation), pixels)


class MixtureModel(StructuredModel):
    """Images from :class:`pyro_hfvae.models.Mixture`: Gaussian blocks with a component for each category.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        given: Gaussian site to the discrete site that chooses its component; the other sites are standard normal.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.
        data: that the decoder takes its channels and size from, unless it is given others.

    Raises:
        ValueError: ``given`` names a site that is not there, or the temperature or the scale is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        given: Mapping[str, str],
        decoder: Decoder = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        scale: float | None = None,
        data: Data | None = None,
    ) -> None:
        pixels = _pixels(Mixture, gaussian, discrete, decoder, scale, data)
        super().__init__(Mixture(gaussian, discrete, given, temperature, relaxation), pixels)


class HierarchicalModel(StructuredModel):
    """Images from :class:`pyro_hfvae.models.Hierarchy`: a chain of Gaussian blocks, and discrete ones beside it.

    Args:
        gaussian: name and number of variables of each Gaussian site, from the top.
        discrete: name and number of categories of each discrete site.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        hidden: units of the hidden layer between two Gaussian sites.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.
        data: that the decoder takes its channels and size from, unless it is given others.

    Raises:
        ValueError: no Gaussian site, or the temperature or the scale is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        decoder: Decoder = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        hidden: int = 64,
        relaxation: type[Concrete] | None = Concrete,
        scale: float | None = None,
        data: Data | None = None,
    ) -> None:
        pixels = _pixels(Hierarchy, gaussian, discrete, decoder, scale, data)
        super().__init__(Hierarchy(gaussian, discrete, hidden, temperature, relaxation), pixels)


class CorrelatedModel(StructuredModel):
    """Images from :class:`pyro_hfvae.models.Correlated`: the variables of a block have a correlation to be learned.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        decoder: called with the size of the latent vector, makes the network that gives the logits of the pixels.
        temperature: of the Concrete sites; set ``model.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        scale: standard deviation of each pixel, whose values go from 0 to 1; None for a Bernoulli likelihood.
        data: that the decoder takes its channels and size from, unless it is given others.

    Raises:
        ValueError: the temperature or the scale is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        decoder: Decoder = ConvDecoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        scale: float | None = None,
        data: Data | None = None,
    ) -> None:
        pixels = _pixels(Correlated, gaussian, discrete, decoder, scale, data)
        super().__init__(Correlated(gaussian, discrete, temperature, relaxation), pixels)
