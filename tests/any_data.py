"""Small data of every kind, with what makes a model and a guide of them."""

from dataclasses import dataclass

import torch

from pyro_hfvae.batch import Batch
from pyro_hfvae.data import Data
from pyro_hfvae.guides import ColumnEncoder, CountEncoder, FactorisedGuide, MLPEncoder
from pyro_hfvae.models import (
    Clusters,
    Columns,
    Conditional,
    Correlated,
    DenseDecoder,
    Flow,
    GeneCounts,
    Hierarchy,
    Independent,
    Mixture,
    MLPDecoder,
    Pixels,
    Series,
    StructuredModel,
    VampPrior,
    WordCounts,
)

N = 6


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: str
    size: int = 0
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0


COLUMNS = (
    Column("height", "number"),
    Column("colour", "category", 3, ("red", "green", "blue")),
    Column("smokes", "flag"),
    Column("visits", "count"),
    Column("weight", "number"),
    Column("year", "time"),
    Column("city", "category", 2),
    Column("children", "count"),
)


class Given(Data):
    """Tensors that were given."""

    def __init__(self, x, columns=(), names=(), **covariates):
        self.tensors = Batch(x=x, **covariates)
        self.columns = columns
        self.feature_names = names

    def __len__(self):
        return self.tensors.size

    def batch(self, indices):
        return self.tensors.rows(self._checked(indices))

    def factors(self, indices):
        return torch.zeros(len(indices), 0, dtype=torch.long)


def table(size=N, missing=0.2, seed=0, columns=COLUMNS):
    """Rows of a table, of which some cells are missing, [B, D]."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        "number": lambda column: torch.randn(size, generator=generator),
        "time": lambda column: torch.randn(size, generator=generator),
        "flag": lambda column: torch.rand(size, generator=generator).round(),
        "count": lambda column: torch.randint(9, (size,), generator=generator).float(),
        "category": lambda column: torch.randint(column.size, (size,), generator=generator).float(),
    }
    x = torch.stack([made[column.kind](column) for column in columns], 1)
    return x.masked_fill(torch.rand(x.shape, generator=generator) < missing, torch.nan)


def data_of(kind, size=N, seed=0):
    """Data of a kind, all with a covariate ``batch``, one-hot of two."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.eye(2)[torch.arange(size) % 2]
    if kind in ("bernoulli", "pixels"):
        return Given((torch.rand(size, 2, 3, 4, generator=generator) > 0.5).float(), batch=batch)
    if kind == "columns":
        return Given(table(size, seed=seed), COLUMNS, batch=batch)
    if kind in ("words", "genes"):
        x = torch.poisson(3 * torch.rand(size, 5, generator=generator), generator=generator)
        return Given(x, names=tuple("abcde"), library=x.sum(-1) + 1, batch=batch)
    lengths = torch.arange(size) % 4 + 1
    x = torch.randn(size, 4, 3, generator=generator) * (torch.arange(4) < lengths[:, None])[..., None]
    return Given(x, names=tuple("uvw"), lengths=lengths, batch=batch)


GAUSSIAN, DISCRETE = {"pose": 3, "style": 2}, {"shape": 3}

OBSERVATIONS = {
    "bernoulli": lambda: Pixels(small_images),
    "pixels": lambda: Pixels(small_images, 0.5),
    "columns": lambda: Columns(small, {"weight": "student_t", "children": "poisson"}),
    "words": lambda: WordCounts(small),
    "genes": lambda: GeneCounts(small, given=["batch"]),
    "series": lambda: Series(small),
}

LATENTS = {
    "independent": lambda discrete, data, guide, **o: Independent(GAUSSIAN, discrete, **o),
    "mixture": lambda discrete, data, guide, **o: Mixture(GAUSSIAN, discrete, {"pose": "shape"}, **o),
    "hierarchy": lambda discrete, data, guide, **o: Hierarchy(GAUSSIAN, discrete, 5, **o),
    "correlated": lambda discrete, data, guide, **o: Correlated(GAUSSIAN, discrete, **o),
    "clusters": lambda discrete, data, guide, **o: Clusters(GAUSSIAN, discrete, 4, **o),
    "vamp": lambda discrete, data, guide, **o: vamp(discrete, data, guide, **o),
    "flow": lambda discrete, data, guide, **o: Flow(GAUSSIAN, discrete, 2, 5, **o),
    "conditional": lambda discrete, data, guide, **o: Conditional(GAUSSIAN, discrete, ["batch"], 5, data=data, **o),
}


def small(latent_size, outputs, length=None):
    """A dense decoder."""
    return DenseDecoder(latent_size, outputs, (7,), length)


def small_images(latent_size, image_shape):
    """A dense decoder of images."""
    return MLPDecoder(latent_size, image_shape, (7,))


def vamp(discrete, data, guide, **options):
    """Inputs are learned where the data are real numbers."""
    batch = data.batch(torch.arange(4))
    return VampPrior(GAUSSIAN, discrete, guide, batch.x, len(data.shape) > 1, batch.others, **options)


def encoder_of(kind):
    """A factory of a small encoder."""
    if kind == "columns":
        return lambda columns: ColumnEncoder(columns, (9, 8))
    if kind in ("words", "genes"):
        return lambda inputs, covariates: CountEncoder(inputs, (9, 8), ["batch"], covariates)
    if kind == "series":
        return lambda inputs, length: MLPEncoder((1, length, inputs), (9, 8))
    return lambda image_shape: MLPEncoder(image_shape, (9, 8))


def programs(latents, kind, discrete=DISCRETE, seed=0, **options):
    """Model, guide and a batch of the data."""
    torch.manual_seed(seed)
    data = data_of(kind)
    guide = FactorisedGuide(GAUSSIAN, discrete, encoder_of(kind), data=data, **options)
    model = StructuredModel(LATENTS[latents](discrete, data, guide, **options), OBSERVATIONS[kind](), data)
    return model, guide, data.batch(torch.arange(N))
