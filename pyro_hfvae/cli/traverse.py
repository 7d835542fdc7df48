"""The subcommand ``traverse``: the pictures of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from pyro_hfvae.batch import Batch
from pyro_hfvae.blocks import Blocks, Variable
from pyro_hfvae.cli.known_factors import known_factors
from pyro_hfvae.cli.loading import load
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.metrics import Codes
from pyro_hfvae.metrics.information import information_matrix
from pyro_hfvae.paint import (
    LatentValues,
    categories,
    combine,
    commonest_categories,
    decode,
    interpolate,
    posterior_draws,
    posterior_modes,
    prior_modes,
    quantile_range,
    read_marginals,
    sample,
    swap,
)
from pyro_hfvae.paint import traverse as traverse_variables
from pyro_hfvae.plot import (
    aggregate_posterior,
    combination_grid,
    gif,
    image_grid,
    pair_plot,
    picture_name,
    swap_grid,
    traversal_frames,
)
from pyro_hfvae.run_outputs import record_files
from pyro_hfvae.train import LoadedRun

__all__ = ["traverse", "traverse_run"]

AGGREGATE = 1000
"""Held-out data that stand for q(z), at most: ten of them lie beyond each of the quantiles at 1 % and 99 %."""
COLUMNS = 10
"""Pictures in a row, unless the user asks for others and there are as many held-out data."""
ROWS = 6
"""Images that give a block in a grid of swaps."""
PAIRS = 4
"""Pairs of images that a block moves between."""

Pictures = Iterator[tuple[str, Figure | bytes]]
"""Name of a file in pictures/, and what to write into it."""


@dataclass(frozen=True)
class _Encoded:
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


@dataclass(frozen=True)
class _Start:
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


def traverse(options: Namespace) -> None:
    """Draws the pictures of a run."""
    traverse_run(load(options.run, options.trust), options)


def traverse_run(run: LoadedRun, options: Namespace) -> None:
    """Draws the pictures of a run that is loaded."""
    columns = options.columns or min(COLUMNS, len(run.data.held_out_indices))
    if columns > len(run.data.held_out_indices):
        raise ValueError(f"--columns {columns} is more than the {len(run.data.held_out_indices):,} held-out data")
    if options.image is not None and options.image >= len(run.data.source):
        raise ValueError(f"--image {options.image} is not in the data: its images are 0 to {len(run.data.source) - 1}")
    torch.manual_seed(options.seed)
    data = _encode(run, columns)
    common = commonest_categories(data.draws, _variables(data))
    starts = [_middle(data, common)]
    if options.prior:
        starts.append(_prior(data, common))
    if options.image is not None:
        one = run.data.source.batch(torch.tensor([options.image])).to(run.device)
        starts.append(
            _Start(
                f"image_{options.image}_", f"as in image {options.image}", posterior_modes(run.guide, one), image=one.x
            )
        )
    run.folder.pictures.mkdir(exist_ok=True)
    names: list[str] = []
    parts = [_overview(data, columns), _of_blocks(data, columns), _of_distributions(data)]
    for name, drawn in chain(*parts, *(_traversals(data, start, columns, options.gif) for start in starts)):
        path = run.folder.pictures / name
        if isinstance(drawn, Figure):
            write_figure(path, drawn)
        else:
            write_atomically(path, drawn)
        names.append(name)
        print(path)
    record_files(run.folder.pictures, run.step, names)


def _encode(run: LoadedRun, columns: int) -> _Encoded:
    held_out, factors = zip(*run.data.held_out_batches(max(AGGREGATE, columns)), strict=True)
    batches = [part.to(run.device) for part in held_out]
    blocks = run.blocks_of(batches[0])
    return _Encoded(
        run,
        batches,
        Batch.joined(batches),
        torch.cat(factors).numpy(),
        LatentValues.joined([posterior_modes(run.guide, batch) for batch in batches]),
        LatentValues.joined([posterior_draws(run.guide, batch) for batch in batches]),
        blocks,
    )


def _middle(data: _Encoded, common: Mapping[Variable, int]) -> _Start:
    """The middle of q(z), where data are: medians, means on a simplex, and the categories that most data have."""
    variables = _variables(data)
    medians = quantile_range(data.draws, variables, (0.5, 0.5))
    values = {v: data.draws.of(v).mean(0, keepdim=True) for v in variables if v not in medians}
    values |= {v: torch.tensor([median]) for v, (median, _) in medians.items()} | _one_hots(data, common)
    latents = data.draws.rows(torch.tensor([0])).replaced(values)
    return _Start("", "at the median of q(z)", latents, categories=common)


def _prior(data: _Encoded, common: Mapping[Variable, int]) -> _Start:
    """The prior's mean, with the categories that most data have: in a uniform prior none stands out, used or not."""
    latents = prior_modes(data.run.model, data.all.rows(slice(1))).replaced(_one_hots(data, common))
    return _Start("prior_", "at the prior's mean", latents, categories=common)


