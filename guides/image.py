"""The factorised guide of images."""

from collections.abc import Callable, Mapping

from torch import nn

from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete
from pyro_hfvae.guides.factorised import FactorisedGuide
from pyro_hfvae.guides.networks import ConvEncoder

__all__ = ["ImageGuide"]


class ImageGuide(FactorisedGuide):
    """:class:`pyro_hfvae.guides.FactorisedGuide` with a convolutional encoder by default.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each discrete site.
        encoder: makes the network that gives the features which the heads read.
        temperature: of the Concrete sites; set ``guide.temperature`` to anneal it.
        relaxation: class of the discrete sites; None for one-hot categoricals, which are summed over.
        initial_scale: let the posteriors start as normals with mean 0 and this scale and as uniform categories.
        random_means: with an initial scale, let means and categories start at random all the same.
        data: that the sizes of the encoder follow from, unless it is given others.

    Raises:
        ValueError: as the base class.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        encoder: Callable[[], nn.Module] = ConvEncoder,
        temperature: float = DEFAULT_TEMPERATURE,
        relaxation: type[Concrete] | None = Concrete,
        initial_scale: float | None = None,
        random_means: bool = False,
        data: Data | None = None,
    ) -> None:
        super().__init__(gaussian, discrete, encoder, temperature, relaxation, initial_scale, random_means, data)
