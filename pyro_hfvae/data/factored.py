"""Data whose factors are columns beside them: classes with labels, or values, missing or not."""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_hfvae.data.cells import as_labels, content_of
from pyro_hfvae.data.columns import Column
from pyro_hfvae.data.data import Data, FactorKind
from pyro_hfvae.data.integers import Integers, as_integers

__all__ = ["FactoredData"]

FEW = 20
"""Whole numbers of which so many different ones or fewer occur are classes, unless the user has it otherwise."""


class FactoredData(Data):
    """Data with a table of factors in memory."""

    _factors: Tensor

    def factors(self, indices: Integers) -> Tensor:
        """Factors at ``indices`` [B]: int64 [B, F], or float64 where one is continuous or has missing values."""
        return self._factors[self._checked(indices)]

    def _set_factors(self, columns: Mapping[str, pd.Series], kinds: Mapping[str, FactorKind]) -> None:
        """Takes the factors from columns [N], and their kinds from the user, or from their content.

        Texts, truth values and whole numbers of which 20 different ones or fewer occur are categorical, all other
        numbers and dates (seconds since 1970) continuous. The classes of a factor are the values that occur, sorted.

        Raises:
            ValueError: a kind that is none, of no factor or that the values do not have; a factor that is missing of
                all data; names the factor.
        """
        for name, kind in kinds.items():
            if name not in columns:
                raise ValueError(f"factor_kinds names '{name}', which is no factor; the factors are {_names(columns)}")
            if kind not in get_args(FactorKind):
                expected = ", ".join(get_args(FactorKind))
                raise ValueError(f"factor '{name}' is of kind {kind!r}; the kinds are {expected}")
        found, chosen, sizes, labels = [], [], [], {}
        for name, values in columns.items():
            if values.isna().all():
                raise ValueError(f"factor '{name}' is missing of all data: leave it out")
            kind = kinds.get(name) or _kind(name, values)
            if kind == "continuous":
                time = content_of(name, values) == "time"
                found.append(Column(name, "time" if time else "number").numbers(values))
                sizes.append(0)
            else:
                if kind != "categorical" and content_of(name, values) == "text":
                    raise ValueError(
                        f"factor '{name}' holds texts, whose order is not known, and cannot be {kind}: give numbers"
                    )
                codes, labels[name] = as_labels(name, values)
                found.append(np.where(codes < 0, np.nan, codes))
                sizes.append(len(labels[name]))
            chosen.append(kind)
        table = np.stack(found, axis=1) if found else np.zeros((len(self), 0))
        whole = "continuous" not in chosen and not np.isnan(table).any()
        self._factors = torch.from_numpy(table.astype(np.int64) if whole else table)
        self.factor_names, self.factor_kinds, self.factor_sizes = tuple(columns), tuple(chosen), tuple(sizes)
        self.factor_labels = labels

    def _set_held_out(self, held_out: str | Sequence[int] | None, column: Callable[[str], pd.Series]) -> None:
        """Takes the numbers of the held-out data, from a column of marks or as they stand.

        Raises:
            ValueError: they name no part of the data, or all.
        """
        if held_out is None:
            return
        if isinstance(held_out, str):
            marks = Column(held_out, "flag").numbers(column(held_out))
            if np.isnan(marks).any() or not 0 < marks.sum() < len(marks):
                raise ValueError(
                    f"column '{held_out}' marks {np.nansum(marks):.0f} of {len(marks):,} data as held out, and "
                    f"{np.isnan(marks).sum()} are neither marked nor not: expected some marked, not all"
                )
            self.held_out = torch.from_numpy(np.flatnonzero(marks))
            return
        numbers = as_integers("held_out", held_out, "[M]").sort().values
        inside = bool(len(numbers)) and int(numbers[0]) >= 0 and int(numbers[-1]) < len(self)
        if not inside or len(numbers) == len(self) or len(numbers.unique()) < len(numbers):
            raise ValueError(
                f"held_out has {len(numbers)} numbers, expected different ones from 0 to {len(self) - 1}, some but not "
                "all"
            )
        self.held_out = numbers

    def _not_held_out(self) -> Tensor:
        """The numbers of all other data, [M]."""
        training = torch.ones(len(self), dtype=torch.bool)
        if self.held_out is not None:
            training[self.held_out] = False
        return training.nonzero().squeeze(1)


def _kind(name: str, values: pd.Series) -> FactorKind:
    content = content_of(name, values)
    if content == "number":
        numbers = Column(name, "number").numbers(values)
        numbers = numbers[~np.isnan(numbers)]
        few = bool((numbers == np.floor(numbers)).all()) and len(np.unique(numbers)) <= FEW
        return "categorical" if few else "continuous"
    return "continuous" if content == "time" else "categorical"


def _names(columns: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in columns) or "none"
