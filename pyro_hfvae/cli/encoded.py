"""Held-out data of a run with their latents, and the points that traversals start from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.blocks import Blocks, Variable
from pyro_hfvae.paint import LatentValues, decode_latents, posterior_draws, posterior_modes, prior_modes, quantile_range
from pyro_hfvae.paint.latent_values import Program
from pyro_hfvae.plot import picture_name
from pyro_hfvae.train import LoadedRun

__all__ = ["Encoded", "Pictures", "Start", "decodes_images", "encode_run", "middle", "picture_file", "prior"]

AGGREGATE = 1000
"""Held-out data that stand for q(z), at most: ten of them lie beyond each of the quantiles at 1 % and 99 %."""

Pictures = Iterator[tuple[str, Figure | bytes]]
"""Name of a file in pictures/, and what to write into it."""


@dataclass(frozen=True)
class Encoded:
    """Held-out data of a run, with modes and draws of their posteriors."""

    run: LoadedRun
    batches: list[Batch]
    all: Batch
    factors: NDArray[Any]  # [N, F]
    modes: LatentValues
    draws: LatentValues
    blocks: Blocks

    @property
    def x(self) -> Tensor:
        """What the model observes, [N, C, H, W]."""
        return self.all.x

    @property
    def variables(self) -> list[Variable]:
        """Those of all blocks."""
        return [variable for variables in self.blocks.values() for variable in variables]


@dataclass(frozen=True)
class Start:
    """The point that a traversal starts from."""

    prefix: str
    place: str
    latents: LatentValues
    image: Tensor | None = None  # [1, C, H, W]
    categories: Mapping[Variable, int] = field(default_factory=dict)

    def without(self, variables: Sequence[Variable]) -> str:
        """The values of all other variables, in words."""
        others = [f", {v.name} = {category}" for v, category in self.categories.items() if v not in variables]
        return f"all else {self.place}{''.join(others)}"


def encode_run(run: LoadedRun, columns: int) -> Encoded:
    """Encodes as many held-out data as stand for q(z), and as many as a picture has columns."""
    held_out, factors = zip(*run.data.held_out_batches(max(AGGREGATE, columns)), strict=True)
    batches = [part.to(run.device) for part in held_out]
    blocks = run.blocks_of(batches[0])
    return Encoded(
        run,
        batches,
        Batch.joined(batches),
        torch.cat(factors).numpy(),
        LatentValues.joined([posterior_modes(run.guide, batch) for batch in batches]),
        LatentValues.joined([posterior_draws(run.guide, batch) for batch in batches]),
        blocks,
    )


def middle(data: Encoded, common: Mapping[Variable, int]) -> Start:
    """The middle of q(z), where data are: medians, means on a simplex, and the categories that most data have."""
    variables = data.variables
    medians = quantile_range(data.draws, variables, (0.5, 0.5))
    values = {v: data.draws.of(v).mean(0, keepdim=True) for v in variables if v not in medians}
    values |= {v: torch.tensor([median]) for v, (median, _) in medians.items()} | _one_hots(data, common)
    latents = data.draws.rows(torch.tensor([0])).replaced(values)
    return Start("", "at the median of q(z)", latents, categories=common)


def prior(data: Encoded, common: Mapping[Variable, int]) -> Start:
    """The prior's mean, with the categories that most data have: in a uniform prior none stands out, used or not."""
    latents = prior_modes(data.run.model, data.all.rows(slice(1))).replaced(_one_hots(data, common))
    return Start("prior_", "at the prior's mean", latents, categories=common)


def _one_hots(data: Encoded, categories: Mapping[Variable, int]) -> dict[Variable, Tensor]:
    return {v: torch.eye(data.draws.widths[v.site])[[category]] for v, category in categories.items()}


def decodes_images(model: Program, latents: LatentValues, data: Batch) -> bool:
    """Whether a model decodes grey or colour images of latents and of any data."""
    try:
        mean = decode_latents(model, latents.rows(torch.tensor([0])), data.rows(slice(1)))
    except ValueError:  # nothing that is decoded has a mean
        return False
    return mean.dim() == 4 and mean.shape[1] in (1, 3)


def picture_file(kind: str, name: str, ending: str = "png") -> str:
    """The name of a file in pictures/."""
    return f"{picture_name(kind, name)}.{ending}"
