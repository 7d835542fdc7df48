"""Inference programs, factorised and structured: read them, copy them, or name them by import path."""

from pyro_hfvae.guides.columns import ColumnEncoder
from pyro_hfvae.guides.counts import CountEncoder
from pyro_hfvae.guides.factorised import FactorisedGuide
from pyro_hfvae.guides.image import ImageGuide
from pyro_hfvae.guides.networks import (
    ConvEncoder,
    ConvSequenceEncoder,
    MLPEncoder,
    RecurrentEncoder,
    SetEncoder,
    SubpixelEncoder,
)
from pyro_hfvae.guides.structured import StructuredGuide

__all__ = [
    "ColumnEncoder",
    "ConvEncoder",
    "ConvSequenceEncoder",
    "CountEncoder",
    "FactorisedGuide",
    "ImageGuide",
    "MLPEncoder",
    "RecurrentEncoder",
    "SetEncoder",
    "StructuredGuide",
    "SubpixelEncoder",
]
