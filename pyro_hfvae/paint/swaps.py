"""Pictures of one block of some data with everything else of others, as the metric of swaps asks for them."""

from typing import Any

import torch
from numpy.typing import NDArray

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.blocks import Blocks
from pyro_hfvae.metrics import Paint
from pyro_hfvae.paint.decode import decode_latents
from pyro_hfvae.paint.latent_values import LatentValues, Program, posterior_modes

__all__ = ["painter"]

BATCH = 256


def painter(model: Program, guide: Program, data: Inputs, blocks: Blocks) -> Paint:
    """Decodes swaps for :func:`pyro_hfvae.metrics.swap_scores`, from the modes of the posteriors of some data.

    Args:
        model: the generative program.
        guide: the inference program.
        data: the arguments of both, [N, ...].
        blocks: block name to its variables, all of them.

    Raises:
        ValueError: fewer than two blocks; later, when it paints, a model whose observed sites have no mean.
    """
    if len(blocks) < 2:
        raise ValueError("swaps need two blocks or more; there is one")
    batch = as_batch(data)
    modes = LatentValues.joined([posterior_modes(guide, some) for some in batch.split(BATCH)])

    def paint(block: str | None, giving: NDArray[Any], rest: NDArray[Any]) -> NDArray[Any]:
        kept = torch.from_numpy(rest)
        latents = modes.rows(kept)
        if block is not None:
            latents = latents.replaced({variable: modes.of(variable)[giving] for variable in blocks[block]})
        parts = torch.arange(latents.size).split(BATCH)
        painted = [decode_latents(model, latents.rows(part), batch.rows(kept[part])) for part in parts]
        return torch.cat(painted).numpy(force=True)

    return paint
