"""Pictures of a structured latent space: from arrays to `matplotlib.figure.Figure`, without pyplot's global state.

Shapes: `R` rows, `Q` columns of pictures of `C` channels, `V` latent variables, `F` factors.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

__all__ = ["TERMS", "block_factor_heatmap", "image_grid", "importance_matrix", "term_curves"]

TERMS = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")

DPI = 200
FONT = 9.0
_MEASURES = {"r2": "R²"}


def image_grid(
    images: NDArray[Any],
    row_labels: Sequence[str],
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Rows of pictures: traversals (a row per variable), reconstructions, samples.

    All pictures are laid into one array, drawn once at a whole number of dots per pixel, black at 0 and white (or full
    colour) at 1.

    Args:
        images: values in 0..1, `[R, Q, H, W]` or `[R, Q, C, H, W]` with C = 1 (grey) or 3 (red, green, blue).
        row_labels: `R` names, written to the left.
        column_labels: `Q` names, written above.
        title: a line above everything.
    """
    canvas, pitch, centre = _compose(images)
    rows, columns = images.shape[:2]
    _check_count("row_labels", row_labels, rows)
    if column_labels is not None:
        _check_count("column_labels", column_labels, columns)
    zoom = -(-96 // pitch[1])
    height, width = (zoom * side for side in canvas.shape[:2])
    pad = DPI // 20
    label_width = _text_width(column_labels or ())
    upright = label_width + pad > zoom * pitch[1]
    left = 2 * pad + _text_width(row_labels)
    above = 0 if column_labels is None else (label_width if upright else _text_height()) + pad
    top = pad + above + (0 if title is None else _text_height() + 2 * pad)
    total_width = max(left + width + pad, 2 * pad + _text_width([title or ""], FONT + 1))
    total_height = top + height + pad

    with _style():
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
    _check_shape("score", score, (len(blocks), len(factors)))
    _check_count("measure", measure, len(factors))
    rows = list(blocks)
    if all_score is not None:
        _check_shape("all_score", np.asarray(all_score), (len(factors),))
        score = np.vstack([score, np.asarray(all_score, float)])
        rows.append("all blocks")
    heads = [f"{name}\n{_MEASURES.get(kind, kind)}" for name, kind in zip(factors, measure, strict=True)]
    if chance is not None:
        _check_shape("chance", np.asarray(chance), (len(factors),))
        heads = [f"{head}\nchance {_number(by)}" for head, by in zip(heads, np.asarray(chance, float), strict=True)]
    with _style():
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
    matrix = np.asarray(matrix, float)
    _check_shape("matrix", matrix, (len(variables), len(factors)))
    _check_count("block_of", block_of, len(variables))
    blocks = list(dict.fromkeys(block_of))
    order = sorted(range(len(variables)), key=lambda row: blocks.index(block_of[row]))
    largest = float(np.max(matrix, initial=1.0, where=np.isfinite(matrix)))
    with _style():
        names = [variables[row] for row in order]
        figure, axes = _cells(matrix[order], names, list(factors), head_lines=1, row_height=0.27, largest=largest)
        figure.suptitle(title, fontsize=FONT + 1)
        figure.set_figwidth(max(figure.get_figwidth(), _text_width([title], FONT + 1) / DPI + 0.2))
        end = 0
        sides = axes.secondary_yaxis("right")
        middles = []
        for block in blocks:
            start, end = end, end + list(block_of).count(block)
            middles.append((start + end - 1) / 2)
            if end < len(variables):
                axes.axhline(end - 0.5, color="white", linewidth=5)
        sides.set_yticks(middles, blocks, fontweight="bold")
        sides.tick_params(length=0)
        sides.spines[:].set_visible(False)
    return figure


def term_curves(history: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Figure:
    """The terms of the objective over the steps of training, a panel each, in nats per datum.

    The first tenth of the steps does not set a panel's vertical range: it would flatten all that follows.

    Args:
        history: `train/<term>` and `val/<term>` to (steps `[T]`, values `[T]`); names of other things are passed over.
    """
    shown = [term for term in TERMS if f"train/{term}" in history or f"val/{term}" in history]
    if not shown:
        raise ValueError(f"no term to draw: the history has {sorted(history)}, and the terms are {list(TERMS)}")
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    lines = {"train": ("#0072b2", "-", ""), "val": ("#d55e00", "--", "o")}  # a palette that colour-blind readers see
    with _style():
        size = (0.6 + 2.8 * columns, 0.3 + 1.9 * rows)
        figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.1))
        for panel, term in enumerate(shown, start=1):
            axes = figure.add_subplot(rows, columns, panel)
            axes.set_title(term.replace("_", " ") if term != "elbo" else "ELBO")
            for part, (colour, dashes, marker) in lines.items():
                if f"{part}/{term}" in history:
                    steps, values = history[f"{part}/{term}"]
                    (line,) = axes.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.2, label=part)
                    line.set(marker=marker, markersize=3.0)
            _range_of_later_steps(axes)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if panel == 1:
                axes.legend(frameon=False)
        figure.supxlabel("step", fontsize=FONT)
        figure.supylabel("nats per datum", fontsize=FONT)
    return figure


