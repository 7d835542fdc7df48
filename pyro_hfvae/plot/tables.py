"""Tables as pictures: blocks against factors, importances of variables, and their Hinton diagram.

Shapes: `V` latent variables, `F` factors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pyro_hfvae.plot.style import COLOURS, DPI, FONT, check_count, check_shape, number, style, text_width
from pyro_hfvae.plot.summary import measure_name

__all__ = ["block_factor_heatmap", "hinton_diagram", "importance_matrix"]

CELL = 0.34
"""Side of a cell of a Hinton diagram, in inches."""


def block_factor_heatmap(
    score: NDArray[Any],
    blocks: Sequence[str],
    factors: Sequence[str],
    chance: NDArray[Any] | None,
    measure: Sequence[str],
    all_score: NDArray[Any] | None = None,
) -> Figure:
    """How well each factor is predicted from each block alone.

    Args:
        score: `[n_blocks, F]`, accuracy or R².
        blocks: `n_blocks` names.
        factors: `F` names.
        chance: `[F]`, the score of a guess that has not seen the latent variables.
        measure: `F` times `"accuracy"` or `"r2"`.
        all_score: `[F]`, the score from all blocks together: a row of its own.
    """
    score = np.asarray(score, float)
    check_shape("score", score, (len(blocks), len(factors)))
    check_count("measure", measure, len(factors))
    rows = list(blocks)
    if all_score is not None:
        check_shape("all_score", np.asarray(all_score), (len(factors),))
        score = np.vstack([score, np.asarray(all_score, float)])
        rows.append("all blocks")
    heads = [f"{name}\n{measure_name(kind)}" for name, kind in zip(factors, measure, strict=True)]
    if chance is not None:
        check_shape("chance", np.asarray(chance), (len(factors),))
        heads = [f"{head}\nchance {number(by)}" for head, by in zip(heads, np.asarray(chance, float), strict=True)]
    with style():
        figure, axes = _cells(score, rows, heads, head_lines=3, row_height=0.42)
        if all_score is not None:
            axes.axhline(len(blocks) - 0.5, color="white", linewidth=5)
    return figure


def importance_matrix(
    matrix: NDArray[Any], variables: Sequence[str], factors: Sequence[str], title: str, block_of: Sequence[str]
) -> Figure:
    """How much each latent variable has to do with each factor, rows grouped by block.

    Args:
        matrix: `[V, F]`, not negative; colours go from 0 to the largest entry, or to 1 if that is larger.
        variables: `V` names.
        factors: `F` names.
        title: what the numbers are.
        block_of: `V` names, the block of each variable; the blocks appear in the order of their first variables.
    """
    matrix, names, owners = _by_block(matrix, variables, factors, block_of)
    largest = float(np.max(matrix, initial=1.0, where=np.isfinite(matrix)))
    with style():
        figure, axes = _cells(matrix, names, list(factors), head_lines=1, row_height=0.27, largest=largest)
        _title(figure, title)
        for end in _name_blocks(axes, owners):
            axes.axhline(end, color="white", linewidth=5)
    return figure


def hinton_diagram(
    matrix: NDArray[Any], variables: Sequence[str], factors: Sequence[str], title: str, block_of: Sequence[str]
) -> Figure:
    """The same as squares, whose area is the number: one large square in each row is a disentangled code.

    Eastwood and Williams (ICLR 2018) show the importances of DCI so. The largest number fills its cell; the colour is
    that of the block.

    Args:
        matrix: `[V, F]`, finite and not negative, say :attr:`pyro_hfvae.metrics.DCI.importance`.
        variables: `V` names.
        factors: `F` names.
        title: what the areas are.
        block_of: `V` names, the block of each variable; the blocks appear in the order of their first variables.
    """
    matrix, names, owners = _by_block(matrix, variables, factors, block_of)
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ValueError("matrix must be finite and not negative: the area of a square is its number")
    blocks = list(dict.fromkeys(owners))
    largest = float(matrix.max(initial=0.0)) or 1.0
    with style():
        upright = text_width(list(factors)) / DPI > 0.9 * CELL
        heads = (text_width(list(factors)) if upright else 0) / DPI + 0.7
        sides = (text_width(variables) + text_width(blocks)) / DPI + 0.6
        size = (CELL * len(factors) + sides, CELL * len(variables) + heads)
        figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot(frameon=False, aspect="equal")
        for row, values in enumerate(matrix):
            colour = COLOURS[blocks.index(owners[row]) % len(COLOURS)]
            for column, value in enumerate(values):
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="0.93", edgecolor="white"))
                side = 0.94 * float(np.sqrt(value / largest))
                corner = (column - side / 2, row - side / 2)
                axes.add_patch(Rectangle(corner, side, side, facecolor=colour, linewidth=0))
        axes.set(xlim=(-0.5, len(factors) - 0.5), ylim=(len(variables) - 0.5, -0.5))
        axes.tick_params(length=0, labeltop=True, labelbottom=False, top=False, bottom=False)
        axes.set_xticks(range(len(factors)), factors, rotation=90 if upright else 0)
        axes.set_yticks(range(len(variables)), names)
        _title(figure, title)
        for end in _name_blocks(axes, owners):
            axes.axhline(end, color="0.3", linewidth=0.8)
    return figure


def _by_block(
    matrix: NDArray[Any], variables: Sequence[str], factors: Sequence[str], block_of: Sequence[str]
) -> tuple[NDArray[Any], list[str], list[str]]:
    """The rows, their names and their blocks, in the order of the blocks."""
    matrix = np.asarray(matrix, float)
    check_shape("matrix", matrix, (len(variables), len(factors)))
    check_count("block_of", block_of, len(variables))
    blocks = list(dict.fromkeys(block_of))
    order = sorted(range(len(block_of)), key=lambda row: blocks.index(block_of[row]))
    return matrix[order], [variables[row] for row in order], [block_of[row] for row in order]


def _title(figure: Figure, title: str) -> None:
    """A line above everything, for which the figure becomes wide enough."""
    figure.suptitle(title, fontsize=FONT + 1)
    figure.set_figwidth(max(figure.get_figwidth(), text_width([title], FONT + 1) / DPI + 0.2))


def _name_blocks(axes: Axes, owners: Sequence[str]) -> list[float]:
    """Writes the names of the blocks to the right of their rows; returns where one block ends and the next begins."""
    blocks = list(dict.fromkeys(owners))
    ends = np.cumsum([owners.count(block) for block in blocks])
    starts = np.concatenate([[0], ends[:-1]])
    sides = axes.secondary_yaxis("right")
    sides.set_yticks((starts + ends - 1) / 2, blocks, fontweight="bold")
    sides.tick_params(length=0)
    sides.spines[:].set_visible(False)
    return [end - 0.5 for end in ends[:-1].tolist()]


def _cells(
    values: NDArray[Any], rows: list[str], columns: list[str], head_lines: int, row_height: float, largest: float = 1.0
) -> tuple[Figure, Axes]:
    """A map of numbers, each written into its cell; cividis runs the same way for colour-blind eyes."""
    labels = [line for head in columns for line in head.split("\n")]
    column_width = max(0.62, text_width(labels) / DPI + 0.12)
    width = column_width * len(columns) + 2 * text_width(rows) / DPI + 0.4
    height = row_height * len(rows) + 0.2 * head_lines + 0.5
    figure = Figure(figsize=(max(width, 3.0), height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot(frameon=False)
    axes.imshow(values, cmap="cividis", vmin=0.0, vmax=largest, aspect="auto")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, top=False, bottom=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(values):
        bright = not np.isfinite(value) or float(value) > 0.55 * largest
        axes.text(column, row, number(value), ha="center", va="center", color="black" if bright else "white")
    return figure, axes
