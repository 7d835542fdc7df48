"""The objective: an ELBO split into its terms, and the inference marginal that the split needs."""

from pyro_hfvae.infer.checks import NonFiniteError
from pyro_hfvae.infer.estimators import EstimateWarning, Full, Marginal, Stratified, Weighted
from pyro_hfvae.infer.hierarchical_elbo import HierarchicalELBO
from pyro_hfvae.infer.memory import Memory
from pyro_hfvae.infer.terms import BlockTerms, Terms, VariableTerms

__all__ = [
    "BlockTerms",
    "EstimateWarning",
    "Full",
    "HierarchicalELBO",
    "Marginal",
    "Memory",
    "NonFiniteError",
    "Stratified",
    "Terms",
    "VariableTerms",
    "Weighted",
]
