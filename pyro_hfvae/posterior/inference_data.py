"""All that is asked of ArviZ, in one place: groups and netCDF, PSIS, LOO-PIT, diagnostics of chains, plots.

Written for ArviZ 0.23. In 1.x ``from_dict`` takes one dictionary of groups and returns a DataTree, ``psislw`` and
``loo_pit`` lie in ``arviz_stats`` and the plots in ``arviz_plots``: only this module has to change.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces 1.0 at each import
    import arviz

__all__ = [
    "convergence",
    "make_inference_data",
    "pareto_k",
    "plot_loo_pit",
    "plot_predictive",
    "psis_loo_pit",
    "write_netcdf",
]

Groups = Mapping[str, Mapping[str, NDArray[Any]]]
"""ArviZ group to variable to array, [chain, draw, ...]; without chain and draw in ``observed_data``."""

SMALLEST_TAIL = 25
"""Fewer draws leave PSIS fewer than five in the tail, and no k̂ is fitted."""


def make_inference_data(
    groups: Groups, dims: Mapping[str, Sequence[str]], coords: Mapping[str, Sequence[str | int]]
) -> Any:
    """ArviZ's container of groups; dims name the dimensions of each variable after chain and draw."""
    content: dict[str, Any] = {group: dict(variables) for group, variables in groups.items()}
    content["dims"] = {name: list(named) for name, named in dims.items()}
    content["coords"] = {name: list(values) for name, values in coords.items()}
    return arviz.from_dict(**content)


def write_netcdf(inference_data: Any, path: Path) -> None:
    """Writes the container to a netCDF file: to a temporary one first, which then takes the name."""
    temporary = path.with_name(f".{path.name}-partial")
    try:
        inference_data.to_netcdf(str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def pareto_k(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shape k̂ of the generalised Pareto distribution of the largest importance weights, for each datum.

    Vehtari, Simpson, Gelman, Yao, Gabry, Pareto Smoothed Importance Sampling (JMLR 2024), as ArviZ has it. Below .7
    importance sampling from the guide works; above, the guide misses mass. Weights that are equal to rounding, as those
    of an exact guide, get 0.

    Args:
        log_weights: [K, B].

    Returns:
        k̂, [B].
    """
    draws = len(log_weights)
    if draws < SMALLEST_TAIL:
        raise ValueError(f"PSIS needs {SMALLEST_TAIL} draws or more, got {draws}")
    columns = np.asarray(log_weights, np.float64).T  # [B, K]
    with np.errstate(all="ignore"):  # weights that are nearly equal; what is not a number is judged below
        k = np.asarray(arviz.psislw(columns)[1], np.float64).reshape(len(columns))
    k = np.where(np.isnan(k), np.inf, k)
    rounding = 64 * np.finfo(np.float32).eps * np.maximum(1.0, np.abs(columns).max(1))
    return np.where(np.ptp(columns, axis=1) <= rounding, 0.0, k)


def psis_loo_pit(
    observed: NDArray[Any], predicted: NDArray[Any], log_weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(x̃ ≤ x) under weighted predictive draws, whose weights are Pareto smoothed first.

    Args:
        observed: x, [B].
        predicted: x̃, [K, B].
        log_weights: of the draws, [K, B].
    """
    smoothed = _smoothed(log_weights)
    return np.asarray(arviz.loo_pit(y=observed, y_hat=predicted.T, log_weights=smoothed), np.float64)


def plot_loo_pit(axes: Axes, observed: NDArray[Any], predicted: NDArray[Any], log_weights: NDArray[np.float64]) -> None:
    """ArviZ's plot of the LOO-PIT's ECDF against the uniform one, into given axes."""
    smoothed = _smoothed(log_weights)
    arviz.plot_loo_pit(
        y=observed, y_hat=predicted.T, log_weights=smoothed, ecdf=True, ax=axes, show=False, textsize=9, legend=False
    )


def _smoothed(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        return np.asarray(arviz.psislw(np.asarray(log_weights, np.float64).T)[0]).reshape(log_weights.T.shape)


def convergence(samples: Mapping[str, NDArray[np.float64]]) -> tuple[dict[str, float], dict[str, float]]:
    """The largest r̂ and the smallest bulk ESS of the elements of each variable, [chain, draw, ...]."""
    data = arviz.from_dict(posterior=dict(samples))
    r_hat, effective = arviz.rhat(data), arviz.ess(data)
    return (
        {name: float(cast(Any, r_hat)[name].max()) for name in samples},
        {name: float(cast(Any, effective)[name].min()) for name in samples},
    )


def plot_predictive(axes: Axes, observed: NDArray[Any], predicted: NDArray[Any], group: str) -> None:
    """ArviZ's predictive check of one statistic of B data, into given axes.

    Args:
        axes: where.
        observed: [B].
        predicted: [S, B].
        group: "prior" or "posterior".
    """
    content: dict[str, Any] = {
        f"{group}_predictive": {"statistic": predicted[None]},
        "observed_data": {"statistic": observed},
    }
    data = arviz.from_dict(**content)
    arviz.plot_ppc(
        data, group=group, ax=axes, kind="cumulative", num_pp_samples=min(50, len(predicted)), show=False, textsize=9,
        random_seed=0, legend=False, observed=True, colors=["#0072b2", "black", "#d55e00"],
    )  # fmt: skip
