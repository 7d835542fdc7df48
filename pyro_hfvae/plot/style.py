"""How all pictures look: colours that colour-blind readers distinguish, sizes of text, and figures without pyplot."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "DPI",
    "FONT",
    "MARKERS",
    "check_count",
    "check_shape",
    "number",
    "panels",
    "style",
    "text_height",
    "text_width",
]

DPI = 200
FONT = 9.0

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8a800")
"""Blue, vermilion, green, purple, orange, sky blue, black and a darker yellow, after Okabe and Ito."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
"""Shapes of markers, the next one whenever the colours begin again."""


FAMILIES = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Hebrew"),
    *("Noto Sans Arabic", "Noto Sans", "Droid Sans Fallback", "WenQuanYi Zen Hei", "Unifont"),
    *("Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    "Nirmala UI",
)
"""Fonts of other alphabets, of several systems: what is installed has letters that matplotlib's own font lacks."""


def style() -> AbstractContextManager[None]:
    """Names come from the user: in any alphabet, and a "$" in one is a dollar and not the start of a formula."""
    return matplotlib.rc_context(
        {
            "text.parse_math": False,
            "text.usetex": False,
            "font.family": [*matplotlib.rcParams["font.family"], *_families()],
            "font.size": FONT,
            "axes.titlesize": FONT + 1,
        }
    )


@cache
def _families() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return [name for name in FAMILIES if name in installed]


def panels(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, row by row.

    Args:
        count: number of panels.
        columns: panels in a row, at most; fewer, down to 3, where the last row would have more empty places.
        size: width and height of a panel in inches.

    Returns:
        The figure and its ``count`` axes, without the upper and the right line.
    """
    columns = count if count <= columns else min(range(3, columns + 1), key=lambda tried: (-count % tried, -tried))
    rows = -(-count // columns)
    figure = Figure(
        figsize=(0.6 + size[0] * columns, 0.3 + size[1] * rows),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(h_pad=0.1),
    )
    axes = [figure.add_subplot(rows, columns, place) for place in range(1, count + 1)]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def number(value: float) -> str:
    """Two decimals; a dash for what is not known."""
    return f"{value:z.2f}" if np.isfinite(value) else "–"


def text_width(labels: Sequence[str], size: float = FONT) -> int:
    """Dots that the longest label takes, hinting included."""
    with style():
        widths = [TextPath((0, 0), label, size=size).get_extents().width for label in labels if label.strip()]
    return round(1.03 * max(widths, default=0.0) * DPI / 72)


def text_height(size: float = FONT) -> int:
    """Dots from one line of text to the next."""
    return round(1.3 * size * DPI / 72)


def check_count(name: str, labels: Sequence[Any], count: int) -> None:
    """Raises ValueError, by the name of the argument, unless there are ``count`` entries."""
    if len(labels) != count:
        raise ValueError(f"{name} must have {count} entries, got {len(labels)}")


def check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raises ValueError, by the name of the argument, unless the array has the shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, got {list(array.shape)}")
