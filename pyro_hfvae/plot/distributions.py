"""Latent variables as distributions: aggregate posterior against prior, and two variables coloured by a factor.

Shapes: `n` data, `K` values of a factor.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hfvae.metrics import FactorKind
from pyro_hfvae.plot.marginals import Marginal
from pyro_hfvae.plot.style import COLOURS, FONT, MARKERS, check_count, check_shape, number, panels, style

__all__ = ["aggregate_posterior", "pair_plot"]

COLUMNS = 6
PANEL = (1.8, 1.5)
"""Width and height in inches."""


def aggregate_posterior(marginals: Mapping[str, Marginal]) -> Figure:
    """The aggregate posterior of each variable against its prior, with their divergence in nats.

    Where they differ, samples of the prior have values that no datum has, or lack those of the data. Variables of which
    nothing is coded look like the prior too: see their mutual information.

    Args:
        marginals: name of a variable to its two densities, or masses of categories.

    Raises:
        ValueError: no variable.
    """
    if not marginals:
        raise ValueError("no variable to draw")
    with style():
        figure, axes = panels(len(marginals), COLUMNS, PANEL)
        for panel, (name, marginal) in zip(axes, marginals.items(), strict=True):
            if marginal.discrete:
                panel.bar(marginal.points, marginal.posterior, 0.8, color=COLOURS[0], alpha=0.45, label="q(z)")
                panel.bar(marginal.points, marginal.prior, 0.8, fill=False, linewidth=1.2, label="p(z)")
                panel.set_xticks(marginal.points[:: -(-len(marginal.points) // 10)])
            else:
                panel.fill_between(
                    marginal.points, marginal.posterior, color=COLOURS[0], alpha=0.45, linewidth=0, label="q(z)"
                )
                panel.plot(marginal.points, marginal.prior, color="black", linewidth=1.2, label="p(z)")
            panel.set_ylim(0, None)
            panel.set_yticks([])
            panel.tick_params(labelsize=FONT - 1)
            panel.set_title(f"{name}, KL {number(marginal.divergence())}", fontsize=FONT)
        figure.supxlabel("value of the variable, or its category", fontsize=FONT)
        figure.supylabel("density, or mass", fontsize=FONT)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return figure


def pair_plot(
    values: NDArray[Any],
    variables: tuple[str, str],
    factor: NDArray[Any],
    factor_name: str,
    kind: FactorKind,
    period: float | None = None,
) -> Figure:
    """Two latent variables of each datum, coloured by a factor.

    A categorical factor has a colour and a shape for each of its values; an ordinal or a continuous one goes from dark
    to bright; a circular one through colours that come back to the first.

    Args:
        values: of the two variables, `[n, 2]`.
        variables: their names.
        factor: its value for each datum, `[n]`.
        factor_name: its name.
        kind: categorical, ordinal, continuous or circular.
        period: of a circular factor; its largest value + 1 by default.

    Raises:
        ValueError: arrays of other shapes, or more categories than there are distinct markers.
    """
    values, factor = np.asarray(values, float), np.asarray(factor)
    check_count("variables", variables, 2)
    check_shape("values", values, (len(factor), 2))
    with style():
        figure, (axes,) = panels(1, 1, (4.4, 3.4))
        if kind == "categorical":
            _by_category(axes, values, factor, factor_name)
        else:
            circle = (period if period is not None else float(factor.max()) + 1) if kind == "circular" else None
            shade = factor % circle if circle is not None else factor
            bounds = (0.0, circle) if circle is not None else (float(factor.min()), float(factor.max()))
            dots = axes.scatter(
                values[:, 0],
                values[:, 1],
                s=6,
                c=shade,
                cmap="twilight" if circle is not None else "viridis",
                vmin=bounds[0],
                vmax=bounds[1],
                linewidths=0,
            )
            figure.colorbar(dots, ax=axes, label=factor_name)
        axes.set(xlabel=variables[0], ylabel=variables[1])
    return figure


def _by_category(axes: Axes, values: NDArray[Any], factor: NDArray[Any], factor_name: str) -> None:
    found = np.unique(factor)
    most = len(COLOURS) * len(MARKERS)
    if len(found) > most:
        raise ValueError(f"factor '{factor_name}' has {len(found)} categories; at most {most} can be drawn")
    for place, category in enumerate(found):
        chosen = values[factor == category]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=10,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place // len(COLOURS)],
            linewidths=0,
            alpha=0.8,
            label=str(category),
        )
    axes.legend(
        title=factor_name,
        frameon=False,
        fontsize=FONT - 1,
        title_fontsize=FONT,
        markerscale=1.5,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=-(-len(found) // 16),
    )
