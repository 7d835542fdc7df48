"""Generative programs: read them, copy them, or name them by import path."""

from pyro_hfvae.models.columns import ColumnFamily, Columns
from pyro_hfvae.models.counts import GeneCounts, WordCounts
from pyro_hfvae.models.dense import DenseDecoder
from pyro_hfvae.models.image import CorrelatedModel, HierarchicalModel, ImageModel, MixtureModel
from pyro_hfvae.models.latents import Independent, Latents
from pyro_hfvae.models.latents_conditional import Conditional
from pyro_hfvae.models.latents_learned import Clusters, Flow, VampPrior
from pyro_hfvae.models.latents_structured import Correlated, Hierarchy, Mixture
from pyro_hfvae.models.model import StructuredModel
from pyro_hfvae.models.networks import (
    AdditiveDecoder,
    ConvDecoder,
    ConvSequenceDecoder,
    MLPDecoder,
    RecurrentDecoder,
    SpatialBroadcastDecoder,
    SubpixelDecoder,
)
from pyro_hfvae.models.observations import Observation, Pixels
from pyro_hfvae.models.series import Series

__all__ = [
    "AdditiveDecoder",
    "Clusters",
    "ColumnFamily",
    "Columns",
    "Conditional",
    "ConvDecoder",
    "ConvSequenceDecoder",
    "Correlated",
    "CorrelatedModel",
    "DenseDecoder",
    "Flow",
    "GeneCounts",
    "HierarchicalModel",
    "Hierarchy",
    "ImageModel",
    "Independent",
    "Latents",
    "MLPDecoder",
    "Mixture",
    "MixtureModel",
    "Observation",
    "Pixels",
    "RecurrentDecoder",
    "Series",
    "SpatialBroadcastDecoder",
    "StructuredModel",
    "SubpixelDecoder",
    "VampPrior",
    "WordCounts",
]
