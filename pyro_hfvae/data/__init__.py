"""Data addressed by index, as named tensors with the factors behind them: drawn, read, or downloaded and verified."""

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.batches import IndexBatches
from pyro_hfvae.data.cars3d import Cars3D
from pyro_hfvae.data.celeba import CelebA
from pyro_hfvae.data.columns import Column, ColumnKind, kind_of
from pyro_hfvae.data.counts import Counts
from pyro_hfvae.data.data import Data, FactorKind
from pyro_hfvae.data.dsprites import DSprites, DSpritesFile, render
from pyro_hfvae.data.faces import CMUFaces, SFMFaces
from pyro_hfvae.data.idx import MNIST, FashionMNIST, IdxImages
from pyro_hfvae.data.image_file import ImageFile
from pyro_hfvae.data.image_folder import ImageFolder
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.mpi3d import MPI3D
from pyro_hfvae.data.newsgroups import Newsgroups
from pyro_hfvae.data.pbmc import PBMC68k
from pyro_hfvae.data.root import data_root
from pyro_hfvae.data.row_format import decode_rows, encode_rows
from pyro_hfvae.data.scikit import ScikitLearnTable
from pyro_hfvae.data.sequences import Sequences
from pyro_hfvae.data.series_sets import BasicMotions, JapaneseVowels
from pyro_hfvae.data.shapes3d import Shapes3D
from pyro_hfvae.data.shards import Shards
from pyro_hfvae.data.small_norb import SmallNORB
from pyro_hfvae.data.table import Table

__all__ = [
    "MNIST",
    "MPI3D",
    "BasicMotions",
    "Batch",
    "CMUFaces",
    "Cars3D",
    "CelebA",
    "Column",
    "ColumnKind",
    "Counts",
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
    "Integers",
    "JapaneseVowels",
    "Newsgroups",
    "PBMC68k",
    "SFMFaces",
    "ScikitLearnTable",
    "Sequences",
    "Shapes3D",
    "Shards",
    "SmallNORB",
    "Table",
    "data_root",
    "decode_rows",
    "encode_rows",
    "kind_of",
    "render",
]