def _style() -> AbstractContextManager[None]:
    """Names come from the user: a "$" in one of them is a dollar and not the start of a formula."""
    return matplotlib.rc_context(
        {"text.parse_math": False, "text.usetex": False, "font.size": FONT, "axes.titlesize": FONT + 1}
    )


def _compose(images: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, int], tuple[float, float]]:
    """Lay pictures into one array; returns it with the distance between pictures and the centre of the first one."""
    shape = images.shape
    if len(shape) not in (4, 5) or (len(shape) == 5 and shape[2] not in (1, 3)) or 0 in shape:
        raise ValueError(f"images must be [R, Q, H, W] or [R, Q, C, H, W] with C = 1 or 3, got {list(shape)}")
    if not (np.issubdtype(images.dtype, np.floating) or images.dtype == bool):
        raise ValueError(f"images must be floating values in 0..1, got {images.dtype}")
    if images.ndim == 4:
        images = images[:, :, None]
    rows, columns, channels, height, width = images.shape
    gap = max(1, width // 32)
    padded = np.full((rows, columns, height + gap, width + gap, channels), 0.6)
    padded[:, :, :height, :width] = np.clip(np.moveaxis(images, 2, -1), 0.0, 1.0)
    # [R, Q, H, W, C] -> [R, H, Q, W, C] -> [R·H, Q·W, C], without the gap after the last row and column
    canvas = padded.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    return canvas[..., 0] if channels == 1 else canvas, (height + gap, width + gap), ((height - 1) / 2, (width - 1) / 2)


def _cells(
    values: NDArray[Any], rows: list[str], columns: list[str], head_lines: int, row_height: float, largest: float = 1.0
) -> tuple[Figure, Axes]:
    """A map of numbers, each written into its cell; cividis runs the same way for colour-blind eyes."""
    labels = [line for head in columns for line in head.split("\n")]
    column_width = max(0.62, _text_width(labels) / DPI + 0.12)
    width = column_width * len(columns) + 2 * _text_width(rows) / DPI + 0.4
    height = row_height * len(rows) + 0.2 * head_lines + 0.5
    figure = Figure(figsize=(max(width, 3.0), height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot(frameon=False)
    axes.imshow(values, cmap="cividis", vmin=0.0, vmax=largest, aspect="auto")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, top=False, bottom=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(values):
        bright = not np.isfinite(value) or float(value) > 0.55 * largest
        axes.text(column, row, _number(value), ha="center", va="center", color="black" if bright else "white")
    return figure, axes


def _range_of_later_steps(axes: Axes) -> None:
    """Let the values after the first tenth of the steps set the vertical range."""
    points = np.concatenate([np.asarray(line.get_xydata(), float) for line in axes.get_lines()])  # [T, 2]
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        return
    later = points[points[:, 0] >= points[:, 0].min() + 0.1 * np.ptp(points[:, 0]), 1]
    margin = 0.08 * np.ptp(later) or 0.05 * abs(later[0]) or 0.05
    axes.set_ylim(later.min() - margin, later.max() + margin)


def _number(value: float) -> str:
    return f"{value:z.2f}" if np.isfinite(value) else "–"


def _text_width(labels: Sequence[str], size: float = FONT) -> int:
    """Dots that the longest label takes, hinting included."""
    with _style():
        widths = [TextPath((0, 0), label, size=size).get_extents().width for label in labels if label.strip()]
    return round(1.03 * max(widths, default=0.0) * DPI / 72)


def _text_height(size: float = FONT) -> int:
    return round(1.3 * size * DPI / 72)


def _check_count(name: str, labels: Sequence[str], count: int) -> None:
    if len(labels) != count:
        raise ValueError(f"{name} must have {count} entries, got {len(labels)}")


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, got {list(array.shape)}")
