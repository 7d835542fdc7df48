"""Generative programs put together from a latent part and an observation part."""

from collections.abc import Mapping

import pyro
from pyro.nn import PyroModule
from torch import Tensor

from pyro_hfvae.data.data import Data
from pyro_hfvae.models.latents import Latents
from pyro_hfvae.models.observations import Observation

__all__ = ["StructuredModel"]


class StructuredModel(PyroModule):
    """A model of any data: blocks with any prior, and any likelihood of what a decoder makes of them.

    Cells with a component for each type, say, are::

        StructuredModel(Mixture({"z": 8}, {"type": 5}, {"z": "type"}), GeneCounts(), data)

    Args:
        latents: the prior of the blocks.
        observation: the decoder and the likelihood.
        data: that the sizes of the decoder follow from.

    Raises:
        ValueError: the data are not of the kind that the observation part is for, or it is that of other latents.
    """

    def __init__(self, latents: Latents, observation: Observation, data: Data | None = None) -> None:
        super().__init__()
        if observation.decoder is None:
            observation.build(latents.widths, data)
        elif observation.widths != latents.widths:
            raise ValueError(f"the decoder is of the blocks {observation.widths}, but the latents are {latents.widths}")
        self.latents = latents
        self.observation = observation

    @property
    def temperature(self) -> Tensor:
        """Of the Concrete sites."""
        return self.latents.temperature

    @property
    def feature_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of each observed site, the names of what it is made of, where they have names."""
        return self.observation.feature_names

    def forward(self, x: Tensor, target: Tensor | None = None, **covariates: Tensor) -> None:
        """Samples the blocks and observes the data x, ``[B, ...]``, or their targets if given."""
        with pyro.plate("data", len(x)):
            values = self.latents(x, **covariates)
            self.observation(values, x if target is None else target, **covariates)
