"""Sets of objects as dots in the plane of their first two features, while a latent variable moves.

Shapes: `Q` values of a variable, `O` objects with `V` features each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hfvae.plot.profiles import short_number
from pyro_hfvae.plot.responses import Responses
from pyro_hfvae.plot.sections import sections
from pyro_hfvae.plot.style import COLOURS, MARKERS, style

__all__ = ["object_grid"]

MOST = 5
"""Pictures in a row; of more, those at even distances."""


def object_grid(variables: Sequence[Responses], title: str) -> Figure:
    """Each variable through its range: a row of sets, whose objects are dots of one colour and shape throughout.

    All panels have the same axes: across the first feature of an object, and up the second; a third is the area.

    Args:
        variables: what the features of the objects do while each of them moves, `[Q, O]` each; NaN for an object that
            is not there.
        title: a line above everything.

    Raises:
        ValueError: no variable, or objects that have fewer than 2 features, or features of different objects.
    """
    shapes = {feature.values.shape[1] for one in variables for feature in one.features}
    if not variables or len(shapes) > 1 or any(len(one.features) < 2 for one in variables):
        raise ValueError("a picture of objects needs one variable or more, and 2 features or more of the same objects")
    rows = [np.stack([feature.values for feature in one.features], -1) for one in variables]  # [Q, O, V]
    rows = [row[np.linspace(0, len(row) - 1, min(MOST, len(row))).round().astype(int)] for row in rows]
    every = np.concatenate([row.reshape(-1, row.shape[2]) for row in rows])
    low, high = np.nanmin(every, axis=0), np.nanmax(every, axis=0)
    with style():
        figure, axes = sections(
            [one.title for one in variables],
            [len(row) for row in rows],
            f"{title}; {_axes([feature.name for feature in variables[0].features], low, high)}",
            across=MOST,
            height=0.66,
            left=0.12,
        )
        for row, panels in zip(rows, axes, strict=True):
            for objects, panel in zip(row, panels, strict=True):
                _draw(panel, objects, low, high)
    return figure


def _axes(names: Sequence[str], low: NDArray[Any], high: NDArray[Any]) -> str:
    """What the axes are."""
    ways = ("across", "up", "area")
    return ", ".join(
        f"{way} {name} {short_number(start)} to {short_number(end)}"
        for way, name, start, end in zip(ways, names, low, high, strict=False)
    )


def _draw(panel: Axes, objects: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    for at, (x, y, area) in enumerate(zip(objects[:, 0], objects[:, 1], _areas(objects, low, high), strict=True)):
        colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at // len(COLOURS) % len(MARKERS)]
        panel.scatter(x, y, s=area, color=colour, marker=marker, linewidths=0, alpha=0.85)
    room = 0.08 * (high - low) + 1e-9 * (1 + np.abs(high))
    panel.set_xlim(low[0] - room[0], high[0] + room[0])
    panel.set_ylim(low[1] - room[1], high[1] + room[1])
    panel.spines[["top", "right"]].set_visible(True)
    panel.spines[:].set_color("0.7")
    panel.set_xticks([])
    panel.set_yticks([])


def _areas(objects: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """The area of each dot, by the third feature where there is one."""
    if objects.shape[1] < 3 or not high[2] > low[2]:
        return np.full(len(objects), 14.0)
    return np.asarray(6 + 34 * np.nan_to_num((objects[:, 2] - low[2]) / (high[2] - low[2])))
