"""Images addressed by index, with the factors that made them: drawn, read, or downloaded and verified."""

from pyro_hfvae.data.batches import IndexBatches
from pyro_hfvae.data.dsprites import DSprites, DSpritesFile, render
from pyro_hfvae.data.idx import MNIST, FashionMNIST, IdxImages
from pyro_hfvae.data.images import FactorKind, Images
from pyro_hfvae.data.root import data_root

__all__ = [
    "MNIST",
    "DSprites",
    "DSpritesFile",
    "FactorKind",
    "FashionMNIST",
    "IdxImages",
    "Images",
    "IndexBatches",
    "data_root",
    "render",
]
