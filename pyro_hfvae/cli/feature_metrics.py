"""Which block decides which observed feature, of a run whose data are no images."""

from dataclasses import replace
from typing import Any

import torch

from pyro_hfvae.batch import Batch
from pyro_hfvae.cli.encoded import decodes_images
from pyro_hfvae.cli.feature_pictures import feature_reader
from pyro_hfvae.metrics import explained_share, measure_features
from pyro_hfvae.paint import LatentValues, exchanger, posterior_modes
from pyro_hfvae.train import LoadedRun

__all__ = ["run_features"]

EXCHANGED_DATA = 1_000
"""Held-out data that exchange blocks, at most."""

EXCHANGED_NUMBERS = 4_000_000
"""Of these and their decoded numbers: how many there are, at most. Of 20,000 genes, 200 data."""


def run_features(run: LoadedRun, data: Batch, seed: int) -> dict[str, Any]:
    """`features` of `metrics.json`, or the reason why it is not known; neither for images.

    Args:
        run: a run that is loaded.
        data: held-out data, on its device.
        seed: of the pairs and of the random groupings.
    """
    few = data.rows(slice(EXCHANGED_DATA))
    if decodes_images(run.model, posterior_modes(run.guide, few.rows(slice(1))), few):
        return {"features": None, "features_note": None}
    try:
        modes = LatentValues.joined(posterior_modes(run.guide, part) for part in few.split(256))
        # Shares do not depend on units, but what is rounding does.
        reader, blocks = replace(feature_reader(run, few), units=()), run.blocks_of(few.rows(slice(2)))
        count = min(few.size, EXCHANGED_NUMBERS // reader.decoded(modes.rows(torch.tensor([0]))).values.shape[1])
        few, modes = few.rows(slice(count)), modes.rows(torch.arange(count))
        decoded, observed = reader.rebuilt(modes, few), reader.observed(few)
        features = decoded.by_name
        found = measure_features(
            exchanger(reader, modes, blocks),
            {block: [variable.name for variable in variables] for block, variables in blocks.items()},
            features,
            count,
            explained=explained_share(observed.values.numpy(force=True), decoded.values.numpy(force=True), features),
            seed=seed,
        )
        return {"features": found, "features_note": None}
    except ValueError as reason:  # one block alone, few data, or nothing that has a mean
        return {"features": None, "features_note": str(reason)}
