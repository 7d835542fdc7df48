"""Structured, disentangled deep generative models as Pyro programs."""

from pyro_hfvae.distributions import Concrete
from pyro_hfvae.infer import (
    BlockTerms,
    Capacity,
    GroupTerms,
    HierarchicalELBO,
    NonFiniteError,
    Terms,
    VariableTerms,
)

__all__ = [
    "BlockTerms",
    "Capacity",
    "Concrete",
    "GroupTerms",
    "HierarchicalELBO",
    "NonFiniteError",
    "Terms",
    "VariableTerms",
]
__version__ = "0.1.0"
