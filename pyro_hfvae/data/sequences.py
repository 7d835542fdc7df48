"""Sequences of several features, of one length or of many."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.columns import Column
from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.factored import FactoredData
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.moments import Moments, moments
from pyro_hfvae.data.npz import naming
from pyro_hfvae.data.sequence_source import SequenceSource, open_sequences

__all__ = ["Sequences"]

BLOCK = 2**22
"""Values that are looked at together where all are read."""


class Sequences(FactoredData):
    """Sequences: x is ``[B, T, V]``, float32, zeros beyond the end, with ``lengths``, ``[B]``, int64.

    T is the greatest length. All values must be there: missing ones are refused.

    Args:
        source: a file that ends in ``.npz``, with ``x`` (numbers, [N, T, V]) and, as far as they are known, ``lengths``
            (integers from 1 to T, [N]), ``feature_names`` ([V]) and arrays [N] of factors; in ``.ts``, the text format
            of the UEA archive, whose classes are called ``class``; or in ``.csv`` or ``.parquet``, a long table with a
            row for each step, or such a pandas frame. A file that is not absolute is looked for here and then in the
            data root (:func:`~pyro_hfvae.data.data_root`).
        factors: arrays or columns that are known factors of the sequences; in a long table each sequence must have
            one value.
        factor_kinds: of factors, by name; by default texts, flags and few whole numbers are ``categorical``, all others
            ``continuous``.
        standardise: make x (value - mean) / deviation, over all steps of the training sequences.
        held_out: the data's own test set: an array or column of 0 and 1, numbers of sequences from 0, or, of ``.ts``, a
            second file.
        identity: the column of a long table that names the sequence; they are numbered in the order in which they
            begin.
        time: the column of a long table that orders the steps of a sequence; distances in time are not used.
        drop: columns of a long table that are left out.

    Attributes:
        columns: of the V features, all ``number``, with the mean and scale that x was standardised by.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, a value is missing or infinite, a feature never varies, or lengths are not from
            1 to T; names the file, and the sequence or the row.
    """

    columns: tuple[Column, ...]

    def __init__(
        self,
        source: str | Path | pd.DataFrame,
        factors: Sequence[str] = (),
        factor_kinds: Mapping[str, FactorKind] | None = None,
        standardise: bool = True,
        held_out: str | Sequence[int] | None = None,
        identity: str = "id",
        time: str = "time",
        drop: Sequence[str] = (),
    ) -> None:
        test = held_out if isinstance(held_out, str) and held_out.lower().endswith(".ts") else None
        held_out = "test" if test else held_out
        beside = [*factors, *([held_out] if isinstance(held_out, str) else [])]
        found = open_sequences(source, test, identity, time, beside, drop)
        self._standardise = standardise
        with naming(found.file):
            self._lengths = torch.from_numpy(found.lengths)  # [N]
            self.columns = tuple(Column(name, "number") for name in found.feature_names)
            self.feature_names = found.feature_names
            self._mean, self._scale = np.zeros(len(self.columns)), np.ones(len(self.columns))
            self._x, self._units = _kept(found, standardise)
            self._set_factors({name: found.column(name) for name in factors}, factor_kinds or {})
            self._set_held_out(held_out, found.column)
            self.prepare(self._not_held_out())

    def __len__(self) -> int:
        return len(self._lengths)

    def prepare(self, training_indices: Tensor) -> None:
        """Standardises by the steps of the sequences that are trained on; until then, by all that are not held out.

        Args:
            training_indices: int64, [M], each once.

        Raises:
            ValueError: a feature does not vary among them; names it.
        """
        if not self._standardise:
            return
        centres, units = self._units
        found = _moments(self._x, self._lengths.numpy(), training_indices.numpy())
        for column, deviation in zip(self.columns, found.scale, strict=True):
            if not 0 < deviation < np.inf:
                raise ValueError(
                    f"feature '{column.name}' has the standard deviation {deviation:g} among the "
                    f"{len(training_indices):,} sequences that are trained on, and cannot be standardised"
                )
        self._mean, self._scale = found  # in the units of what is kept, [V]
        means, scales = centres + units * found.mean, units * found.scale
        self.columns = tuple(
            replace(column, mean=float(mean), scale=float(scale))
            for column, mean, scale in zip(self.columns, means, scales, strict=True)
        )

    def batch(self, indices: Integers) -> Batch:
        """The sequences at ``indices`` [B]: x, float32 [B, T, V], zeros beyond the end, and lengths, int64 [B]."""
        indices = self._checked(indices)
        lengths = self._lengths[indices]
        values = self._x[indices.numpy()]  # [B, T, V], a copy; about 0, so that float32 suffices
        values -= self._mean.astype(np.float32)
        values /= self._scale.astype(np.float32)
        x = torch.from_numpy(values)
        beyond = torch.arange(x.shape[1]) >= lengths.unsqueeze(1)  # [B, T]
        return Batch(x=x.masked_fill_(beyond.unsqueeze(2), 0.0), lengths=lengths)

    def decode(self, x: Tensor) -> Tensor:
        """What x means in the units of the data.

        Args:
            x: as batches have it, [..., V].

        Returns:
            float64, [..., V].
        """
        mean, scale = (
            x.new_tensor([getattr(column, name) for column in self.columns], dtype=torch.float64)
            for name in ("mean", "scale")
        )
        return x.double() * scale + mean


class _Steps:
    """The steps of sequences as rows, [B · T, V]; NaN beyond the end."""

    def __init__(self, x: NDArray[Any], lengths: NDArray[np.int64]) -> None:
        self._x, self._lengths = x, lengths

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        values = np.asarray(self._x[indices], dtype=np.float64)
        values[np.arange(values.shape[1]) >= self._lengths[indices, None]] = np.nan
        return values.reshape(-1, values.shape[2])


def _moments(x: NDArray[Any], lengths: NDArray[np.int64], indices: NDArray[np.int64]) -> Moments:
    """Of each feature over all steps of some sequences."""
    return moments(_Steps(x, lengths), indices, max(1, BLOCK // (x.shape[1] * x.shape[2])))


def _kept(found: SequenceSource, standardise: bool) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What is kept of x, float32 [N, T, V], about 0 in units of its spread, and what 0 and 1 stand for, [2, V]."""
    count, steps, features = found.x.shape
    if count < 2:
        raise ValueError(f"there is {count} sequence, expected 2 or more")
    each = max(1, BLOCK // (steps * features))
    within = np.arange(steps) < found.lengths[:, None]  # [N, T]
    for start in range(0, count, each):
        wrong = ~np.isfinite(found.x[start : start + each]) & within[start : start + each, :, None]
        if wrong.any():
            n, t, v = (int(place) for place in np.argwhere(wrong)[0])
            raise ValueError(
                f"feature '{found.feature_names[v]}' has {found.x[start + n, t, v]:g} in sequence {start + n} at step "
                f"{t}, expected finite numbers; lengths gives the steps that a sequence has"
            )
    mean, scale = np.zeros(features), np.ones(features)
    if standardise:
        mean, scale = _moments(found.x, found.lengths, np.arange(count))
    for name, deviation in zip(found.feature_names, scale, strict=True):
        if not 0 < deviation < np.inf:
            raise ValueError(f"feature '{name}' has the standard deviation {deviation:g}: a constant is no feature")
    x = np.zeros(found.x.shape, dtype=np.float32)
    for start in range(0, count, each):
        part = slice(start, start + each)
        x[part] = np.where(within[part, :, None], (found.x[part] - mean) / scale, 0.0)
    return x, np.stack([mean, scale])
