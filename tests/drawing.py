"""What tests of pictures share: drawing without a display, and reading what was drawn."""

import io

import numpy as np
from matplotlib.figure import Figure

HOSTILE = "$x^{$ <b>&\\frac"
"""A name that is no formula."""


def draw(figure: Figure) -> np.ndarray:
    """Draw without a display; the dots `[height, width, 4]`."""
    content = io.BytesIO()
    figure.savefig(content, format="raw")
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    return np.frombuffer(content.getvalue(), np.uint8).reshape(height, width, 4)


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def cells_of(figure: Figure, size: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The pictures of a grid, `[R, Q, H, W]` or `[R, Q, H, W, C]`."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    (height, width), (rows, columns) = size, shape
    gap = max(1, width // 32)
    down, right = height + gap, width + gap
    assert canvas.shape[:2] == (rows * down - gap, columns * right - gap)
    return np.array(
        [
            [canvas[row * down : row * down + height, at * right : at * right + width] for at in range(columns)]
            for row in range(rows)
        ]
    )
