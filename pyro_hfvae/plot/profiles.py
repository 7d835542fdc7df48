"""Profiles: what each column of a table does, in its own units, while a latent variable moves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pyro_hfvae.plot.responses import Response, Responses
from pyro_hfvae.plot.sections import LABEL, WIDTH, sections, shortened
from pyro_hfvae.plot.style import COLOURS, DPI, style, text_width

__all__ = ["profile_grid", "short_number"]

MOST = 6
"""Features of a variable that are drawn, unless there are `ALL` or fewer."""
ALL = 9
ACROSS = 3
MARGIN = 0.5
"""Beside the first and the last category of a variable."""
NAMED = 0.15
"""The least probability at which a category has room for its label."""


def profile_grid(variables: Sequence[Responses], title: str) -> Figure:
    """Each variable through its range: a small panel for each feature, those that move most in front.

    The line is what the model decodes. The grey band lies where most data are, so that what moves little looks flat.
    The probabilities of categories are stacked.

    Args:
        variables: what the features do while each of them moves.
        title: a line above everything.

    Raises:
        ValueError: no variable, or one without a feature.
    """
    if not variables or not all(one.features for one in variables):
        raise ValueError("a profile needs one variable or more, and features")
    shown = [one.most_moved(MOST if len(one.features) > ALL else ALL) for one in variables]
    headings = [_heading(one, len(features)) for one, features in zip(variables, shown, strict=True)]
    below = [0.16 if one.discrete else 0.03 for one in variables]
    with style():
        figure, axes = sections(headings, [len(features) for features in shown], title, across=ACROSS, below=below)
        for one, features, panels in zip(variables, shown, axes, strict=True):
            for panel, feature in zip(panels, features, strict=True):
                panel.set_title(shortened(feature.name, WIDTH / ACROSS - 0.3, LABEL), fontsize=LABEL, pad=2)
                if feature.labels:
                    _stack(panel, one, feature)
                else:
                    _line(panel, one, feature)
                _points(panel, one)
    return figure


def short_number(value: float) -> str:
    """A number for an axis with little room."""
    if not np.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:z.4g}"


def _heading(variable: Responses, shown: int) -> str:
    more = len(variable.features) - shown
    return variable.title + (f"  ({more:,} more features move less)" if more else "")


def _line(panel: Axes, variable: Responses, feature: Response) -> None:
    values = feature.values[:, 0]
    ends = [*values, *(feature.usual or ())]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    if feature.usual is not None:
        panel.axhspan(*feature.usual, color="0.92", linewidth=0, zorder=0)
    look = {"linestyle": "none", "marker": "o", "markersize": 3.5} if variable.discrete else {"linewidth": 1.6}
    panel.plot(variable.points, values, color=COLOURS[0], clip_on=False, **look)
    panel.set_ylim(low - room, high + room)
    panel.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=2, steps=[1, 2, 2.5, 5, 10]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def _stack(panel: Axes, variable: Responses, feature: Response) -> None:
    """Probabilities on top of one another, in the order of the categories, with their labels where there is room."""
    parts, labels = _few_categories(feature)
    ends = np.cumsum(parts, axis=1)
    starts = ends - parts
    for k in range(len(labels)):
        look: dict[str, Any] = {
            "color": COLOURS[k % len(COLOURS)],
            "alpha": 0.5,
            "edgecolor": "white",
            "linewidth": 0.6,
        }
        if variable.discrete:
            panel.bar(variable.points, parts[:, k], 0.8, starts[:, k], **look)
        else:
            panel.fill_between(variable.points, starts[:, k], ends[:, k], **look)
    margin = MARGIN if variable.discrete else 0.0
    _write_labels(panel, variable.points, margin, parts, (starts + ends) / 2, labels)
    panel.set_ylim(0, 1)
    panel.set_yticks([0, 1], ["0 %", "100 %"])


def _write_labels(
    panel: Axes,
    points: NDArray[np.float64],
    margin: float,
    parts: NDArray[np.float64],
    middles: NDArray[np.float64],
    labels: Sequence[str],
) -> None:
    """Each label in its part where that is widest, or next so: not on another label, and the likeliest first."""
    inside = WIDTH / ACROSS - 0.5  # inches
    taken: list[tuple[float, float, float]] = []  # left and right end as shares of the width, and the middle
    for k in sorted(range(len(labels)), key=lambda k: -parts[:, k].max()):
        text = shortened(labels[k], 0.9 * inside, LABEL)
        wide = text_width([text], LABEL) / DPI / inside + 0.04
        for at in np.argsort(-parts[:, k], kind="stable"):
            centre = (points[at] - points[0] + margin) / (points[-1] - points[0] + 2 * margin)
            left = min(max(centre - wide / 2, 0.0), 1 - wide)
            middle = middles[at, k]
            free = all(right < left or left + wide < start or abs(middle - y) > NAMED for start, right, y in taken)
            if parts[at, k] < NAMED:
                break
            if free:
                taken.append((left, left + wide, middle))
                shown = panel.text(
                    left + wide / 2, middle, text, ha="center", va="center", fontsize=LABEL - 0.5,
                    transform=panel.get_yaxis_transform(),
                )  # fmt: skip
                shown.set_path_effects([withStroke(linewidth=1.5, foreground="white", alpha=0.7)])
                break


def _few_categories(feature: Response) -> tuple[NDArray[np.float64], list[str]]:
    """As many categories as there are colours; the rarest of more become one."""
    values, labels = feature.values, list(feature.labels)
    if len(labels) <= len(COLOURS):
        return values, labels
    kept = np.sort(np.argsort(-values.max(0), kind="stable")[: len(COLOURS) - 1])
    rest = np.setdiff1d(np.arange(len(labels)), kept)
    return np.column_stack([values[:, kept], values[:, rest].sum(1)]), [
        *(labels[k] for k in kept),
        f"{len(rest)} others",
    ]


def _points(panel: Axes, variable: Responses) -> None:
    first, last = variable.points[[0, -1]].tolist()
    if variable.discrete:
        panel.set_xlim(first - MARGIN, last + MARGIN)
        panel.set_xticks(variable.points[:: -(-len(variable.points) // 8)])
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    else:
        panel.set_xlim(first, last)
        panel.set_xticks([])
