"""Generative programs: read them, copy them, or name them by import path."""

from pyro_hfvae.models.image import ImageModel
from pyro_hfvae.models.networks import ConvDecoder, MLPDecoder, SubpixelDecoder

__all__ = ["ConvDecoder", "ImageModel", "MLPDecoder", "SubpixelDecoder"]
