"""A guide whose Gaussian blocks depend on the category that was sampled for a discrete block."""

from collections.abc import Callable, Mapping
from operator import index

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import DEFAULT_TEMPERATURE, Concrete, nearest_category
from pyro_hfvae.guides.factorised import FactorisedGuide
from pyro_hfvae.guides.networks import ConvEncoder

__all__ = ["StructuredGuide"]


class StructuredGuide(FactorisedGuide):
    r"""Gaussian blocks that are inferred given the category of a discrete block, as well as the datum.

    .. math:: q(z, y | x) = \prod_d \mathrm{Concrete}(y_d; \pi_d(x)) \prod_d N(z_d; \mu_d(x, k_d), \sigma_d(x, k_d)),
        \qquad k_d = \textstyle\arg\max y_{c(d)}

    It goes with :class:`pyro_hfvae.models.Mixture`, where each category has a component of its own, and with
    :class:`pyro_hfvae.models.Independent`. The Gaussian sites read the category
    (:func:`pyro_hfvae.distributions.nearest_category`), not the relaxed sample, so that q(z|x) is a mixture over K
    categories, exactly; the decoder still gets the relaxed sample.

    Args:
        gaussian: name and number of variables of each Gaussian site.
        discrete: name and number of categories of each Concrete site.
        given: Gaussian site to the discrete site that it depends on; the other sites depend on the datum alone.
        encoder: makes the network that gives the features which the heads read.
        temperature: of the Concrete sites; set ``guide.temperature`` to anneal it.
        hidden: units of the hidden layer between features and category and a Gaussian site.
        data: that the sizes of the encoder follow from, unless it is given others.

    Raises:
        ValueError: ``given`` names a site that is not there, or the temperature is not above 0.
    """

    def __init__(
        self,
        gaussian: Mapping[str, int],
        discrete: Mapping[str, int],
        given: Mapping[str, str],
        encoder: Callable[[], nn.Module] = ConvEncoder,
        temperature: float = DEFAULT_TEMPERATURE,
        hidden: int = 64,
        data: Data | None = None,
    ) -> None:
        super().__init__(gaussian, discrete, encoder, temperature, data=data)
        for kind, known, names in (("Gaussian", gaussian, given), ("discrete", discrete, given.values())):
            for name in names:
                if name not in known:
                    raise ValueError(f"'given' names '{name}', which is no {kind} site; those are: {', '.join(known)}")
        self.given = dict(given)
        for name, site in given.items():
            self.gaussian[name] = nn.Sequential(
                nn.Linear(self.features + index(discrete[site]), index(hidden)),
                nn.ReLU(),
                nn.Linear(index(hidden), 2 * index(gaussian[name])),
            )

    def forward(self, x: Tensor, target: Tensor | None = None, **covariates: Tensor) -> None:
        """Samples the discrete blocks of the data x, ``[B, ...]``, then the Gaussian ones given their categories.

        A target, which the model explains in place of x, is not looked at.
        """
        features = self.encode(x, covariates)  # [B, features]
        categories: dict[str, Tensor] = {}
        with pyro.plate("data", len(x)):
            for name, head in self.discrete.items():
                y = pyro.sample(name, Concrete(self.temperature, logits=head(features)))
                categories[name] = nearest_category(y)  # [..., B, K]
            for name, head in self.gaussian.items():
                inputs = features
                if name in self.given:
                    category = categories[self.given[name]]
                    # The sample has leading dimensions where the guide is run again: the features have not.
                    inputs = torch.cat([features.expand(*category.shape[:-1], -1), category.to(features)], -1)
                pyro.sample(name, self.normal(head(inputs)))

    def posteriors(self, x: Tensor, **covariates: Tensor) -> dict[str, dist.TorchDistribution]:
        """Refused: the Gaussian sites have no distribution before a category has been sampled."""
        raise NotImplementedError(f"the posteriors of a {type(self).__name__} depend on the categories that it samples")
