"""How distorted copies of data are made, batch by batch: images, tables and sequences.

Each is called with data ``[B, ...]`` and a random generator and returns as many of the same shape; what it draws comes
from the generator alone.
"""

from pyro_hfvae.weak.distortions.distortion import Distortion
from pyro_hfvae.weak.distortions.images import Affine, ColourJitter, Crop, PixelNoise
from pyro_hfvae.weak.distortions.sequences import Jitter, TimeWarp
from pyro_hfvae.weak.distortions.tables import ColumnDropout

__all__ = ["Affine", "ColourJitter", "ColumnDropout", "Crop", "Distortion", "Jitter", "PixelNoise", "TimeWarp"]
