"""Structured, disentangled deep generative models as Pyro programs."""

from pyro_hfvae.distributions import Concrete
from pyro_hfvae.infer import BlockTerms, HierarchicalELBO, NonFiniteError, Terms, VariableTerms

__all__ = ["BlockTerms", "Concrete", "HierarchicalELBO", "NonFiniteError", "Terms", "VariableTerms"]
__version__ = "0.1.0"
