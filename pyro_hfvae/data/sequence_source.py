"""Sequences as users have them (npz files, long tables, series of the UEA archive) as one padded array."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hfvae.data.columns import Column, kind_of
from pyro_hfvae.data.npz import naming, read_all
from pyro_hfvae.data.table_rows import quoted
from pyro_hfvae.data.table_source import TableSource, located, open_table
from pyro_hfvae.data.ts_file import read_ts

__all__ = ["SequenceSource", "open_sequences"]


@dataclass(frozen=True)
class SequenceSource:
    """Sequences, and what is known of each.

    Attributes:
        file: that they come from; None of those in memory.
        x: the values, [N, T, V]; beyond the end of a sequence anything.
        lengths: number of steps of each, [N].
        feature_names: names of the V features.
        column: what is known of each sequence under a name, [N].
    """

    file: Path | None
    x: NDArray[Any]
    lengths: NDArray[np.int64]
    feature_names: tuple[str, ...]
    column: Callable[[str], pd.Series]


def open_sequences(
    source: str | Path | pd.DataFrame,
    test: str | None,
    identity: str,
    time: str,
    beside: Sequence[str],
    drop: Sequence[str],
) -> SequenceSource:
    """Opens sequences.

    Args:
        source: a file or a long table.
        test: a second ``.ts`` file, whose series come last; their column ``test`` is 1.
        identity: the column of a long table that names the sequence of each row.
        time: the column of a long table by which the rows of a sequence are ordered.
        beside: columns that are known of each sequence and no features.
        drop: columns that are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file; names it.
    """
    if isinstance(source, pd.DataFrame):
        return _of_table(open_table(source), identity, time, beside, drop)
    suffix = Path(source).suffix.lower()
    if suffix not in (".npz", ".ts"):
        table = open_table(source)
        with naming(table.file):
            return _of_table(table, identity, time, beside, drop)
    file = located(source, "sequences")
    if suffix == ".ts":
        return _of_series(file, None if test is None else located(test, "sequences"))
    with naming(file):
        return _of_arrays(file, read_all(file, "an npz file of sequences"))


def _of_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> SequenceSource:
    if "x" not in arrays:
        raise ValueError(f"there is no x, [N, T, V]; there is: {', '.join(arrays) or 'nothing'}")
    x = arrays.pop("x")
    if x.ndim != 3 or x.dtype.kind not in "biuf" or not x.size:
        raise ValueError(f"x is {x.dtype} {list(x.shape)}, expected numbers [N, T, V]")
    count, steps, features = x.shape
    lengths = arrays.pop("lengths", np.full(count, steps))
    if lengths.dtype.kind not in "iu" or lengths.shape != (count,):
        raise ValueError(f"lengths is {lengths.dtype} {list(lengths.shape)}, expected integers [{count}]")
    if ((lengths < 1) | (lengths > steps)).any():
        place = int(((lengths < 1) | (lengths > steps)).argmax())
        raise ValueError(f"lengths has {lengths[place]} for sequence {place}, expected 1 to {steps}, the steps of x")
    names = arrays.pop("feature_names", np.array([f"x{place}" for place in range(features)]))
    if names.dtype.kind != "U" or names.shape != (features,) or len(set(names.tolist())) < features:
        raise ValueError(f"feature_names is {names.tolist()}, expected {features} different texts")

    def column(name: str) -> pd.Series:
        if name not in arrays:
            raise ValueError(f"there is no array '{name}'; beside x there are {quoted(list(arrays)) or 'none'}")
        if arrays[name].shape != (count,):
            raise ValueError(
                f"{name} is {arrays[name].dtype} {list(arrays[name].shape)}, expected [{count}], a value for each "
                "sequence"
            )
        return pd.Series(arrays[name])

    return SequenceSource(file, x, lengths.astype(np.int64), tuple(names.tolist()), column)


def _of_series(file: Path, test: Path | None) -> SequenceSource:
    training = read_ts(file)
    held_out = None if test is None else read_ts(test)
    values = training.values + (held_out.values if held_out else [])
    labels = training.labels + (held_out.labels if held_out else [])
    if len({series.shape[1] for series in values}) > 1 or len(labels) not in (0, len(values)):
        raise ValueError(f"'{test}' has other features than '{file}', or only one of them has classes")
    known = {"test": np.arange(len(values)) >= len(training.values)} | ({"class": np.array(labels)} if labels else {})

    def column(name: str) -> pd.Series:
        if name not in known:
            raise ValueError(f"there is no '{name}'; of series of this file are known {quoted(list(known))}")
        return pd.Series(known[name])

    x, lengths = _padded(values)
    return SequenceSource(file, x, lengths, tuple(f"x{place}" for place in range(x.shape[2])), column)


def _of_table(
    table: TableSource, identity: str, time: str, beside: Sequence[str], drop: Sequence[str]
) -> SequenceSource:
    """Sequences of a long table, in the order in which they begin there."""
    for name in (identity, time, *beside, *drop):
        if name not in table.names:
            raise ValueError(f"there is no column '{name}'; the columns are {quoted(table.names)}")
    columns = {name: table.column(name) for name in table.names if name not in drop}
    for name in (identity, time):
        if columns[name].isna().any():
            raise ValueError(f"column '{name}' has no value in row {int(columns[name].isna().to_numpy().argmax())}")
    codes, identities = pd.factorize(columns[identity])
    when = columns[time]
    instants = Column(time, "time" if kind_of(time, when) == "time" else "number").numbers(when)
    order = np.lexsort((instants, codes))
    codes, instants = codes[order], instants[order]
    if (again := (np.diff(codes) == 0) & (np.diff(instants) == 0)).any():
        place = order[int(again.argmax()) + 1]
        raise ValueError(f"'{columns[identity].iloc[place]}' has more than one row at the time '{when.iloc[place]}'")
    features = [name for name in columns if name not in (identity, time, *beside)]
    if not features:
        raise ValueError("no column is left for x")
    lengths = np.bincount(codes)
    steps = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    x = np.zeros((len(lengths), int(lengths.max()), len(features)))
    for place, name in enumerate(features):
        numbers = Column(name, "number").numbers(columns[name])
        if np.isnan(numbers).any():
            raise ValueError(f"column '{name}' has no value in row {int(np.isnan(numbers).argmax())}: missing values "
                "are not read")  # fmt: skip
        x[codes, steps, place] = numbers[order]

    def column(name: str) -> pd.Series:
        values = columns[name].iloc[order].reset_index(drop=True)
        first = values.iloc[np.cumsum(lengths) - lengths].reset_index(drop=True)
        spread = first.iloc[codes].reset_index(drop=True)
        other = ((values != spread) & ~(values.isna() & spread.isna())).to_numpy()
        if other.any():
            raise ValueError(
                f"'{identities[codes[other.argmax()]]}' has more than one value in column '{name}', expected one for "
                "each sequence"
            )
        return first

    return SequenceSource(table.file, x, lengths.astype(np.int64), tuple(features), column)


def _padded(values: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[N, T, V] and [N] of series [T_n, V]."""
    lengths = np.array([len(series) for series in values], dtype=np.int64)
    x = np.zeros((len(values), int(lengths.max()), values[0].shape[1]))
    for place, series in enumerate(values):
        x[place, : len(series)] = series
    return x, lengths
