"""What a model decodes of latent values as named features: columns of a table, words, channels of a sequence.

Shapes: `B` data, `M` decoded numbers of a datum, `K` categories, `T` steps in time, `V` features of a site.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, product
from typing import Any, Protocol

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.distributions import is_factor
from pyro_hfvae.infer.traces import observed_sites, where_known
from pyro_hfvae.paint.latent_values import Program, Values
from pyro_hfvae.sites.observed import are_categories, are_counts, inner, observed_means

__all__ = ["Feature", "FeatureValues", "decode_features", "observed_features"]

BETWEEN = " = "
"""Between the name of a column and the label of its category."""


class Unit(Protocol):
    """How a column of a table was standardised."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True)
class Feature:
    """What is observed of a datum: a column of a table, a word, a channel of a sequence.

    Attributes:
        name: its name; ``site[i]`` where it has none.
        places: which of the M decoded numbers are its own: one; K of a category; T of a channel.
        labels: of the K categories; empty for anything else.
        counted: whether it is a number of events: 0, 1, 2, ...
    """

    name: str
    places: tuple[int, ...]
    labels: tuple[str, ...] = ()
    counted: bool = False

    @property
    def over_time(self) -> bool:
        """Whether its numbers are steps of a sequence."""
        return len(self.places) > 1 and not self.labels


