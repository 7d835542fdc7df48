"""What a latent site can be asked: densities of its variables, all pairs of samples and posteriors, categories."""

from pyro_hfvae.sites.categories import DiscreteSite, entering_as
from pyro_hfvae.sites.dependent import CorrelatedSite, MixtureSite
from pyro_hfvae.sites.exponential import DirichletSite, NormalSite, Univariate, transformed
from pyro_hfvae.sites.parameters import map_parameters
from pyro_hfvae.sites.site import NOTHING, Site, describe, read_site, register_site

__all__ = [
    "NOTHING",
    "CorrelatedSite",
    "DirichletSite",
    "DiscreteSite",
    "MixtureSite",
    "NormalSite",
    "Site",
    "Univariate",
    "describe",
    "entering_as",
    "map_parameters",
    "read_site",
    "register_site",
    "transformed",
]
