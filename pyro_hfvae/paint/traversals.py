"""What the latent variables do to an image: one at a time, a block at a time, and blocks of different images together.

Shapes: `Q` pictures in a row, `R` rows, `D` blocks; images are [C, H, W].
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_hfvae.batch import Inputs
from pyro_hfvae.blocks import Blocks, Variable
from pyro_hfvae.paint.decode import decode_latents
from pyro_hfvae.paint.latent_values import LatentValues, Program

__all__ = [
    "categories",
    "combine",
    "commonest_categories",
    "interpolate",
    "quantile_range",
    "steps",
    "swap",
    "traverse",
]

LEVELS = (0.01, 0.99)


def quantile_range(
    draws: LatentValues, variables: Sequence[Variable], levels: tuple[float, float] = LEVELS
) -> dict[Variable, tuple[float, float]]:
    """The lower and the upper quantile of each variable of one number; categoricals and simplices are left out.

    Args:
        draws: of q(z), say :func:`posterior_draws` of as many data as a quantile wants; 1,000 for the first percent.
        variables: of any blocks.
        levels: of the two quantiles; 1 % and 99 % by default.
    """
    single = [variable for variable in variables if draws.widths[variable.site] == 1]
    at = torch.tensor(levels, dtype=torch.float64)
    found = {variable: draws.of(variable).double().cpu().quantile(at).tolist() for variable in single}
    return {variable: (low, high) for variable, (low, high) in found.items()}


def commonest_categories(draws: LatentValues, variables: Sequence[Variable]) -> dict[Variable, int]:
    """The category that most data have, of each categorical; the first of equals.

    Args:
        draws: of q(z), :func:`posterior_draws`.
        variables: of any blocks; those that are no categoricals are left out.
    """
    found = {}
    for variable in variables:
        numbers = draws.of(variable)
        if numbers.dim() == 2 and bool((numbers.amax(1) == 1).all()):  # one-hots, and no inner points of a simplex
            found[variable] = int(numbers.sum(0).argmax())
    return found


def traverse(
    model: Program,
    start: LatentValues,
    data: Inputs,
    variables: Sequence[Variable],
    ranges: Mapping[Variable, tuple[float, float]],
    columns: int,
) -> tuple[list[str], list[Tensor]]:
    """What each variable does, all else held at a starting point.

    A variable of one number goes through its range in equal steps; a categorical, or a simplex, through its K corners.

    Args:
        model: the generative program.
        start: one value of everything, B = 1: :func:`prior_modes`, or :func:`posterior_modes` of an image.
        data: what the model is called with, [B, ...]; of what it observes only the shape of a datum matters, covariates
            are those of the first.
        variables: a row for each.
        ranges: of the variables of one number.
        columns: Q, 2 or more.

    Returns:
        Labels of the rows with the range of each, and the rows, [Q, C, H, W] or [K, C, H, W].

    Raises:
        ValueError: more than one starting point, fewer than 2 columns, or a variable without a range; names it.
    """
    labels, rows = [], []
    for variable in variables:
        values = steps(start, variable, ranges, columns)
        if start.widths[variable.site] > 1:
            labels.append(f"{variable.name}: 0 to {len(values) - 1}")
        else:
            low, high = ranges[variable]
            labels.append(f"{variable.name}: {low:z.1f} to {high:z.1f}")
        held = start.rows(torch.zeros(len(values), dtype=torch.long))
        rows.append(decode_latents(model, held.replaced({variable: values}), data))
    return labels, rows


def steps(
    start: LatentValues, variable: Variable, ranges: Mapping[Variable, tuple[float, float]], columns: int
) -> Tensor:
    """The values that a variable goes through: equal steps, [Q], or the K corners of a categorical, [K, K].

    Raises:
        ValueError: more than one starting point, fewer than 2 columns, or a variable without a range; names it.
    """
    if start.size != 1:
        raise ValueError(f"a traversal starts from one value of everything, got {start.size}")
    if columns < 2:
        raise ValueError(f"a traversal has 2 pictures or more in a row, got {columns}")
    width = start.widths[variable.site]
    if width > 1:
        return torch.eye(width)
    if variable not in ranges:
        raise ValueError(f"no range is given for variable '{variable.name}'")
    return torch.linspace(*ranges[variable], columns)


def categories(
    model: Program, styles: LatentValues, data: Inputs, variable: Variable
) -> tuple[list[str], list[Tensor]]:
    """What each category of a variable looks like: a row for each, with all else of one datum in each column.

    Args:
        model: the generative program.
        styles: values of Q data.
        data: what the model is called with, [B, ...]; of what it observes only the shape of a datum matters, covariates
            are those of the first.
        variable: a categorical, or a simplex.

    Returns:
        Labels of the K rows, and the rows, each [Q, C, H, W].

    Raises:
        ValueError: the variable has no categories.
    """
    width = styles.widths[variable.site]
    if width == 1:
        raise ValueError(f"variable '{variable.name}' has no categories; traverse it")
    corners = torch.eye(width)
    changed = [styles.replaced({variable: corner.expand(styles.size, -1)}) for corner in corners]
    return [f"{variable.name} = {k}" for k in range(width)], [decode_latents(model, one, data) for one in changed]


def interpolate(
    model: Program,
    start: LatentValues,
    end: LatentValues,
    data: Inputs,
    variables: Sequence[Variable],
    columns: int,
) -> Tensor:
    r"""A block on its way from one datum to another, all other blocks held at the first.

    .. math:: z_d(t) = (1 - t) z_d + t z_d', \qquad t = 0, \dots, 1

    A categorical, which has nothing between two categories, changes after the middle.

    Args:
        model: the generative program.
        start: values of R data.
        end: values of R others.
        data: what the model is called with, [B, ...]; of what it observes only the shape of a datum matters, covariates
            are those of the first.
        variables: of the block, moved together.
        columns: Q, 2 or more.

    Returns:
        Images, [R, Q, C, H, W].

    Raises:
        ValueError: different numbers of data, or fewer than 2 columns.
    """
    if start.size != end.size:
        raise ValueError(f"there are {start.size} data to start from, but {end.size} to end at")
    if columns < 2:
        raise ValueError(f"an interpolation has 2 pictures or more in a row, got {columns}")
    rows = torch.arange(start.size).repeat_interleave(columns)  # [R Q]
    first, last = start.rows(rows), end.rows(rows)
    share = torch.linspace(0, 1, columns).repeat(start.size)  # [R Q]
    moved = {}
    for variable in variables:
        a, b = first.of(variable), last.of(variable)
        t = share.to(a)
        if a.dim() == 2:
            t = (t[:, None] > 0.5).to(a)
        moved[variable] = (1 - t) * a + t * b
    images = decode_latents(model, first.replaced(moved), data)
    return images.reshape(start.size, columns, *images.shape[1:])


def swap(
    model: Program, giving: LatentValues, rest: LatentValues, data: Inputs, variables: Sequence[Variable]
) -> Tensor:
    """Pictures of one block of some data with everything else of others: each of R with each of Q.

    Args:
        model: the generative program.
        giving: values of R data, whose block it is.
        rest: values of Q data.
        data: what the model is called with, [B, ...]; of what it observes only the shape of a datum matters, covariates
            are those of the first.
        variables: of the block.

    Returns:
        Images, [R, Q, C, H, W].
    """
    row = torch.arange(giving.size).repeat_interleave(rest.size)  # [R Q]
    column = torch.arange(rest.size).repeat(giving.size)  # [R Q]
    block = {variable: giving.of(variable)[row] for variable in variables}
    images = decode_latents(model, rest.rows(column).replaced(block), data)
    return images.reshape(giving.size, rest.size, *images.shape[1:])


def combine(model: Program, draws: LatentValues, data: Inputs, blocks: Blocks, donors: Tensor) -> Tensor:
    r"""Pictures of combinations that no datum has: each block is a draw of another datum's posterior.

    .. math:: z \sim \prod_d q(z_d)

    for donors that are drawn at random, each from all data. A decoder that generalises makes sensible images of them.

    Args:
        model: the generative program.
        draws: z_n ~ q(z|x_n) of N data, :func:`posterior_draws`.
        data: what the model is called with, [B, ...]; of what it observes only the shape of a datum matters, covariates
            are those of the first.
        blocks: block name to its variables, all of them.
        donors: for each block, which datum gives it, [D, Q].

    Returns:
        Images, [Q, C, H, W].

    Raises:
        ValueError: not a row of donors for each block.
    """
    if donors.dim() != 2 or len(donors) != len(blocks):
        raise ValueError(f"donors must be [{len(blocks)}, Q], a row for each block, got {list(donors.shape)}")
    mixed = draws.rows(donors[0])
    for row, variables in zip(donors, blocks.values(), strict=True):
        given = draws.rows(row)
        mixed = mixed.replaced({variable: given.of(variable) for variable in variables})
    return decode_latents(model, mixed, data)
