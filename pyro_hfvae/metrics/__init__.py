"""Metrics of disentanglement: ``(codes, factors, *, seed=0)``, but for those of swaps; they know arrays only."""

from pyro_hfvae.metrics.block_factor import BlockFactor, block_factor
from pyro_hfvae.metrics.clustering import Clustering, clustering, clustering_accuracy
from pyro_hfvae.metrics.codes import Codes, FactorKind, Factors
from pyro_hfvae.metrics.dci import DCI, completeness, dci, disentanglement, weighted_completeness
from pyro_hfvae.metrics.dci_es import DCIES, dci_es, loss_capacity_explicitness
from pyro_hfvae.metrics.encode import encode, encode_posteriors
from pyro_hfvae.metrics.exact import MarginalInformation, PosteriorParameters, marginal_information
from pyro_hfvae.metrics.feature_share import Exchange, FeatureShares, explained_share, feature_shares
from pyro_hfvae.metrics.fixed_factor import BetaVAEScore, FactorVAEScore, beta_vae_score, factor_vae_score
from pyro_hfvae.metrics.infomec import InfoMEC, infomec
from pyro_hfvae.metrics.irs import IRS, irs
from pyro_hfvae.metrics.measure import measure, measure_features, measure_posteriors, measure_swaps, supervised_scores
from pyro_hfvae.metrics.mig import MIG, MIGSup, mig, mig_sup
from pyro_hfvae.metrics.modularity import Explicitness, Modularity, explicitness, modularity
from pyro_hfvae.metrics.permutation import Chance, permutation_chance
from pyro_hfvae.metrics.sap import SAP, sap
from pyro_hfvae.metrics.shared_codes import SharedCodes, read_shared_codes, write_shared_codes
from pyro_hfvae.metrics.swap import Paint, SwapScores, swap_scores
from pyro_hfvae.metrics.topics import Coherence, coherence_cv, npmi, perplexity, topic_diversity
from pyro_hfvae.metrics.udr import UDR, udr
from pyro_hfvae.metrics.unsupervised import (
    ActiveUnits,
    TotalCorrelation,
    active_units,
    gaussian_total_correlation,
)

__all__ = [
    "DCI",
    "DCIES",
    "IRS",
    "MIG",
    "SAP",
    "UDR",
    "ActiveUnits",
    "BetaVAEScore",
    "BlockFactor",
    "Chance",
    "Clustering",
    "Codes",
    "Coherence",
    "Exchange",
    "Explicitness",
    "FactorKind",
    "FactorVAEScore",
    "Factors",
    "FeatureShares",
    "InfoMEC",
    "MIGSup",
    "MarginalInformation",
    "Modularity",
    "Paint",
    "PosteriorParameters",
    "SharedCodes",
    "SwapScores",
    "TotalCorrelation",
    "active_units",
    "beta_vae_score",
    "block_factor",
    "clustering",
    "clustering_accuracy",
    "coherence_cv",
    "completeness",
    "dci",
    "dci_es",
    "disentanglement",
    "encode",
    "encode_posteriors",
    "explained_share",
    "explicitness",
    "factor_vae_score",
    "feature_shares",
    "gaussian_total_correlation",
    "infomec",
    "irs",
    "loss_capacity_explicitness",
    "marginal_information",
    "measure",
    "measure_features",
    "measure_posteriors",
    "measure_swaps",
    "mig",
    "mig_sup",
    "modularity",
    "npmi",
    "permutation_chance",
    "perplexity",
    "read_shared_codes",
    "sap",
    "supervised_scores",
    "swap_scores",
    "topic_diversity",
    "udr",
    "weighted_completeness",
    "write_shared_codes",
]
