"""Runs trained programs for pictures: decoded means, traversals, swaps, and draws and marginals of q(z)."""

from pyro_hfvae.paint.decode import decode, sample
from pyro_hfvae.paint.latent_values import LatentValues, posterior_draws, posterior_modes, prior_modes
from pyro_hfvae.paint.marginals import read_marginals
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
    "LatentValues",
    "categories",
    "combine",
    "commonest_categories",
    "decode",
    "interpolate",
    "painter",
    "posterior_draws",
    "posterior_modes",
    "prior_modes",
    "quantile_range",
    "read_marginals",
    "sample",
    "swap",
    "traverse",
]
