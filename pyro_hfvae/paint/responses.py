"""What observed features do when latents change: one variable at a time, and variables exchanged between data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hfvae.batch import Batch
from pyro_hfvae.blocks import Blocks, Variable
from pyro_hfvae.metrics import Exchange
from pyro_hfvae.paint.features import FeatureValues, Unit, decode_features, observed_features
from pyro_hfvae.paint.latent_values import LatentValues, Program
from pyro_hfvae.paint.traversals import steps
from pyro_hfvae.plot import Response, Responses

__all__ = ["FeatureReader", "exchanger", "like", "respond"]

BATCH = 256
USUAL = (0.05, 0.95)
"""Quantiles between which most data lie."""


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """The features that a model decodes of any latents, with the covariates of one datum, so that only latents differ.

    Attributes:
        model: the generative program.
        one: a datum whose covariates are taken, :func:`like` the others.
        names: of the features, where the model has none.
        units: of the columns of a table that were standardised: all values are in the units of these.
    """

    model: Program
    one: Batch
    names: Sequence[str] = ()
    units: Sequence[Unit] = ()

    def decoded(self, latents: LatentValues) -> FeatureValues:
        """What the model decodes of latents of any number of data."""
        return self.rebuilt(latents, self.one.rows(torch.zeros(latents.size, dtype=torch.long)))

    def rebuilt(self, latents: LatentValues, data: Batch) -> FeatureValues:
        """What the model decodes of the latents of some data, each with covariates of its own."""
        found = []
        for part in torch.arange(latents.size).split(BATCH):
            found.append(decode_features(self.model, latents.rows(part).values, data.rows(part), self.names))
        return FeatureValues(torch.cat([each.values for each in found]), found[0].features).in_units(self.units)

    def observed(self, data: Batch) -> FeatureValues:
        """The data, each with covariates of its own, NaN where they are missing."""
        return observed_features(self.model, data, self.names).in_units(self.units)


def like(data: Batch) -> Batch:
    """One datum whose covariates can stand for all: of sequences the longest; else of median library size, say.

    That is the median of the first covariate of one real number; where there is none, it is the first datum.
    """
    sizes = [value for value in data.others.values() if value.dim() == 1 and value.is_floating_point()]
    at = 0
    if "lengths" in data.others:
        at = int(data["lengths"].argmax())
    elif sizes:
        at = int(sizes[0].argsort()[data.size // 2])
    return data.rows(slice(at, at + 1))


def respond(
    reader: FeatureReader,
    start: LatentValues,
    data: FeatureValues,
    variables: Sequence[Variable],
    ranges: Mapping[Variable, tuple[float, float]],
    columns: int,
) -> list[Responses]:
    """What each feature does while each variable moves and all else is held.

    A variable of one number goes through its range in equal steps; a categorical, or a simplex, through its K corners.

    Args:
        reader: of the features.
        start: one value of everything, B = 1.
        data: the data, in the same units; how they vary is the measure of what moves.
        variables: those that move.
        ranges: of the variables of one number.
        columns: Q, 2 or more.
    """
    values = data.values.double().numpy(force=True)
    usual = _usual(values)
    spreads = _spreads(values, usual)
    found = []
    for variable in variables:
        points = steps(start, variable, ranges, columns)
        held = start.rows(torch.zeros(len(points), dtype=torch.long))
        decoded = reader.decoded(held.replaced({variable: points}))
        numbers = decoded.values.double().numpy(force=True)
        features = [
            Response(
                feature.name,
                numbers[:, list(feature.places)],
                float(np.sqrt(np.square(spreads[list(feature.places)]).sum())),
                None if len(feature.places) > 1 else usual[feature.places[0]],
                feature.labels,
                feature.counted,
            )
            for feature in decoded.features
        ]
        discrete = start.widths[variable.site] > 1
        at = torch.arange(len(points)) if discrete else points
        found.append(Responses(variable.name, at.double().numpy(force=True), discrete, features))
    return found


def exchanger(reader: FeatureReader, latents: LatentValues, blocks: Blocks) -> Exchange:
    """Decodes exchanges of variables for :func:`pyro_hfvae.metrics.feature_shares`.

    Args:
        reader: of the features.
        latents: of N data, :func:`posterior_modes`.
        blocks: block name to its variables, all of them.
    """
    by_name = {variable.name: variable for members in blocks.values() for variable in members}

    def exchange(variables: Sequence[str], giving: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[Any]:
        given, kept = torch.from_numpy(giving), torch.from_numpy(rest)
        taken = {by_name[name]: latents.of(by_name[name])[given] for name in variables}
        return reader.decoded(latents.rows(kept).replaced(taken)).values.numpy(force=True)

    return exchange


def _spreads(values: NDArray[np.float64], usual: Sequence[tuple[float, float] | None]) -> NDArray[np.float64]:
    """How wide most data lie, of each number, [M]: between the quantiles, or as in a normal distribution of its spread.

    The latter is of counts, say, of which most are 0; of a number that is nowhere known it is 0.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    deviation = np.sqrt(np.where(known, np.square(values - mean), 0).sum(0) / count)
    widths = np.array([0.0 if ends is None else ends[1] - ends[0] for ends in usual])
    return np.where(widths > 0, widths, 2 * NormalDist().inv_cdf(USUAL[1]) * deviation)


def _usual(values: NDArray[np.float64]) -> list[tuple[float, float] | None]:
    """Where most of the data lie, of each number."""
    found: list[tuple[float, float] | None] = []
    for column in values.T:
        known = column[np.isfinite(column)]
        low, high = np.quantile(known, USUAL).tolist() if len(known) else (0.0, 0.0)
        found.append((low, high) if len(known) else None)
    return found
