"""Grids of pictures: traversals, reconstructions, samples, swaps.

Shapes: `R` rows, `Q` columns of pictures of `C` channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hfvae.plot.style import COLOURS, DPI, FONT, check_count, style, text_height, text_width

__all__ = ["Images", "combination_grid", "image_grid", "swap_grid"]

Images = NDArray[Any]
"""Pictures, values in 0..1, [..., H, W] or [..., C, H, W]."""


def image_grid(
    images: Images,
    row_labels: Sequence[str],
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Rows of pictures: traversals (a row per variable), reconstructions, samples.

    All pictures are laid into one array, drawn once at a whole number of dots per pixel, black at 0 and white (or full
    colour) at 1.

    Args:
        images: values in 0..1, `[R, Q, H, W]` or `[R, Q, C, H, W]` with C = 1 (grey) or 3 (red, green, blue). A picture
            that is NaN throughout leaves its place empty.
        row_labels: `R` names, written to the left.
        column_labels: `Q` names, written above.
        title: a line above everything.
    """
    canvas, pitch, centre = _compose(images)
    rows, columns = images.shape[:2]
    check_count("row_labels", row_labels, rows)
    if column_labels is not None:
        check_count("column_labels", column_labels, columns)
    zoom = -(-96 // pitch[1])
    height, width = (zoom * side for side in canvas.shape[:2])
    pad = DPI // 20
    label_width = text_width(column_labels or ())
    upright = label_width + pad > zoom * pitch[1]
    left = 2 * pad + text_width(row_labels)
    above = 0 if column_labels is None else (label_width if upright else text_height()) + pad
    top = pad + above + (0 if title is None else text_height() + 2 * pad)
    total_width = max(left + width + pad, 2 * pad + text_width([title or ""], FONT + 1))
    total_height = top + height + pad

    with style():
        figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
        box = (left / total_width, pad / total_height, width / total_width, height / total_height)
        axes = figure.add_axes(box, frameon=False)
        axes.imshow(canvas, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
        axes.tick_params(length=0, pad=72 * pad / DPI / 2, top=False, bottom=False, labeltop=True, labelbottom=False)
        axes.set_yticks([centre[0] + pitch[0] * row for row in range(rows)], row_labels)
        ticks = [centre[1] + pitch[1] * column for column in range(columns)] if column_labels is not None else []
        axes.set_xticks(ticks, column_labels or [], rotation=90 if upright else 0)
        if title is not None:
            figure.text(pad / total_width, 1 - pad / total_height, title, va="top", fontsize=FONT + 1)
    return figure


def swap_grid(rows: Images, columns: Images, swapped: Images, block: str) -> Figure:
    """What comes of one block of one image and all other blocks of another.

    The originals stand to the left and above, apart from what the model makes of them.

    Args:
        rows: the images that give the block, values in 0..1, `[R, H, W]` or `[R, C, H, W]`.
        columns: the images that give everything else, `[Q, H, W]` or `[Q, C, H, W]`.
        swapped: the picture of each pair, `[R, Q, H, W]` or `[R, Q, C, H, W]`.
        block: its name.

    Raises:
        ValueError: arrays whose shapes do not go together.
    """
    if swapped.shape != rows.shape[:1] + columns.shape or rows.shape[1:] != columns.shape[1:]:
        raise ValueError(
            "swapped must be [R, Q, ...] for rows [R, ...] and columns [Q, ...] of one shape of image, got "
            f"{list(swapped.shape)} for {list(rows.shape)} and {list(columns.shape)}"
        )
    corner = np.full((1, 1, *rows.shape[1:]), np.nan)
    above = np.concatenate([corner, columns[None]], 1)
    below = np.concatenate([rows[:, None], swapped], 1)
    figure = image_grid(
        np.concatenate([above, below]),  # [R + 1, Q + 1, ...]
        ["all else from", *[f"{block} from"] * len(rows)],
        title=f"{block} of the image on the left, all else of the image above",
    )
    height, width = rows.shape[-2:]
    for line, end in ((figure.axes[0].axhline, height), (figure.axes[0].axvline, width)):
        line(end + (_gap(width) - 1) / 2, color=COLOURS[1], linewidth=2)
    return figure


def combination_grid(donors: Images, combined: Images, blocks: Sequence[str]) -> Figure:
    """Combinations that no datum has: in each column an image for each block to come from, and what they make together.

    Args:
        donors: the image that gives each block, `[D, Q, H, W]` or `[D, Q, C, H, W]`.
        combined: what the model makes of them, `[Q, H, W]` or `[Q, C, H, W]`.
        blocks: `D` names.

    Raises:
        ValueError: arrays whose shapes do not go together.
    """
    check_count("blocks", blocks, len(donors))
    if donors.shape[1:] != combined.shape:
        raise ValueError(
            f"combined must be {list(donors.shape[1:])} for donors {list(donors.shape)}, got {list(combined.shape)}"
        )
    figure = image_grid(
        np.concatenate([donors, combined[None]]),
        [*(f"{block} from" for block in blocks), "together"],
        title="each block drawn from another image's posterior: combinations that no image has",
    )
    height, width = donors.shape[-2:]
    gap = _gap(width)
    figure.axes[0].axhline(len(donors) * (height + gap) - (gap + 1) / 2, color=COLOURS[1], linewidth=2)
    return figure


def _compose(images: Images) -> tuple[Images, tuple[int, int], tuple[float, float]]:
    """Lay pictures into one array; returns it with the distance between pictures and the centre of the first one."""
    shape = images.shape
    if len(shape) not in (4, 5) or (len(shape) == 5 and shape[2] not in (1, 3)) or 0 in shape:
        raise ValueError(f"images must be [R, Q, H, W] or [R, Q, C, H, W] with C = 1 or 3, got {list(shape)}")
    if not (np.issubdtype(images.dtype, np.floating) or images.dtype == bool):
        raise ValueError(f"images must be floating values in 0..1, got {images.dtype}")
    if images.ndim == 4:
        images = images[:, :, None]
    rows, columns, channels, height, width = images.shape
    gap = _gap(width)
    padded = np.full((rows, columns, height + gap, width + gap, channels), 0.6)
    padded[:, :, :height, :width] = np.clip(np.moveaxis(images, 2, -1), 0.0, 1.0)
    padded[np.isnan(images).all((2, 3, 4))] = 1.0
    # [R, Q, H, W, C] -> [R, H, Q, W, C] -> [R·H, Q·W, C], without the gap after the last row and column
    canvas = padded.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    return canvas[..., 0] if channels == 1 else canvas, (height + gap, width + gap), ((height - 1) / 2, (width - 1) / 2)


def _gap(width: int) -> int:
    """Pixels between two pictures."""
    return max(1, width // 32)
