"""Encoders: from a datum to the features that a guide's heads read. Each has its number of ``features``."""

from pyro_hfvae.guides.networks.dense import MLPEncoder
from pyro_hfvae.guides.networks.encoder import Encoder
from pyro_hfvae.guides.networks.images import ConvEncoder, SubpixelEncoder

__all__ = [
    "ConvEncoder",
    "Encoder",
    "MLPEncoder",
    "SubpixelEncoder",
]
