"""Lines over time: what the channels of a sequence do while a latent variable moves."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pyro_hfvae.plot.profiles import short_number
from pyro_hfvae.plot.responses import Responses
from pyro_hfvae.plot.sections import LABEL, WIDTH, sections, shortened
from pyro_hfvae.plot.style import COLOURS, style

__all__ = ["line_grid"]

ACROSS = 2
MOST = 4
"""Channels of a variable that are drawn, unless there are `ALL` or fewer."""
ALL = 6
DASHES = ("-", "--", ":", "-.")
"""One for each category beside its colour, the next one whenever the colours begin again."""


def line_grid(variables: Sequence[Responses], title: str, step: str = "step") -> Figure:
    """Each variable through its range: a panel for each channel over time, those that move most in front.

    Lines go from dark to bright with the variable; each category of a discrete one has a colour of its own.

    Args:
        variables: what the channels do while each of them moves, `[Q, T]` each.
        title: a line above everything.
        step: what a step in time is.

    Raises:
        ValueError: no variable, or one without a channel.
    """
    if not variables or not all(one.features for one in variables):
        raise ValueError("lines need one variable or more, and channels")
    shown = [one.most_moved(MOST if len(one.features) > ALL else ALL) for one in variables]
    headings = []
    for one, channels in zip(variables, shown, strict=True):
        more = len(one.features) - len(channels)
        heading = one.title if one.discrete else f"{one.title}, dark to bright"
        headings.append(heading + (f"  ({more:,} more move less)" if more else ""))
    with style():
        counts = [len(channels) + one.discrete for one, channels in zip(variables, shown, strict=True)]
        figure, axes = sections(headings, counts, title, across=ACROSS, height=0.85, below=0.27)
        for one, channels, panels in zip(variables, shown, axes, strict=True):
            colours, dashes = _looks(one)
            for panel, channel in zip(panels, channels, strict=False):
                panel.set_title(shortened(channel.name, WIDTH / ACROSS - 0.5, LABEL), fontsize=LABEL, pad=2)
                steps = np.arange(channel.values.shape[1])
                for values, colour, dash in zip(channel.values, colours, dashes, strict=True):
                    panel.plot(steps, values, color=colour, linestyle=dash, linewidth=1.1)
                panel.set_xlim(0, max(len(steps) - 1, 1))
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                panel.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2, steps=[1, 2, 2.5, 5, 10]))
                panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
                panel.set_xlabel(step, fontsize=LABEL - 0.5, labelpad=0)
            if one.discrete:
                _name_categories(panels[-1], one, panels[0].get_lines())
    return figure


def _name_categories(panel: Axes, variable: Responses, lines: Sequence[Line2D]) -> None:
    """A panel of its own says which line is which category's."""
    panel.set_axis_off()
    names = [f"{point:.0f}" for point in variable.points]
    columns = -(-len(names) // 6)
    panel.legend(lines, names, fontsize=LABEL - 0.5, ncols=columns, handlelength=1.6, frameon=False, loc="center left")


def _looks(variable: Responses) -> tuple[list[str] | list[tuple[float, float, float, float]], list[str]]:
    """A colour and a kind of line for each value of a variable."""
    count = len(variable.points)
    if variable.discrete:
        return [COLOURS[k % len(COLOURS)] for k in range(count)], [
            DASHES[k // len(COLOURS) % len(DASHES)] for k in range(count)
        ]
    return [colormaps["viridis"](share) for share in np.linspace(0, 0.9, count)], ["-"] * count
