"""Integers as users have them (tensors, NumPy arrays, lists) as the int64 tensors that everything here works with."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Integers", "as_integers"]

Integers: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
"""What :func:`as_integers` takes."""


def as_integers(name: str, given: Integers, shape: str) -> Tensor:
    """Integers of any width as int64, on the CPU.

    Args:
        name: of the argument, for the error.
        given: the integers.
        shape: their dimensions, as the error gives them: a number where one is fixed, ``[P, 2]``.

    Raises:
        ValueError: no integers, or not of that shape.
    """
    try:
        array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} must be integers {shape}, got lists of different lengths") from error
    if array.size == 0:
        array = array.astype(np.int64)  # nothing has no type
    wanted = shape.strip("[]").split(", ")
    fits = len(wanted) == array.ndim and all(
        not size.isdigit() or int(size) == found for size, found in zip(wanted, array.shape, strict=True)
    )
    if array.dtype.kind not in "iu" or not fits:
        raise ValueError(f"{name} must be integers {shape}, got {array.dtype} {list(array.shape)}")
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ValueError(f"{name} must be integers below 2^63, got {array.max()}")
    return torch.from_numpy(array.astype(np.int64))
