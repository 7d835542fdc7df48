"""Top features: which counts rise and fall most while a latent variable moves, and which are a category's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from pyro_hfvae.plot.profiles import short_number
from pyro_hfvae.plot.responses import Responses
from pyro_hfvae.plot.sections import LABEL, WIDTH, sections, shortened
from pyro_hfvae.plot.style import COLOURS, style

__all__ = ["top_features"]

MOST = 8
"""Bars of each kind."""
NAMES = 0.95
"""Inches for the names of features."""
BAR = 0.135
"""From one bar to the next, in inches."""
RISES, FALLS = COLOURS[0], COLOURS[1]


@dataclass(frozen=True, eq=False)
class _Bars:
    """Bars under one heading: from an expected count to another."""

    name: str
    features: list[str]
    start: NDArray[np.float64]
    end: NDArray[np.float64]


def top_features(variables: Sequence[Responses], title: str) -> Figure:
    r"""The features whose expected counts change most: bars from the one end of a variable's range to the other.

    The dot is at the upper end of the range. Features are ordered by the change of the root of their mean,
    :math:`\sqrt{b} - \sqrt{a}`: as counts vary by the root of their mean, this is how visible the change is, while
    differences find the commonest features only and ratios the rarest. Its squares sum to the Hellinger distance.

    Of a discrete variable, bars of each category start at the mean over all categories and end at its own.

    Args:
        variables: what the features do while each of them moves, `[Q, 1]` each, not negative.
        title: a line above everything.

    Raises:
        ValueError: no variable, one without a feature, or a negative mean.
    """
    if not variables or not all(one.features for one in variables):
        raise ValueError("top features need one variable or more, and features")
    bars = [some for one in variables for some in _bars(one)]
    largest = max((len(one.features) for one in bars), default=0)
    with style():
        figure, axes = sections(
            [_heading(one) for one in variables],
            [len(_bars(one)) for one in variables],
            f"{title}; expected counts, with a dot {_where_the_dots_are(variables)}",
            across=2,
            height=max(largest, 1) * BAR,
            left=NAMES,
            below=0.2,
        )
        for panel, one in zip([panel for some in axes for panel in some], bars, strict=True):
            _draw(panel, one)
            panel.set_title(shortened(one.name, WIDTH / 2 - 0.3, LABEL), fontsize=LABEL, pad=2, loc="right")
    return figure


def _where_the_dots_are(variables: Sequence[Responses]) -> str:
    kinds = {"at a category" if one.discrete else "at the upper end of the range" for one in variables}
    return " or ".join(sorted(kinds, reverse=True))


def _heading(variable: Responses) -> str:
    if variable.discrete:
        return f"{variable.variable}: each category against all"
    return f"{variable.title}  ({len(variable.features):,} features)"


def _bars(variable: Responses) -> list[_Bars]:
    """What rises and what falls; or of each category what it has more of than all together."""
    means = np.column_stack([one.values[:, 0] for one in variable.features])  # [Q, F]
    if not (means >= 0).all():
        raise ValueError(f"expected counts are not negative, but those at values of {variable.variable} are")
    names = [one.name for one in variable.features]
    if variable.discrete:
        usual = means.mean(0)
        return [
            _largest(f"{variable.variable} = {point:.0f}", names, usual, own)
            for point, own in zip(variable.points, means, strict=True)
        ]
    first, last = means[0], means[-1]
    return [_largest("rises", names, first, last), _largest("falls", names, first, last, falls=True)]


def _largest(
    name: str, names: Sequence[str], start: NDArray[np.float64], end: NDArray[np.float64], falls: bool = False
) -> _Bars:
    change = (np.sqrt(end) - np.sqrt(start)) * (-1 if falls else 1)
    chosen = [at for at in np.argsort(-change, kind="stable")[:MOST] if change[at] > 0]
    return _Bars(name, [names[at] for at in chosen], start[chosen], end[chosen])


def _draw(panel: Axes, bars: _Bars) -> None:
    """The greatest change on top; on a logarithmic axis equal lengths are equal ratios."""
    count = len(bars.features)
    floor = 1e-4 * max(bars.end.max(initial=0.0), bars.start.max(initial=0.0)) or 1e-3
    start, end = np.maximum(bars.start, floor), np.maximum(bars.end, floor)
    places = np.arange(count)
    colours = [RISES if up else FALLS for up in bars.end >= bars.start]
    panel.hlines(places, start, end, colors=colours, linewidth=2.2)
    panel.scatter(end, places, s=14, c=colours, zorder=3, linewidths=0)
    panel.set_xscale("log")
    panel.set_ylim(max(count, 1) - 0.5, -0.5)
    names = [shortened(name, NAMES - 0.1, LABEL - 0.5) for name in bars.features]
    panel.set_yticks(places, names)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.grid(axis="x", color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
    both = np.concatenate([start, end])
    low, high = (both.min(), both.max()) if count else (0.1, 1.0)
    room = max((high / low) ** 0.08, 1.05)
    panel.set_xlim(low / room, high * room)
    _ticks(panel, low / room, high * room)
    if not count:
        panel.text(0.5, 0.5, "nothing", transform=panel.transAxes, ha="center", va="center", fontsize=LABEL)


def _ticks(panel: Axes, low: float, high: float) -> None:
    """Powers of ten, or of what lies between them where fewer than two are in sight."""
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(range(1, 10))):
        locator = LogLocator(10, subs=steps, numticks=50)
        seen = [at for at in locator.tick_values(low, high) if low <= at <= high]
        if len(seen) > 1:
            break
    else:
        seen = [float(f"{at:.2g}") for at in np.geomspace(low, high, 4)[1:3]]
    panel.set_xticks(seen[:: -(-len(seen) // 4)])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.minorticks_off()
