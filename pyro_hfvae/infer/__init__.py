"""The objective: an ELBO split into its terms, and the inference marginal that the split needs."""

from pyro_hfvae.infer.checks import NonFiniteError
from pyro_hfvae.infer.estimators import Full, Marginal, Stratified, Weighted
from pyro_hfvae.infer.hierarchical_elbo import HierarchicalELBO
from pyro_hfvae.infer.memory import Memory
from pyro_hfvae.infer.terms import BlockTerms, Terms, VariableTerms
from pyro_hfvae.infer.trust import EstimateWarning, predicted_bias

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
    "predicted_bias",
]
