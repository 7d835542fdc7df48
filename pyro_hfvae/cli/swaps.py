"""What pictures of a run take from which block: its programs as a painter for the metric of swaps."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.cli.programs import Trained
from pyro_hfvae.metrics import Factors, measure_swaps
from pyro_hfvae.plot import LatentValues, decode, posterior_modes

__all__ = ["swaps_of"]

BATCH = 256


def swaps_of(run: Trained, x: Tensor, factors: Factors, seed: int) -> dict[str, Any]:
    """`measure_swaps` on data ``[N, C, H, W]`` with their factors, painted from the middle of their posteriors.

    Raises:
        ValueError: there is no picture, or nothing to swap it with; says why.
    """
    batches = x.split(BATCH)
    blocks = run.blocks_of(batches[0])
    if len(blocks) < 2:
        raise ValueError("there is one block, and nothing to swap it with")
    modes = LatentValues.joined([posterior_modes(run.guide, batch) for batch in batches])

    def paint(block: str | None, giving: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[Any]:
        latents = modes.rows(torch.from_numpy(rest))
        if block is not None:
            latents = latents.replaced({variable: modes.of(variable)[giving] for variable in blocks[block]})
        parts = torch.arange(latents.size).split(BATCH)
        painted = [decode(run.model, latents.rows(part).values, x[: len(part)]) for part in parts]
        return torch.cat(painted).numpy(force=True)

    return measure_swaps(paint, list(blocks), factors, seed=seed)
