"""Decoders: from a latent vector to the parameters of what is observed. Leading dimensions are kept."""

from pyro_hfvae.models.networks.additive import AdditiveDecoder
from pyro_hfvae.models.networks.dense import MLPDecoder
from pyro_hfvae.models.networks.images import ConvDecoder, SpatialBroadcastDecoder, SubpixelDecoder
from pyro_hfvae.models.networks.sequences import ConvSequenceDecoder, RecurrentDecoder

__all__ = [
    "AdditiveDecoder",
    "ConvDecoder",
    "ConvSequenceDecoder",
    "MLPDecoder",
    "RecurrentDecoder",
    "SpatialBroadcastDecoder",
    "SubpixelDecoder",
]
