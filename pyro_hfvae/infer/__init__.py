"""The objectives: an ELBO split into its terms, the inference marginal that the split needs, and the family."""

from pyro_hfvae.infer.checks import NonFiniteError
from pyro_hfvae.infer.estimators import Full, Marginal, Stratified, Weighted
from pyro_hfvae.infer.family import (
    DIPVAEI,
    DIPVAEII,
    HFVAE,
    VAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    FactorVAE,
    InfoVAE,
    JointVAE,
)
from pyro_hfvae.infer.hierarchical_elbo import HierarchicalELBO
from pyro_hfvae.infer.memory import Memory
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.run import Run
from pyro_hfvae.infer.terms import BlockTerms, GroupTerms, Terms, VariableTerms
from pyro_hfvae.infer.trust import EstimateWarning, predicted_bias
from pyro_hfvae.infer.weights import Capacity

__all__ = [
    "DIPVAEI",
    "DIPVAEII",
    "HFVAE",
    "VAE",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "BlockTerms",
    "Capacity",
    "EstimateWarning",
    "FactorVAE",
    "Full",
    "GroupTerms",
    "HierarchicalELBO",
    "InfoVAE",
    "JointVAE",
    "Marginal",
    "Memory",
    "NonFiniteError",
    "Penalty",
    "Run",
    "Stratified",
    "Terms",
    "VariableTerms",
    "Weighted",
    "predicted_bias",
]