@dataclass(frozen=True, eq=False)
class FeatureValues:
    """The features of B data: what a model decodes, or what was observed.

    Attributes:
        values: means ``[B, M]``; of a category the probabilities of its K values, or their indicators.
        features: whose numbers these are.
    """

    values: Tensor
    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the M numbers: ``age``, ``colour = red``, ``pulse[3]``."""
        names = [""] * self.values.shape[1]
        for feature in self.features:
            for at, place in enumerate(feature.places):
                step = f"[{at}]" if feature.over_time else ""
                names[place] = f"{feature.name}{BETWEEN}{feature.labels[at]}" if feature.labels else feature.name + step
        return tuple(names)

    def of(self, feature: Feature) -> Tensor:
        """The numbers of one feature, ``[B, 1]``, ``[B, K]`` or ``[B, T]``."""
        return self.values[:, list(feature.places)]

    @property
    def by_name(self) -> dict[str, tuple[int, ...]]:
        """The places of each feature, as metrics take them; the second of a name gets a number behind it."""
        found: dict[str, tuple[int, ...]] = {}
        for feature in self.features:
            name, number = feature.name, 2
            while name in found:
                name, number = f"{feature.name} ({number})", number + 1
            found[name] = feature.places
        return found

    def in_units(self, columns: Iterable[Unit]) -> "FeatureValues":
        """Those that were standardised in their own units again, in float64: ``mean + scale * value``.

        Args:
            columns: of the data; features that are no column of this name, and categories, stay as they are.
        """
        known = {column.name: column for column in columns}
        if not known:
            return self
        values = self.values.double()  # float32 cannot resolve a second of a time, 1.7e9
        for feature in self.features:
            if feature.name in known and not feature.labels:
                unit, places = known[feature.name], list(feature.places)
                values[:, places] = values[:, places] * unit.scale + unit.mean
        return replace(self, values=values)


@torch.no_grad()
def decode_features(model: Program, values: Values, data: Inputs, names: Sequence[str] = ()) -> FeatureValues:
    """Means of all that a model observes, given its latents; of categories their probabilities.

    A feature has the name that ``model.feature_names`` gives, a mapping from an observed site to names along its last
    dimension; of a site that is one categorical, those of its categories. ``"colour = red"`` beside
    ``"colour = blue"`` make one feature, colour. A site whose distribution has ``feature_means`` (numbers for each
    column of a table, with the probabilities of categories) is read by them.

    Args:
        model: the generative program.
        values: of all its latent sites, ``[B, ...]`` each.
        data: what the model is called with, ``[B, ...]``; observed values do not enter, covariates do.
        names: of the features of a site of as many features, where the model has none.

    Raises:
        ValueError: the model observes nothing but images, or something without a mean; or names that do not fit.
    """
    batch, known = as_batch(data), getattr(model, "feature_names", None) or {}
    trace = batch(poutine.trace(poutine.condition(model, data=dict(values))).get_trace)
    return _joined(_read(name, site, known, names, batch.size) for name, site in _features_of(trace, values))


@torch.no_grad()
def observed_features(model: Program, data: Inputs, names: Sequence[str] = ()) -> FeatureValues:
    """The data in the form of :func:`decode_features`, NaN where they are missing or masked.

    Args:
        model: the generative program.
        data: its arguments, ``[B, ...]``.
        names: as for :func:`decode_features`.
    """
    batch, known = as_batch(data), getattr(model, "feature_names", None) or {}
    trace = batch(poutine.trace(model).get_trace)
    return _joined(
        (_as_means(site, features, means.shape), features)
        for name, site in _features_of(trace, {})
        for means, features in (_read(name, site, known, names, batch.size),)
    )


def _features_of(trace: Trace, given: Values) -> list[tuple[str, dict[str, Any]]]:
    """The observed sites with their names, without images and without factors."""
    found = []
    for name, site in observed_sites(trace).items():
        if name not in given and not is_factor(site["fn"]) and len(site["fn"].event_shape) < 3:
            found.append((name, site))
    if not found:
        raise ValueError("none of the model's observed sites has features: a mean of shape [B], [B, V] or [B, T, V]")
    return found


def _joined(parts: Iterable[tuple[Tensor, tuple[Feature, ...]]]) -> FeatureValues:
    values: list[Tensor] = []
    features: tuple[Feature, ...] = ()
    for means, own in parts:
        start = sum(one.shape[1] for one in values)
        moved = (replace(one, places=tuple(start + place for place in one.places)) for one in own)
        features = (*features, *moved) if start else own
        values.append(means.reshape(len(means), -1))
    return FeatureValues(torch.cat([one.to(values[0]) for one in values], 1), features)


def _read(
    name: str, site: dict[str, Any], known: Mapping[str, Sequence[str]], others: Sequence[str], size: int
) -> tuple[Tensor, tuple[Feature, ...]]:
    """The means of a site, ``[B, ...]``, and its features, whose places are those in its flattened numbers."""
    fn = site["fn"]
    means = observed_means(name, fn)
    if not fn.batch_shape:
        means = means.expand(size, *means.shape)
    names, shape = tuple(known.get(name, ())), means.shape[1:]
    if are_categories(fn):
        return means, _categories(name, names, shape)
    if shape and names and len(names) != shape[-1]:
        raise ValueError(
            f"model.feature_names has {len(names)} names for site '{name}', which has {shape[-1]} features"
        )
    if not names and shape and len(others) == shape[-1]:
        names = tuple(others)
    if hasattr(inner(fn), "feature_means"):
        return means, _grouped(name, names, shape)
    return means, _numbers(name, names, shape, are_counts(fn))


@lru_cache(maxsize=32)  # of 20,000 genes the same for each batch
def _numbers(site: str, names: tuple[str, ...], shape: torch.Size, counted: bool) -> tuple[Feature, ...]:
    """A feature for each place in the last dimension, with what stands before it as steps in time."""
    if not shape:
        return (Feature(names[0] if names else site, (0,), counted=counted),)
    names = names or tuple(f"{site}[{at}]" for at in range(shape[-1]))
    places = torch.arange(math.prod(shape)).view(-1, shape[-1]).T.tolist()
    return tuple(Feature(one, tuple(own), counted=counted) for one, own in zip(names, places, strict=True))


@lru_cache(maxsize=32)
def _categories(site: str, names: tuple[str, ...], shape: torch.Size) -> tuple[Feature, ...]:
    """Of categoricals with probabilities [..., K]: a feature for each."""
    *many, width = shape
    places = torch.arange(math.prod(shape)).view(-1, width).tolist()
    numbers = tuple(str(k) for k in range(width))
    if not many:
        return (Feature(site, tuple(places[0]), names if len(names) == width else numbers),)
    own = [f"{site}[{','.join(map(str, at))}]" for at in product(*map(range, many))]
    owners = names if len(names) == len(own) else own
    return tuple(Feature(one, tuple(some), numbers) for one, some in zip(owners, places, strict=True))


@lru_cache(maxsize=32)
def _grouped(site: str, names: tuple[str, ...], shape: torch.Size) -> tuple[Feature, ...]:
    """Features of the columns of a table: ``column = label`` of one column after the other are its categories."""
    names = names or tuple(f"{site}[{at}]" for at in range(shape[-1]))
    found = []
    for column, group in groupby(enumerate(names), lambda at: at[1].partition(BETWEEN)[0]):
        places, members = zip(*group, strict=True)
        if len(places) > 1:
            found.append(Feature(column, places, tuple(name.partition(BETWEEN)[2] for name in members)))
        else:
            found.append(Feature(members[0], places))
    return tuple(found)


def _as_means(site: dict[str, Any], features: Sequence[Feature], shape: torch.Size) -> Tensor:
    """Observed values in the shape of the means: categories as indicators, what is missing as NaN, [B, M]."""
    fn, value = site["fn"], torch.as_tensor(site["value"])
    value = torch.where(where_known(site), value.to(torch.get_default_dtype()), torch.nan)
    value = value.expand(shape[:1] + fn.batch_shape[1:] + fn.event_shape)
    value = value.reshape(len(value), -1)
    if value.shape[1] == math.prod(shape[1:]):
        return value
    parts = []
    for column, feature in zip(value.unbind(1), features, strict=True):
        if feature.labels:
            known = column.isfinite()
            codes = torch.where(known, column, 0).long()
            shown = one_hot(codes, len(feature.labels)).to(value)
            shown[~known] = torch.nan
            parts.append(shown)
        else:
            parts.append(column[:, None])
    return torch.cat(parts, 1)
