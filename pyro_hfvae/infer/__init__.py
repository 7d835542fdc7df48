"""The objective: the ELBO split into terms with a weight each, its estimators, and the objectives of the literature."""

from pyro_hfvae.infer.diagnostics import EstimateWarning
from pyro_hfvae.infer.elbo import HierarchicalELBO
from pyro_hfvae.infer.estimators import Exact, Marginal, Minibatch, MinibatchWeighted
from pyro_hfvae.infer.finite import NonFiniteError
from pyro_hfvae.infer.memory import Memory
from pyro_hfvae.infer.module import HierarchicalModule, Loss
from pyro_hfvae.infer.objectives import (
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
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import BlockTerms, GroupTerms, Terms, VariableTerms
from pyro_hfvae.infer.weights import Capacity, Weight

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
    "Exact",
    "FactorVAE",
    "GroupTerms",
    "HierarchicalELBO",
    "HierarchicalModule",
    "InfoVAE",
    "JointVAE",
    "Loss",
    "Marginal",
    "Memory",
    "Minibatch",
    "MinibatchWeighted",
    "NonFiniteError",
    "Penalty",
    "Sample",
    "Terms",
    "VariableTerms",
    "Weight",
]
