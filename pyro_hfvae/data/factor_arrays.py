"""Factors and held-out data from the arrays of an npz file."""

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.factor_values import Factors

__all__ = ["KNOWN", "factors_of", "held_out_of"]

KNOWN = ("factors", "factor_names", "factor_kinds", "held_out")
"""The arrays that are looked for."""


def factors_of(content: Mapping[str, NDArray[Any]], data: int) -> Factors:
    """Factors, their names, sizes and kinds.

    Args:
        content: of the file.
        data: N, how many there are.

    Raises:
        ValueError: they do not fit the data, or one another; names the array.
    """
    factors = content.get("factors", np.zeros((data, 0), dtype=np.int64))
    if factors.dtype.kind not in "iu" or factors.ndim != 2 or len(factors) != data:
        raise ValueError(
            f"factors is {factors.dtype} {list(factors.shape)}, expected integers [{data}, F], a column for each factor"
        )
    if factors.size and factors.max() >= 2**31:
        raise ValueError(f"factors holds {factors.max()}, expected classes that are counted from 0")
    if factors.size and factors.min() < 0:
        raise ValueError(
            f"factors holds {factors.min()}, expected classes from 0; what is known of some images alone can be "
            "given to pairs as groups (pyro_hfvae.weak.Groups)"
        )
    count = factors.shape[1]
    names = content.get("factor_names", np.zeros(0, dtype=str))
    if names.dtype.kind != "U" or names.shape != (count,) or len(set(names.tolist())) < count:
        raise ValueError(f"factor_names is {names.tolist()}, expected {count} different names, one for each factor")
    if unprintable := [name for name in names.tolist() if not (name and name.isprintable())]:
        raise ValueError(f"factor_names holds {unprintable[0]!r}, expected names that can be printed")
    kinds = content.get("factor_kinds", np.full(count, "categorical"))
    if kinds.shape != (count,) or not set(kinds.tolist()) <= set(get_args(FactorKind)):
        raise ValueError(f"factor_kinds is {kinds.tolist()}, expected {count} of {', '.join(get_args(FactorKind))}")
    largest = factors.max(axis=0).tolist() if count else ()
    sizes = tuple(0 if kind == "continuous" else top + 1 for kind, top in zip(kinds.tolist(), largest, strict=True))
    return Factors(tuple(names.tolist()), sizes, tuple(kinds.tolist()), {}, torch.from_numpy(factors.astype(np.int64)))


def held_out_of(content: Mapping[str, NDArray[Any]], size: int) -> Tensor | None:
    """Numbers of the data that are held out, ascending, or None where nothing is known of that.

    Args:
        content: of the file.
        size: N, how many data there are.

    Raises:
        ValueError: they are no such numbers.
    """
    if "held_out" not in content:
        return None
    given = content["held_out"]
    if given.dtype.kind == "b" and given.shape == (size,):
        return torch.from_numpy(np.flatnonzero(given))
    if given.dtype.kind not in "iu" or given.ndim != 1 or not given.size or given.min() < 0 or given.max() >= size:
        raise ValueError(
            f"held_out is {given.dtype} {list(given.shape)}, expected numbers from 0 to {size - 1}, or a bool for each "
            f"of the {size} images"
        )
    numbers, counts = np.unique(given.astype(np.int64), return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"held_out names image {numbers[counts.argmax()]} {counts.max()} times: give each number once, and a mask "
            "of zeros and ones as bool"
        )
    return torch.from_numpy(numbers)