def _variables(data: _Encoded) -> list[Variable]:
    return [variable for variables in data.blocks.values() for variable in variables]


def _one_hots(data: _Encoded, categories: Mapping[Variable, int]) -> dict[Variable, Tensor]:
    return {v: torch.eye(data.draws.widths[v.site])[[category]] for v, category in categories.items()}


def _overview(data: _Encoded, columns: int) -> Pictures:
    """Reconstructions, and samples of the prior."""
    few, first = data.all.rows(slice(columns)), torch.arange(columns)
    rebuilt = decode(data.run.model, data.modes.rows(first).values, few)
    yield "reconstructions.png", image_grid(_array(torch.stack([few.x, rebuilt])), ["input", "reconstruction"])
    drawn = sample(data.run.model, few.rows(first.repeat(4))).unflatten(0, (4, columns))
    yield "samples.png", image_grid(_array(drawn), [""] * 4)


def _traversals(data: _Encoded, start: _Start, columns: int, animated: bool) -> Pictures:
    """Each variable of each block through its range, as a grid and as an animation."""
    for block, variables in data.blocks.items():
        ranges = quantile_range(data.draws, variables)
        labels, rows = traverse_variables(data.run.model, start.latents, data.all, variables, ranges, columns)
        title = f"{block}, {start.without(variables)}"
        yield (
            _name(f"{start.prefix}traversal_", block),
            _traversal_grid(data, start, variables, labels, rows, title),
        )
        if animated:
            names = [variable.name for variable in variables]
            frames = traversal_frames([_array(row) for row in rows], names, columns, title)
            yield _name(f"{start.prefix}traversal_", block, "gif"), gif(frames)


def _of_blocks(data: _Encoded, columns: int) -> Pictures:
    """Categories, blocks on their way between images, and blocks of several images together."""
    model, x, modes = data.run.model, data.x, data.modes
    first = torch.arange(columns)
    for variable in _variables(data):
        if modes.widths[variable.site] > 1:
            labels, rows = categories(model, modes.rows(first), data.all.rows(first), variable)
            title = f"categories of {variable.name}, all else of one image in each column"
            yield (
                _name("categories_", variable.name),
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
                    _name("interpolation_", block),
                    image_grid(_array(row), [""] * pairs, heads, title),
                )
    if len(data.blocks) > 1:
        yield from _mixed(data, columns)


def _mixed(data: _Encoded, columns: int) -> Pictures:
    """Swaps between images, and combinations of draws of q(z)."""
    model, x, modes, count = data.run.model, data.x, data.modes, len(data.x)
    across = torch.arange(columns)
    down = (columns + torch.arange(min(ROWS, count))) % count  # other images, as far as there are others
    # Of two blocks the second's swaps are those of the first, transposed.
    for block in list(data.blocks)[: 1 if len(data.blocks) == 2 else None]:
        swapped = swap(model, modes.rows(down), modes.rows(across), data.all, data.blocks[block])
        yield (
            _name("swap_", block),
            swap_grid(_array(x[down]), _array(x[across]), _array(swapped), block),
        )
    width = min(columns, count // len(data.blocks))
    if width:
        donors = torch.randperm(count)[: width * len(data.blocks)].view(len(data.blocks), width)
        combined = combine(model, data.draws, data.all, data.blocks, donors)
        yield "combinations.png", combination_grid(_array(x[donors]), _array(combined), list(data.blocks))


def _of_distributions(data: _Encoded) -> Pictures:
    """The aggregate posterior against the prior, and for each factor the two most informative variables."""
    run, blocks = data.run, data.run.objective.blocks
    if marginals := read_marginals(run.model, run.guide, data.batches, blocks):
        yield "aggregate_posterior.png", aggregate_posterior(marginals)
    known, _, rows = known_factors(run.data.source, data.factors)
    lines = [v for v in _variables(data) if data.draws.widths[v.site] == 1]
    if known is None or len(lines) < 2:
        return
    # Draws and not means: the means of a variable that carries nothing keep traces of everything.
    columns = torch.stack([data.draws.of(variable) for variable in lines], 1).cpu().double().numpy()  # [N, lines]
    columns = columns[rows]
    names = tuple(variable.name for variable in lines)
    codes = Codes(columns, names, tuple((line,) for line in range(len(lines))), {"all": tuple(range(len(lines)))})
    information = information_matrix(codes, known)  # [lines, F]
    for place, factor in enumerate(known.names):
        a, b = np.argsort(-information[:, place], kind="stable")[:2]
        period = known.period(place) if known.kinds[place] == "circular" else None
        figure = pair_plot(
            columns[:, [a, b]], (names[a], names[b]), known.values[:, place], factor, known.kinds[place], period
        )
        yield _name("pair_", factor), figure


def _name(kind: str, name: str, ending: str = "png") -> str:
    return f"{picture_name(kind, name)}.{ending}"


def _traversal_grid(
    data: _Encoded, start: _Start, variables: Sequence[Variable], labels: list[str], rows: list[Tensor], title: str
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
