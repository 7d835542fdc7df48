"""Structured, disentangled deep generative models as Pyro programs."""

from pyro_hfvae.distributions import Concrete, nearest_category
from pyro_hfvae.infer import (
    HFVAE,
    BlockTerms,
    Capacity,
    GroupTerms,
    HierarchicalELBO,
    HierarchicalModule,
    Memory,
    NonFiniteError,
    Terms,
    VariableTerms,
)
from pyro_hfvae.metrics import encode
from pyro_hfvae.poutine import gate, observe_labels, swap
from pyro_hfvae.schedules import Cosine, Cyclical, Linear, Steps
from pyro_hfvae.sites import register_site

__all__ = [
    "HFVAE",
    "BlockTerms",
    "Capacity",
    "Concrete",
    "Cosine",
    "Cyclical",
    "GroupTerms",
    "HierarchicalELBO",
    "HierarchicalModule",
    "Linear",
    "Memory",
    "NonFiniteError",
    "Steps",
    "Terms",
    "VariableTerms",
    "encode",
    "gate",
    "nearest_category",
    "observe_labels",
    "register_site",
    "swap",
]
__version__ = "0.1.0"
