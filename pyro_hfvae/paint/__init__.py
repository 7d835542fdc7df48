"""Runs trained programs for pictures: decoded means, features, traversals, swaps, draws of q(z), missing cells."""

from pyro_hfvae.paint.decode import decode, decode_latents, sample
from pyro_hfvae.paint.features import Feature, FeatureValues, decode_features, observed_features
from pyro_hfvae.paint.impute import impute
from pyro_hfvae.paint.latent_values import LatentValues, posterior_draws, posterior_modes, prior_modes
from pyro_hfvae.paint.marginals import read_marginals
from pyro_hfvae.paint.responses import FeatureReader, exchanger, like, respond
from pyro_hfvae.paint.swaps import painter
from pyro_hfvae.paint.traversals import (
    categories,
    combine,
    commonest_categories,
    interpolate,
    quantile_range,
    swap,
    traverse,
)

__all__ = [
    "Feature",
    "FeatureReader",
    "FeatureValues",
    "LatentValues",
    "categories",
    "combine",
    "commonest_categories",
    "decode",
    "decode_features",
    "decode_latents",
    "exchanger",
    "impute",
    "interpolate",
    "like",
    "observed_features",
    "painter",
    "posterior_draws",
    "posterior_modes",
    "prior_modes",
    "quantile_range",
    "read_marginals",
    "respond",
    "sample",
    "swap",
    "traverse",
]
