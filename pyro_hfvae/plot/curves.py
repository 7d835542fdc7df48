"""Curves: the terms of the objective over training with its schedules, and the trade-off between two scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from pyro_hfvae.plot.style import COLOURS, FONT, MARKERS, check_count, check_shape, panels, style

__all__ = ["COLUMNS", "PANEL", "TERMS", "range_of_later_steps", "term_curves", "trade_off_curves"]

TERMS = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")

COLUMNS = 4
"""Panels in a row, at most."""
PANEL = (2.8, 1.9)
"""Width and height in inches."""


def term_curves(history: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Figure:
    """The terms of the objective over the steps of training, a panel each, and what follows a schedule.

    The first tenth of the steps does not set the vertical range of a term: it would flatten all that follows.

    Args:
        history: `train/<term>` and `val/<term>` in nats per datum, `weight/<name>` and `temperature`, to (steps `[T]`,
            values `[T]`), as in the `metrics.csv` of a run; names of other things are passed over.

    Raises:
        ValueError: the history has no term.
    """
    shown = [term for term in TERMS if f"train/{term}" in history or f"val/{term}" in history]
    if not shown:
        raise ValueError(f"no term to draw: the history has {sorted(history)}, and the terms are {list(TERMS)}")
    schedules = sorted(name for name in history if name.startswith("weight/") or name == "temperature")
    lines = {"train": (COLOURS[0], "-", ""), "val": (COLOURS[1], "--", "o")}
    with style():
        figure, axes = panels(len(shown) + len(schedules), COLUMNS, PANEL)
        for panel, term in zip(axes, shown, strict=False):
            panel.set_title(term.replace("_", " ") if term != "elbo" else "ELBO")
            for part, (colour, dashes, marker) in lines.items():
                if f"{part}/{term}" in history:
                    steps, values = history[f"{part}/{term}"]
                    (line,) = panel.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.2, label=part)
                    line.set(marker=marker, markersize=3.0)
            range_of_later_steps(panel)
        for panel, name in zip(axes[len(shown) :], schedules, strict=True):
            kind, _, term = name.partition("/")
            panel.set_title(f"weight of {term.replace('_', ' ')}" if term else kind)
            panel.plot(*history[name], color=COLOURS[2], linewidth=1.2)
            panel.set_ylabel(kind)
        for panel in axes:
            panel.grid(alpha=0.3)
        for panel in axes[: len(shown)]:
            place = panel.get_subplotspec()
            if place is not None and place.is_first_col():
                panel.set_ylabel("nats per datum")
        axes[0].legend(frameon=False)
        figure.supxlabel("step", fontsize=FONT)
    return figure


def trade_off_curves(
    x: Mapping[str, NDArray[Any]],
    y: Mapping[str, NDArray[Any]],
    x_label: str,
    y_label: str,
    settings: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """What one score costs of another: a line for each condition through its settings, with the spread over seeds.

    A point is the mean over the seeds, its bars are one standard deviation (of the sample, where there are two seeds or
    more), and the pale dots are the single runs. A run that is NaN is left out.

    Args:
        x: condition to the scores of its `W` settings with `S` seeds, `[W, S]`; say, reconstruction.
        y: the same runs' other score, `[W, S]`; say, disentanglement.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        settings: condition to `W` names, written beside the points: the weights, say.

    Raises:
        ValueError: conditions or shapes of x and y that differ, or a setting of which no run is known.
    """
    if not x or list(x) != list(y):
        raise ValueError(f"x and y must have the same conditions, one or more, got {list(x)} and {list(y)}")
    with style():
        figure, (axes,) = panels(1, 1, (4.4, 3.2))
        for place, condition in enumerate(x):
            across, up = np.asarray(x[condition], float), np.asarray(y[condition], float)
            if across.ndim != 2:
                raise ValueError(f"x of {condition!r} must be [W, S], got {list(across.shape)}")
            check_shape(f"y of {condition!r}", up, across.shape)
            known = np.isfinite(across) & np.isfinite(up)
            if not known.any(axis=1).all():
                empty = int(np.flatnonzero(~known.any(axis=1))[0])
                raise ValueError(f"setting {empty} of {condition!r} has no run of which x and y are known")
            centres, spreads = zip(*(_mean_and_spread(scores, known) for scores in (across, up)), strict=True)
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            axes.scatter(across[known], up[known], s=10, color=colour, alpha=0.3, linewidths=0, zorder=2)
            axes.errorbar(
                centres[0],
                centres[1],
                yerr=spreads[1],
                xerr=spreads[0],
                color=colour,
                marker=marker,
                markersize=5,
                linewidth=1.2,
                elinewidth=0.7,
                capsize=2,
                label=condition,
                zorder=3,
            )
            if settings is not None:
                names = settings.get(condition, ())
                check_count(f"settings of {condition!r}", names, len(across))
                for name, point in zip(names, zip(*centres, strict=True), strict=True):
                    text = axes.annotate(name, point, (5, 5), textcoords="offset points", color=colour, zorder=2.5)
                    text.set_path_effects([withStroke(linewidth=2, foreground="white")])  # dots lie below
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.margins(0.08)
        axes.legend(frameon=False)
    return figure


def _mean_and_spread(scores: NDArray[Any], known: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation over the known seeds, `[W]` each; no spread of a single seed."""
    rows = [row[which] for row, which in zip(scores, known, strict=True)]
    spread = [row.std(ddof=1) if len(row) > 1 else 0.0 for row in rows]
    return np.array([row.mean() for row in rows]), np.array(spread)


def range_of_later_steps(axes: Axes) -> None:
    """Let the values after the first tenth of the steps set the vertical range."""
    points = np.concatenate([np.asarray(line.get_xydata(), float) for line in axes.get_lines()])  # [T, 2]
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        return
    later = points[points[:, 0] >= points[:, 0].min() + 0.1 * np.ptp(points[:, 0]), 1]
    margin = 0.08 * np.ptp(later) or 0.05 * abs(later[0]) or 0.05
    axes.set_ylim(later.min() - margin, later.max() + margin)
