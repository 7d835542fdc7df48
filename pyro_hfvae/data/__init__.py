"""Data addressed by index, as named tensors with the factors behind them: drawn, read, or downloaded and verified."""

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.batches import IndexBatches
from pyro_hfvae.data.cars3d import Cars3D
from pyro_hfvae.data.celeba import CelebA
from pyro_hfvae.data.data import Data, FactorKind
from pyro_hfvae.data.dsprites import DSprites, DSpritesFile, render
from pyro_hfvae.data.faces import CMUFaces, SFMFaces
from pyro_hfvae.data.idx import MNIST, FashionMNIST, IdxImages
from pyro_hfvae.data.image_file import ImageFile
from pyro_hfvae.data.image_folder import ImageFolder
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.mpi3d import MPI3D
from pyro_hfvae.data.root import data_root
from pyro_hfvae.data.shapes3d import Shapes3D
from pyro_hfvae.data.shards import Shards
from pyro_hfvae.data.small_norb import SmallNORB

__all__ = [
    "MNIST",
    "MPI3D",
    "Batch",
    "CMUFaces",
    "Cars3D",
    "CelebA",
    "DSprites",
    "DSpritesFile",
    "Data",
    "FactorKind",
    "FashionMNIST",
    "IdxImages",
    "ImageFile",
    "ImageFolder",
    "Images",
    "IndexBatches",
    "SFMFaces",
    "Shapes3D",
    "Shards",
    "SmallNORB",
    "data_root",
    "render",
]
