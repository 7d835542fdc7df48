"""Distributions beside those of Pyro: of discrete latent sites, of the columns of a table, of counts."""

from pyro_hfvae.distributions.columns import ColumnLikelihoods
from pyro_hfvae.distributions.concrete import (
    DEFAULT_TEMPERATURE,
    Concrete,
    ConcreteDensity,
    StraightThroughConcrete,
    is_factor,
    log_mass,
    nearest_category,
    unwrap,
)
from pyro_hfvae.distributions.counts import MultinomialCounts

__all__ = [
    "DEFAULT_TEMPERATURE",
    "ColumnLikelihoods",
    "Concrete",
    "ConcreteDensity",
    "MultinomialCounts",
    "StraightThroughConcrete",
    "is_factor",
    "log_mass",
    "nearest_category",
    "unwrap",
]
