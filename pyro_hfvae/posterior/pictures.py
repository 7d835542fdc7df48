"""Pictures of the checks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pyro_hfvae.plot.style import style
from pyro_hfvae.posterior.aggregate import TwoSample
from pyro_hfvae.posterior.calibration import Calibration
from pyro_hfvae.posterior.checks import Checks
from pyro_hfvae.posterior.findings import LEVEL
from pyro_hfvae.posterior.importance import GuideQuality
from pyro_hfvae.posterior.leave_one_out import LeaveOneOut
from pyro_hfvae.posterior.predictive import PredictiveCheck
from pyro_hfvae.posterior.uniformity import ecdf_band, uniformity_p_value

__all__ = [
    "aggregate_figure",
    "calibration_figure",
    "check_figures",
    "guide_figure",
    "leave_one_out_figure",
    "predictive_figure",
]

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"  # a palette that colour-blind readers see
PANELS = 12
LINES = 50
PANEL = (2.7, 2.1)  # inches


def check_figures(checks: Checks) -> dict[str, Figure]:
    """File name without ending to figure."""
    with style():
        figures = {
            "guide": guide_figure(checks.quality),
            "calibration": calibration_figure(checks.calibration),
            "predictive": predictive_figure(checks.predictive),
        }
        if checks.aggregate:
            figures["aggregate"] = aggregate_figure(checks.aggregate)
        if checks.leave_one_out:
            figures["loo_pit"] = leave_one_out_figure(checks.leave_one_out)
        return figures


def guide_figure(quality: GuideQuality) -> Figure:
    """k̂ and gap of each datum, and the bound on log p(x) over K."""
    figure = _figure(1, 3)
    shape, gaps, bounds = figure.subplots(1, 3)
    order, given = np.arange(len(quality.pareto_k)), ~np.isnan(quality.pareto_k)
    high = quality.pareto_k > 0.7
    for chosen, colour, marker, label in ((~high, BLUE, "o", "up to .7"), (high, ORANGE, "^", "above .7")):
        shape.scatter(
            order[chosen & given], quality.pareto_k[chosen & given], s=14, color=colour, marker=marker, label=label
        )
    shape.axhline(0.7, color="black", linewidth=0.8, linestyle="--")
    shape.set(xlabel="datum", ylabel="Pareto k of PSIS", title="importance weights")
    shape.margins(y=0.3)  # room for the legend
    if given.any():
        shape.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    else:
        shape.text(0.5, 0.5, "none: discrete latents", transform=shape.transAxes, ha="center", va="bottom", fontsize=8)
    gaps.hist(quality.gap, bins=20, color=BLUE)
    gaps.set(xlabel="bound less ELBO, nats", ylabel="data", title="gap of each datum")
    bounds.plot(quality.counts, quality.bounds.mean(1), color=BLUE, marker="o", markersize=4, linewidth=1.2)
    bounds.set(xscale="log", xlabel="draws K", ylabel="nats per datum", title="bound on log p(x)")
    return figure


def calibration_figure(calibration: Calibration) -> Figure:
    """ECDF of the ranks less the uniform one, for the quantities with the smallest p-values.

    The band holds all quantities together with probability .99, as in :func:`findings`.
    """
    p_values = calibration.p_values()
    shown = sorted(p_values, key=p_values.__getitem__)[:PANELS]
    columns = min(4, len(shown))
    figure = _figure(-(-len(shown) // columns), columns)
    for panel, name in enumerate(shown, start=1):
        axes = figure.add_subplot(-(-len(shown) // columns), columns, panel)
        off = p_values[name] * len(p_values) < LEVEL
        _plot_uniform(axes, calibration.ranks[name], LEVEL / len(p_values), off)
        axes.set_title(name + (" (off)" if off else ""))
    figure.supxlabel("rank of the truth among draws of the guide", fontsize=9)
    figure.supylabel("ECDF less uniform", fontsize=9)
    return figure


def aggregate_figure(aggregate: Mapping[str, TwoSample]) -> Figure:
    """Accuracy of a classifier between draws of q(z) and of p(z), with the 99 % range of chance."""
    figure = _figure(0.4 + 0.16 * len(aggregate), 1.8)
    axes = figure.subplots()
    names = list(aggregate)
    spread = 2.33 * 0.5 / np.sqrt(next(iter(aggregate.values())).held_out)
    axes.axvspan(0.5 - spread, 0.5 + spread, color=GREY, alpha=0.4, linewidth=0, label="chance")
    values = [aggregate[name].accuracy for name in names]
    axes.scatter(values, names, color=BLUE, zorder=3)
    axes.set(xlim=(0.4, 1.02), ylim=(len(names) - 0.5, -0.5), xlabel="accuracy of a classifier, q(z) against p(z)")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def predictive_figure(predictive: list[PredictiveCheck]) -> Figure:
    """ECDF of each statistic, of the data and of what the model draws: prior above, posterior below."""
    columns = len(predictive)
    figure = _figure(2, columns)
    for column, check in enumerate(predictive):
        for row, (group, drawn) in enumerate((("prior", check.prior), ("posterior", check.posterior))):
            axes = figure.add_subplot(2, columns, 1 + row * columns + column)
            for values in drawn[:LINES]:
                axes.ecdf(values, color=BLUE, alpha=0.2, linewidth=0.8)
            axes.ecdf(drawn.ravel(), color=ORANGE, linestyle="--", linewidth=1.5)
            axes.ecdf(check.observed, color="black", linewidth=1.5)
            axes.set(title=check.statistic if row == 0 else "", ylabel=f"{group} predictive" if column == 0 else "")
            axes.tick_params(labelsize=8)
    _legend(figure)
    figure.supxlabel("value of the statistic", fontsize=9)
    figure.supylabel("share of the data below it", fontsize=9)
    return figure


def leave_one_out_figure(parts: list[LeaveOneOut]) -> Figure:
    """ECDF of the LOO-PIT less the uniform one, for each observed site.

    The band holds all sites together with probability .99, as in :func:`findings`.
    """
    figure = _figure(1.2, 1.4 * len(parts))
    for column, part in enumerate(parts, start=1):
        axes = figure.add_subplot(1, len(parts), column)
        pit = part.pit()
        _plot_uniform(axes, pit, LEVEL / len(parts), uniformity_p_value(pit) * len(parts) < LEVEL)
        axes.set(title=part.site, xlabel="LOO-PIT", ylabel="ECDF less uniform")
    return figure


def _plot_uniform(axes: Axes, values: NDArray[np.float64], level: float, off: bool) -> None:
    """ECDF of numbers in [0, 1] less the uniform one, with the band that uniform ones leave with the given level."""
    grid, lower, upper = ecdf_band(len(values), 1 - level)
    axes.fill_between(grid, lower - grid, upper - grid, color=GREY, alpha=0.4, linewidth=0)
    levels = np.searchsorted(np.sort(values), grid, side="right") / len(values) - grid
    axes.plot(grid, levels, color=ORANGE if off else BLUE, linestyle="-", linewidth=1.2)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlim(0, 1)


def _legend(figure: Figure) -> None:
    lines = [
        Line2D([], [], color=BLUE, alpha=0.5),
        Line2D([], [], color=ORANGE, linestyle="--"),
        Line2D([], [], color="black"),
    ]
    figure.legend(
        lines,
        ["draws of the model", "all draws", "data"],
        loc="outside upper right",
        ncols=3,
        frameon=False,
        fontsize=8,
    )


def _figure(rows: float, columns: float) -> Figure:
    size = (0.5 + PANEL[0] * columns, 0.5 + PANEL[1] * rows)
    return Figure(figsize=size, dpi=100, facecolor="white", layout="constrained")
