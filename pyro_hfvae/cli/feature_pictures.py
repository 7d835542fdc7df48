"""Pictures of a run whose data are no images: profiles of columns, top features, lines over time, sets of objects."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure

from pyro_hfvae.batch import Batch
from pyro_hfvae.cli.encoded import Encoded, Pictures, Start, picture_file
from pyro_hfvae.paint import FeatureReader, FeatureValues, like, quantile_range, respond
from pyro_hfvae.plot import Responses, line_grid, object_grid, profile_grid, top_features
from pyro_hfvae.train import LoadedRun

__all__ = ["feature_reader", "feature_traversals"]

POINTS = 25
"""Of a variable in a profile, which is a curve."""
FEW = 9
"""Counts of so many kinds, or of fewer, have a profile each."""


def feature_reader(run: LoadedRun, data: Batch) -> FeatureReader:
    """Reads the features of a run in the units of its data.

    Args:
        run: a run that is loaded.
        data: held-out data, among which one is looked for whose covariates can stand for all.
    """
    source = run.data.source
    units = [column for column in getattr(source, "columns", ()) if column.scale]
    return FeatureReader(run.model, like(data), source.feature_names, units)


def feature_traversals(
    reader: FeatureReader, data: Encoded, observed: FeatureValues, start: Start, columns: int
) -> Pictures:
    """Each variable of each block through its range, in the picture that suits what is observed.

    Args:
        reader: of the features.
        data: held-out data.
        observed: their features.
        start: where all else is held.
        columns: lines of a variable, in pictures of sequences.
    """
    over_time = [feature.over_time for feature in observed.features]
    many_counts = all(feature.counted for feature in observed.features) and len(observed.features) > FEW
    place = f"; {_covariates(reader)}" if reader.one.others else ""
    for block, variables in data.blocks.items():
        ranges = quantile_range(data.draws, variables)
        shown = columns if any(over_time) else POINTS
        found = respond(reader, start.latents, observed, variables, ranges, shown)
        title = f"{block}, {start.without(variables)}{place}"
        name = picture_file(f"{start.prefix}traversal_", block)
        if many_counts:
            yield name, top_features(found, title)
        elif any(over_time):
            draw = object_grid if data.run.data.source.objects else line_grid
            yield name, draw(_only(found, over_time), title)
            if not all(over_time):
                others = _only(found, [not over for over in over_time])
                yield picture_file(f"{start.prefix}profile_", block), _profiles(others, title)
        else:
            yield name, _profiles(found, title)


def _profiles(found: Sequence[Responses], title: str) -> Figure:
    return profile_grid(
        found, f"{title}; from the 1\u00a0% to the 99\u00a0% quantile of q(z); grey: nine tenths of the data"
    )


def _only(found: Sequence[Responses], chosen: Sequence[bool]) -> list[Responses]:
    """Some of the features."""
    return [
        replace(one, features=[feature for feature, kept in zip(one.features, chosen, strict=True) if kept])
        for one in found
    ]


def _covariates(reader: FeatureReader) -> str:
    """The covariates that all are decoded with: numbers, and the place of a one-hot."""
    parts = []
    for name, value in reader.one.others.items():
        numbers = value[0].flatten()
        if len(numbers) == 1:
            parts.append(f"{name} {numbers.item():,.4g}")
        elif torch.count_nonzero(numbers) == 1 and numbers.max() == 1:
            parts.append(f"{name} {int(numbers.argmax())}")
    return ", ".join(parts) or "covariates of one datum"
