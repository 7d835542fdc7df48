"""Generative programs: read them, copy them, or name them by import path."""

from pyro_hfvae.models.image import ImageModel
from pyro_hfvae.models.networks import (
    AdditiveDecoder,
    ConvDecoder,
    ConvSequenceDecoder,
    MLPDecoder,
    RecurrentDecoder,
    SpatialBroadcastDecoder,
    SubpixelDecoder,
)
from pyro_hfvae.models.structured import CorrelatedModel, HierarchicalModel, MixtureModel

__all__ = [
    "AdditiveDecoder",
    "ConvDecoder",
    "ConvSequenceDecoder",
    "CorrelatedModel",
    "HierarchicalModel",
    "ImageModel",
    "MLPDecoder",
    "MixtureModel",
    "RecurrentDecoder",
    "SpatialBroadcastDecoder",
    "SubpixelDecoder",
]
