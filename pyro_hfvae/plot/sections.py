"""Small panels under headings, in figures that can be read on a phone: three panels fill its width."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hfvae.plot.style import DPI, FONT, text_width

__all__ = ["LABEL", "WIDTH", "sections", "shortened", "wrapped"]

WIDTH = 4.2
"""Of a figure in inches: at 100 dots to an inch little more than a phone's 390."""

LABEL = FONT - 1.5
"""Size of the text in and around a panel."""

EDGE = 0.08
LINE = 0.17
"""From one line of text to the next, in inches."""
HEADING = 0.24
"""A heading with the space above it."""


def sections(
    headings: Sequence[str],
    counts: Sequence[int],
    title: str,
    *,
    across: int = 3,
    height: float = 0.62,
    left: float = 0.4,
    below: Sequence[float] | float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with some panels under each heading.

    Args:
        headings: `R` lines.
        counts: panels under each heading.
        title: above everything, in as many lines as it needs.
        across: panels in a row.
        height: of a panel in inches; its title comes on top.
        left: space for the labels on the left of a panel, in inches.
        below: space for the labels under a panel, in inches; of each section, or one for all.

    Returns:
        The figure, and the axes of each section, without the upper and the right line.
    """
    bottoms = [below] * len(headings) if isinstance(below, float) else list(below)
    lines = wrapped(title, WIDTH - 2 * EDGE, FONT + 1)
    rows = [-(-count // across) for count in counts]
    pitch = (WIDTH - EDGE) / across
    tall = EDGE + LINE * len(lines)
    tall += sum(HEADING + each * (LINE + height + under) for each, under in zip(rows, bottoms, strict=True)) + EDGE
    figure = Figure(figsize=(WIDTH, tall), dpi=DPI, facecolor="white")

    def write(line: str, top: float, **look: Any) -> None:
        figure.text(EDGE / WIDTH, 1 - top / tall, line, va="top", **look)

    for at, line in enumerate(lines):
        write(line, EDGE + LINE * at, fontsize=FONT + 1)
    top, found = EDGE + LINE * len(lines), []
    for heading, count, under in zip(headings, counts, bottoms, strict=True):
        write(shortened(heading, WIDTH - 2 * EDGE, FONT), top + 0.06, fontsize=FONT, fontweight="bold")
        top += HEADING
        axes = []
        for at in range(count):
            row, column = divmod(at, across)
            low = top + (row + 1) * (LINE + height + under) - under
            box = (pitch * column + left, tall - low, pitch - left - EDGE, height)
            panel = figure.add_axes((box[0] / WIDTH, box[1] / tall, box[2] / WIDTH, box[3] / tall))
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=LABEL - 0.5, length=2, pad=1.5)
            axes.append(panel)
        top += -(-count // across) * (LINE + height + under)
        found.append(axes)
    return figure, found


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The lines of a text that have at most this width in inches, but for single words that are wider."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and text_width([longer], size) > width * DPI:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(text: str, width: float, size: float) -> str:
    """A text whose end is left out where it is wider than this, in inches."""
    if text_width([text], size) <= width * DPI:
        return text
    fits = bisect_left(range(1, len(text)), True, key=lambda kept: text_width([f"{text[:kept]}…"], size) > width * DPI)
    return f"{text[: max(fits, 1)]}…"
