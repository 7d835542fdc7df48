"""Pictures of a run whose data are images: grids of reconstructions, traversals, categories and swaps."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from pyro_hfvae.blocks import Variable
from pyro_hfvae.cli.encoded import Encoded, Pictures, Start, picture_file
from pyro_hfvae.paint import categories, combine, decode, interpolate, quantile_range, sample, swap
from pyro_hfvae.paint import traverse as traverse_variables
from pyro_hfvae.plot import combination_grid, gif, image_grid, swap_grid, traversal_frames

__all__ = ["of_blocks", "overview", "traversals"]

ROWS = 6
"""Images that give a block in a grid of swaps."""
PAIRS = 4
"""Pairs of images that a block moves between."""


def overview(data: Encoded, columns: int) -> Pictures:
    """Reconstructions, and samples of the prior."""
    few, first = data.all.rows(slice(columns)), torch.arange(columns)
    rebuilt = decode(data.run.model, data.modes.rows(first).values, few)
    yield "reconstructions.png", image_grid(_array(torch.stack([few.x, rebuilt])), ["input", "reconstruction"])
    drawn = sample(data.run.model, few.rows(first.repeat(4))).unflatten(0, (4, columns))
    yield "samples.png", image_grid(_array(drawn), [""] * 4)


def traversals(data: Encoded, start: Start, columns: int, animated: bool) -> Pictures:
    """Each variable of each block through its range, as a grid and as an animation."""
    for block, variables in data.blocks.items():
        ranges = quantile_range(data.draws, variables)
        labels, rows = traverse_variables(data.run.model, start.latents, data.all, variables, ranges, columns)
        title = f"{block}, {start.without(variables)}"
        yield (
            picture_file(f"{start.prefix}traversal_", block),
            _traversal_grid(data, start, variables, labels, rows, title),
        )
        if animated:
            names = [variable.name for variable in variables]
            frames = traversal_frames([_array(row) for row in rows], names, columns, title)
            yield picture_file(f"{start.prefix}traversal_", block, "gif"), gif(frames)


def of_blocks(data: Encoded, columns: int) -> Pictures:
    """Categories, blocks on their way between images, and blocks of several images together."""
    model, x, modes = data.run.model, data.x, data.modes
    first = torch.arange(columns)
    for variable in data.variables:
        if modes.widths[variable.site] > 1:
            labels, rows = categories(model, modes.rows(first), data.all.rows(first), variable)
            title = f"categories of {variable.name}, all else of one image in each column"
            yield (
                picture_file("categories_", variable.name),
                image_grid(_array(torch.stack(rows)), labels, title=title),
            )
    pairs = min(PAIRS, len(x) // 2)
    if pairs:
        ends = torch.arange(2 * pairs).view(2, pairs)
        steps = max(3, columns - 2)
        heads = ["from", *(f"{100 * share:.0f} %" for share in np.linspace(0, 1, steps)), "to"]
        for block, variables in data.blocks.items():
            if sum(modes.widths[variable.site] == 1 for variable in variables) > 1:
                moved = interpolate(model, modes.rows(ends[0]), modes.rows(ends[1]), data.all, variables, steps)
                row = torch.cat([x[ends[0], None], moved, x[ends[1], None]], 1)
                title = f"{block} moves from one image to another, all else stays"
                yield (
                    picture_file("interpolation_", block),
                    image_grid(_array(row), [""] * pairs, heads, title),
                )
    if len(data.blocks) > 1:
        yield from _mixed(data, columns)


def _mixed(data: Encoded, columns: int) -> Pictures:
    """Swaps between images, and combinations of draws of q(z)."""
    model, x, modes, count = data.run.model, data.x, data.modes, len(data.x)
    across = torch.arange(columns)
    down = (columns + torch.arange(min(ROWS, count))) % count  # other images, as far as there are others
    # Of two blocks the second's swaps are those of the first, transposed.
    for block in list(data.blocks)[: 1 if len(data.blocks) == 2 else None]:
        swapped = swap(model, modes.rows(down), modes.rows(across), data.all, data.blocks[block])
        yield (
            picture_file("swap_", block),
            swap_grid(_array(x[down]), _array(x[across]), _array(swapped), block),
        )
    width = min(columns, count // len(data.blocks))
    if width:
        donors = torch.randperm(count)[: width * len(data.blocks)].view(len(data.blocks), width)
        combined = combine(model, data.draws, data.all, data.blocks, donors)
        yield "combinations.png", combination_grid(_array(x[donors]), _array(combined), list(data.blocks))


def _traversal_grid(
    data: Encoded, start: Start, variables: Sequence[Variable], labels: list[str], rows: list[Tensor], title: str
) -> Figure:
    """Rows of a traversal, filled up to one length; the image that it starts from stands in front."""
    length = max(len(row) for row in rows)
    grid = torch.stack([pad(row, (0, 0) * 3 + (0, length - len(row)), value=torch.nan) for row in rows])
    widths = {data.draws.widths[variable.site] for variable in variables}
    heads: list[str] | None = None
    if widths == {1}:
        heads = ["1 %", *[""] * (length - 2), "99 %"]
        title += "; columns: 1 % to 99 % quantile of q(z)"
    elif len(widths) == 1:
        heads = [str(category) for category in range(length)]
    if start.image is not None:
        front = torch.full_like(grid[:, :1], torch.nan)
        front[0, 0] = start.image[0]
        grid, heads = torch.cat([front, grid], 1), ["image", *(heads or [""] * length)]
    return image_grid(_array(grid), labels, heads, title)


def _array(images: Tensor) -> NDArray[np.float32]:
    """Pictures as the figures take them."""
    return np.asarray(images.cpu().float().numpy())
