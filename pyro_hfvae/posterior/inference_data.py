"""All that is asked of ArviZ, 0.23 or 1.x, in one place: groups and netCDF, PSIS, diagnostics of chains.

ArviZ 1.x needs Python 3.12. What differs between the two is :func:`make_inference_data` and :func:`psis`.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from pyro_hfvae.files import replacing

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces 1.0 at each import
    import arviz

__all__ = ["SMALLEST_TAIL", "Groups", "convergence", "make_inference_data", "pareto_k", "psis", "write_netcdf"]

Groups = Mapping[str, Mapping[str, NDArray[Any]]]
"""ArviZ group to variable to array, [chain, draw, ...]; without chain and draw in the groups of data."""

SMALLEST_TAIL = 25
"""Fewer draws leave PSIS fewer than five in the tail, and no k̂ is fitted."""

_ARVIZ_1 = int(arviz.__version__.split(".")[0]) >= 1


def make_inference_data(
    groups: Groups,
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Sequence[Any]],
    auxiliary: Iterable[str] = (),
) -> Any:
    """ArviZ's container of groups: ``InferenceData``, or a ``DataTree`` from ArviZ 1.0 on.

    Args:
        groups: the arrays.
        dims: of each variable, the names of its dimensions after chain and draw.
        coords: of each dimension, its values.
        auxiliary: variables of ``log_likelihood`` that are found by their names only: they are kept as coordinates, so
            that ``loo`` and ``compare`` take the one that is left without asking which.
    """
    content: dict[str, Any] = {group: dict(variables) for group, variables in groups.items()}
    described: dict[str, Any] = {
        "dims": {name: list(named) for name, named in dims.items()},
        "coords": {name: list(values) for name, values in coords.items()},
    }
    hidden = list(auxiliary)
    if _ARVIZ_1:
        tree = arviz.from_dict(content, **described)
        if hidden:
            tree["log_likelihood"].dataset = tree["log_likelihood"].to_dataset().set_coords(hidden)
        return tree
    data = arviz.from_dict(**content, **described)
    if hidden:
        data.log_likelihood = data.log_likelihood.set_coords(hidden)
    return data


def write_netcdf(inference_data: Any, path: Path) -> None:
    """Writes the container to a compressed netCDF file, whole or not at all.

    It is made in memory first, because HDF5 ends the process where it cannot write to a disk that is full.
    """
    groups = inference_data.children if _ARVIZ_1 else {name: inference_data[name] for name in inference_data.groups()}
    compressed = {
        f"/{name}": {key: {"zlib": True} for key, values in group.variables.items() if values.dtype.kind in "iuf"}
        for name, group in groups.items()
    }
    tree = inference_data if _ARVIZ_1 else xarray.DataTree.from_dict(groups)
    content = tree.to_netcdf(engine="h5netcdf", encoding=compressed)
    with replacing(path) as file:
        file.write(content)


def psis(log_weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pareto smoothed importance weights, and the shape k̂ of their tail.

    Vehtari, Simpson, Gelman, Yao, Gabry, Pareto Smoothed Importance Sampling (JMLR 2024), as ArviZ has it.

    Args:
        log_weights: [K, B].

    Returns:
        Normalised smoothed log-weights, [K, B], and k̂, [B]; no k̂ (NaN) where the largest weights tie, as those of
        discrete latents do, because they are no sample of a density.
    """
    columns = np.array(log_weights, np.float64).T  # [B, K], a copy
    tied = _ties(columns.T)
    broken = columns + np.linspace(0, 1e-9, columns.shape[1])  # ArviZ 1.x refuses weights that are all equal
    with np.errstate(all="ignore"):  # what is not a number is judged below
        if _ARVIZ_1:
            from arviz_stats.base import array_stats

            smoothed, k = array_stats.psislw(-broken)  # which takes log-likelihoods
        else:
            smoothed, k = arviz.psislw(broken)
    k = np.asarray(k, np.float64).reshape(len(columns))
    plain = columns - np.logaddexp.reduce(columns, 1, keepdims=True)
    lost = tied | ~np.isfinite(np.asarray(smoothed)).all(1)
    weights = np.where(lost[:, None], plain, np.asarray(smoothed).reshape(columns.shape))
    return weights.T, np.where(tied, np.nan, np.where(np.isnan(k), np.inf, k))


def pareto_k(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shape k̂ of the generalised Pareto distribution of the largest importance weights, for each datum.

    Below .7 importance sampling from the guide works; above, the guide misses mass. Weights that are equal to 1 %, as
    those of an exact guide, get 0. Where the largest weights tie there is no k̂ (NaN).

    Args:
        log_weights: [K, B].

    Returns:
        k̂, [B].
    """
    draws = len(log_weights)
    if draws < SMALLEST_TAIL:
        raise ValueError(f"PSIS needs {SMALLEST_TAIL} draws or more, got {draws}")
    weights = np.asarray(log_weights, np.float64)
    equal = np.ptp(weights, axis=0) <= np.maximum(0.01, 64 * _rounding(weights))
    return np.where(equal, 0.0, psis(weights)[1])


def _ties(log_weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether most of the weights in the tail that PSIS fits equal the next one to rounding, [B], from [K, B]."""
    count = len(log_weights)
    tail = int(min(0.2 * count, 3 * np.sqrt(count)))
    largest = np.sort(log_weights, 0)[count - max(tail, 2) :]
    return np.asarray((np.diff(largest, axis=0) <= _rounding(log_weights)).mean(0) > 0.5)


def _rounding(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounding of log-weights in float32, [B], from [K, B]."""
    return np.asarray(np.finfo(np.float32).eps * np.maximum(1.0, np.abs(log_weights).max(0)))


def convergence(samples: Mapping[str, NDArray[np.float64]]) -> tuple[dict[str, float], dict[str, float]]:
    """The largest r̂ and the smallest bulk ESS of the elements of each variable, [chain, draw, V]."""
    r_hat, effective = {}, {}
    for name, values in samples.items():
        numbers = [np.ascontiguousarray(values[..., place]) for place in range(values.shape[-1])]
        r_hat[name] = max(float(arviz.rhat(number)) for number in numbers)
        effective[name] = min(float(arviz.ess(number)) for number in numbers)
    return r_hat, effective
