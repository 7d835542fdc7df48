"""The terms over training of groups of runs: a line and a band for each group."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hfvae.plot.curves import COLUMNS, PANEL, TERMS, range_of_later_steps
from pyro_hfvae.plot.style import COLOURS, FONT, panels, style

__all__ = ["group_curves"]

History = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

DASHES = ("-", "--", "-.", ":")
"""One for each group beside its colour; groups beyond the eighth share both."""


def group_curves(histories: Mapping[str, Sequence[History]]) -> Figure | None:
    """A panel for each term, in nats per datum: for each group the mean over its runs between the least and greatest.

    The terms are those of held-out data (`val/…`); a group of which no run has them is drawn by those of training. A
    step counts where every run of the group that has the term has a value at it.

    Args:
        histories: of each group, for each of its runs, names of columns to (steps `[T]`, values `[T]`).

    Returns:
        The figure, or None where no run has a term.
    """
    by_term: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for term in TERMS:
        for group, runs in histories.items():
            part = "val" if any(f"val/{term}" in run for run in runs) else "train"
            found = [run[f"{part}/{term}"] for run in runs if f"{part}/{term}" in run]
            if found:
                by_term.setdefault(term, {})[group] = _aligned(found)
    if not by_term:
        return None
    with style():
        figure, all_axes = panels(len(by_term), COLUMNS, PANEL)
        for axes, (term, groups) in zip(all_axes, by_term.items(), strict=True):
            axes.set_title(term.replace("_", " ") if term != "elbo" else "ELBO")
            for place, group in enumerate(histories):
                if group in groups:
                    _band(axes, *groups[group], label=group, place=place)
            range_of_later_steps(axes)
            axes.grid(alpha=0.3)
        lines, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside upper left", ncols=4, frameon=False)
        figure.supxlabel("step", fontsize=FONT)
        figure.supylabel("nats per datum", fontsize=FONT)
    return figure


def _aligned(
    runs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps that all runs have `[T]`, and the values of each run at them `[R, T]`."""
    shared = runs[0][0]
    for steps, _ in runs[1:]:
        shared = np.intersect1d(shared, steps)
    return shared, np.stack([values[np.searchsorted(steps, shared)] for steps, values in runs])


def _band(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], *, label: str, place: int) -> None:
    colour = COLOURS[place % len(COLOURS)]
    axes.plot(
        steps, values.mean(axis=0), color=colour, linestyle=DASHES[place % len(DASHES)], linewidth=1.2, label=label
    )
    if len(values) > 1:
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
