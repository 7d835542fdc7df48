"""Factorised inference programs: read them, copy them, or name them by import path."""

from pyro_hfvae.guides.image import ImageGuide
from pyro_hfvae.guides.networks import ConvEncoder, MLPEncoder, SubpixelEncoder

__all__ = ["ConvEncoder", "ImageGuide", "MLPEncoder", "SubpixelEncoder"]
