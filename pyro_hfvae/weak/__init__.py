"""Weak supervision: pairs that share a factor, of two data or of one and its copy, and the gates that they open."""

from pyro_hfvae.weak.batches import PairBatch, PairBatches, Pairs, PairSampler
from pyro_hfvae.weak.pairing import Pairing
from pyro_hfvae.weak.sharing import Groups, IndexPairs, SharedFactors, Sharing
from pyro_hfvae.weak.swaps import PartnerBatch, Swaps, TrainingBatch, as_swaps
from pyro_hfvae.weak.views import ViewBatches, Viewed, Views

__all__ = [
    "Groups",
    "IndexPairs",
    "PairBatch",
    "PairBatches",
    "PairSampler",
    "Pairing",
    "Pairs",
    "PartnerBatch",
    "SharedFactors",
    "Sharing",
    "Swaps",
    "TrainingBatch",
    "ViewBatches",
    "Viewed",
    "Views",
    "as_swaps",
]
