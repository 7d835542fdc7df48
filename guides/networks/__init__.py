"""Encoders: from a datum to the features that a guide's heads read. Each has its number of ``features``."""

from pyro_hfvae.guides.networks.dense import MLPEncoder
from pyro_hfvae.guides.networks.encoder import Encoder
from pyro_hfvae.guides.networks.images import ConvEncoder, SubpixelEncoder
from pyro_hfvae.guides.networks.sequences import ConvSequenceEncoder, RecurrentEncoder
from pyro_hfvae.guides.networks.sets import SetEncoder

__all__ = [
    "ConvEncoder",
    "ConvSequenceEncoder",
    "Encoder",
    "MLPEncoder",
    "RecurrentEncoder",
    "SetEncoder",
    "SubpixelEncoder",
]
