"""Images addressed by index, with the factors that made them: drawn, read, or downloaded and verified."""

from pyro_hfvae.data.batches import IndexBatches
from pyro_hfvae.data.dsprites import DSprites, DSpritesFile, render
from pyro_hfvae.data.faces import CMUFaces, SFMFaces
from pyro_hfvae.data.idx import MNIST, FashionMNIST, IdxImages
from pyro_hfvae.data.image_file import ImageFile
from pyro_hfvae.data.images import FactorKind, Images
from pyro_hfvae.data.root import data_root

__all__ = [
    "MNIST",
    "CMUFaces",
    "DSprites",
    "DSpritesFile",
    "FactorKind",
    "FashionMNIST",
    "IdxImages",
    "ImageFile",
    "Images",
    "IndexBatches",
    "SFMFaces",
    "data_root",
    "render",
]
