"""Weak supervision: pairs of data that share a factor, and the gates that each pair opens. It knows no model."""

from pyro_hfvae.weak.batches import PairBatch, PairBatches, Pairs, PairSampler
from pyro_hfvae.weak.pairing import Pairing
from pyro_hfvae.weak.sharing import Groups, IndexPairs, SharedFactors, Sharing
from pyro_hfvae.weak.swaps import SwapBatch, Swaps, TrainingBatch, as_swaps
from pyro_hfvae.weak.views import Views

__all__ = [
    "Groups",
    "IndexPairs",
    "PairBatch",
    "PairBatches",
    "PairSampler",
    "Pairing",
    "Pairs",
    "SharedFactors",
    "Sharing",
    "SwapBatch",
    "Swaps",
    "TrainingBatch",
    "Views",
    "as_swaps",
]
