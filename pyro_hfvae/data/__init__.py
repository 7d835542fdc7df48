"""Data addressed by index, as named tensors with the factors behind them: drawn, read, or downloaded and verified."""

from pyro_hfvae.data.batch import Batch
from pyro_hfvae.data.batches import IndexBatches
from pyro_hfvae.data.columns import Column, ColumnKind, kind_of
from pyro_hfvae.data.counts import Counts
from pyro_hfvae.data.data import Data, FactorKind
from pyro_hfvae.data.dsprites import DSprites, DSpritesFile, render
from pyro_hfvae.data.faces import CMUFaces, SFMFaces
from pyro_hfvae.data.idx import MNIST, FashionMNIST, IdxImages
from pyro_hfvae.data.image_file import ImageFile
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.newsgroups import Newsgroups
from pyro_hfvae.data.pbmc import PBMC68k
from pyro_hfvae.data.root import data_root
from pyro_hfvae.data.sequences import Sequences
from pyro_hfvae.data.series_sets import BasicMotions, JapaneseVowels
from pyro_hfvae.data.table import Table

__all__ = [
    "MNIST",
    "BasicMotions",
    "Batch",
    "CMUFaces",
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
    "Images",
    "IndexBatches",
    "JapaneseVowels",
    "Newsgroups",
    "PBMC68k",
    "SFMFaces",
    "Sequences",
    "Table",
    "data_root",
    "kind_of",
    "render",
]
