"""Decoders: from a latent vector to the parameters of what is observed. Leading dimensions are kept."""

from pyro_hfvae.models.networks.dense import MLPDecoder
from pyro_hfvae.models.networks.images import ConvDecoder, SpatialBroadcastDecoder, SubpixelDecoder

__all__ = [
    "ConvDecoder",
    "MLPDecoder",
    "SpatialBroadcastDecoder",
    "SubpixelDecoder",
]
