"""Factors from text: the values of file names, folders and tables as classes or numbers."""

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.data import FactorKind

__all__ = ["FactorValues", "Factors", "checked_names", "collected"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MISSING = ("", "?", "na", "n/a", "nan", "none", "null")


class Factors(NamedTuple):
    """Factors as :class:`~pyro_hfvae.data.Data` describes them."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    kinds: tuple[FactorKind, ...]
    labels: Mapping[str, tuple[str, ...]]
    values: Tensor
    """int64, or float64 where a factor is continuous or not known of all data, [N, F]."""


class FactorValues:
    """The values of one factor, collected as text.

    Args:
        name: of the factor.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._texts: dict[str, int] = {}  # in the order in which they were found
        self._places = array("i")

    def __len__(self) -> int:
        return len(self._places)

    def add(self, text: str | None) -> None:
        """The value of the next datum; None and texts like ``?``, ``NA`` and ``nan`` stand for one not known."""
        text = (text or "").strip()
        self._places.append(-1 if text.lower() in _MISSING else self._texts.setdefault(text, len(self._texts)))

    def finished(self, kind: FactorKind | None) -> tuple[FactorKind, tuple[str, ...], NDArray[np.float64]]:
        """Kind, labels and values, [N].

        Args:
            kind: None is ``continuous`` if all values are numbers, and some no whole ones, and ``categorical`` else.

        Returns:
            The kind; the names of its classes, in the order of the numbers if they are numbers, else alphabetically;
            and for each datum the class or number, NaN where it is not known.

        Raises:
            ValueError: the values do not fit the kind, or none is known.
        """
        if not self._texts:
            raise ValueError(f"factor '{self.name}' has no value for any image")
        numbers = [float(text) for text in self._texts if _NUMBER.fullmatch(text)]
        numeric = len(numbers) == len(self._texts)
        if kind is None:
            kind = "continuous" if numeric and not all(number.is_integer() for number in numbers) else "categorical"
        if kind != "categorical" and not numeric:
            text = next(text for text in self._texts if not _NUMBER.fullmatch(text))
            raise ValueError(f"factor '{self.name}' cannot be {kind}: it has the value '{text}', which is no number")
        if kind == "continuous":
            return kind, (), self._spread(np.array(numbers))
        if numeric:
            distinct, classes = np.unique(numbers, return_inverse=True)
            by_number = dict(zip(reversed(numbers), reversed(list(self._texts)), strict=True))  # the first text of each
            labels = tuple(by_number[number] for number in distinct.tolist())
        else:
            labels = tuple(sorted(self._texts))
            place = {label: at for at, label in enumerate(labels)}
            classes = np.array([place[text] for text in self._texts])
        return kind, labels, self._spread(classes.astype(np.float64))

    def _spread(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was found for each text, for each datum."""
        with_missing = np.append(found, np.nan)  # at -1, the place of what is missing
        values: NDArray[np.float64] = with_missing[np.array(self._places)]
        return values


def collected(count: int, columns: Sequence[FactorValues], kinds: Mapping[str, FactorKind] | None) -> Factors:
    """Several factors together, or none.

    Args:
        count: N, the number of data.
        columns: the values of each factor.
        kinds: of factors by name, where they should not follow from the values.

    Raises:
        ValueError: a kind is none or belongs to no factor, or values do not fit it.
    """
    kinds = kinds or {}
    names = checked_names([column.name for column in columns])
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(f"kinds names '{name}', which is no factor; factors are: {', '.join(names) or 'none'}")
        if kind not in get_args(FactorKind):
            raise ValueError(f"kinds has {kind!r} for '{name}', expected {', '.join(get_args(FactorKind))}")
    found = [column.finished(kinds.get(column.name)) for column in columns]
    values = torch.empty(count, len(found), dtype=torch.float64)
    for place, (*_, numbers) in enumerate(found):
        values[:, place] = torch.from_numpy(numbers)
    chosen = tuple(kind for kind, *_ in found)
    classes = "continuous" not in chosen and not values.isnan().any()
    return Factors(
        names,
        tuple(len(labels) for _, labels, _ in found),
        chosen,
        {name: labels for name, (_, labels, _) in zip(names, found, strict=True) if labels},
        values.long() if classes else values,
    )


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of factors, all different.

    Raises:
        ValueError: one is empty, cannot be printed, or stands twice.
    """
    for name in names:
        if not (name and name.isprintable()):
            raise ValueError(f"a factor is called {name!r}, expected a name that can be printed")
        if list(names).count(name) > 1:
            raise ValueError(f"two factors are called '{name}'")
    return tuple(names)
