"""Whether a class of data keeps what :class:`~pyro_hfvae.data.Data` promises: found before training."""

from typing import get_args

import torch
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.data import Data, FactorKind

__all__ = ["check_batch", "check_contract", "described", "own_test_set"]


def check_contract(data: Data) -> None:
    """Checks the description of the factors and the factors of some data.

    Raises:
        ValueError: they do not fit one another; names the class.
    """
    kind = type(data).__name__
    names, sizes, kinds = data.factor_names, data.factor_sizes, data.factor_kinds
    if not len(names) == len(sizes) == len(kinds):
        raise ValueError(
            f"{kind} has {len(names)} factor_names, {len(sizes)} factor_sizes and {len(kinds)} factor_kinds: give one "
            "of each for each factor"
        )
    for name, chosen in zip(names, kinds, strict=True):
        if not (isinstance(name, str) and name and name.isprintable()) or list(names).count(name) > 1:
            raise ValueError(f"factor_names of {kind} holds {name!r}, expected different names that can be printed")
        if chosen not in get_args(FactorKind):
            expected = ", ".join(get_args(FactorKind))
            raise ValueError(f"factor '{name}' of {kind} is of kind {chosen!r}; the kinds are {expected}")
    some = torch.linspace(0, len(data) - 1, min(len(data), 100)).long()
    factors = data.factors(some)
    if not isinstance(factors, Tensor) or factors.is_complex() or factors.shape != (len(some), len(names)):
        raise ValueError(
            f"factors of {kind} must return integers of shape {[len(some), len(names)]} for {len(some)} indices, got "
            f"{described(factors)}"
        )
    if factors.is_floating_point() and factors.dtype != torch.float64:
        raise ValueError(
            f"factors of {kind} must return integers of shape {[len(some), len(names)]}, or float64 where a factor is "
            f"continuous or missing, got {described(factors)}"
        )
    for place, (name, size, chosen) in enumerate(zip(names, sizes, kinds, strict=True)):
        values = factors[:, place]
        values = values[~values.isnan()]
        if chosen == "continuous":
            outside = ~values.isfinite()
            expected = "finite numbers"
        else:
            outside = (values < 0) | (values >= size) | (values != values.round())
            expected = f"0 to {int(size) - 1}"
        if outside.any():
            raise ValueError(
                f"factor '{name}' of {kind} has the value {values[outside][0].item():g}, expected {expected}"
            )


def check_batch(data: Data, found: object, count: int) -> None:
    """Checks what the class returned for so many indices.

    Raises:
        ValueError: no named tensors with a row for each index, or the first of them is not floating-point.
    """
    kind = type(data).__name__
    if not isinstance(found, Batch) or not found:
        raise ValueError(
            f"batch of {kind} must return a pyro_hfvae.data.Batch of named tensors, got {described(found)}"
        )
    if "target" in found.others:
        raise ValueError(
            f"a batch of {kind} names a tensor 'target', which pairs give to programs: choose another name"
        )
    for place, (name, tensor) in enumerate(found.items()):
        floating = isinstance(tensor, Tensor) and tensor.is_floating_point()
        if not isinstance(tensor, Tensor) or (not place and not floating) or not tensor.ndim or len(tensor) != count:
            wanted = "a tensor" if place else "a floating-point tensor"
            raise ValueError(
                f"'{name}' of a batch of {kind} must be {wanted} with {count} rows for {count} indices, got "
                f"{described(tensor)}"
            )


def own_test_set(data: Data) -> Tensor | None:
    """The indices of the data's own test set, as int64.

    Raises:
        ValueError: they are no tensor of integers, are outside the data, or name a datum twice.
    """
    given, kind, size = data.held_out, type(data).__name__, len(data)
    if given is None:
        return None
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_floating_point() or given.ndim != 1:
        raise ValueError(f"held_out of {kind} must be a tensor of indices, integers [M], got {described(given)}")
    indices = given.cpu().long()
    if len(indices) and not (indices.min() >= 0 and indices.max() < size):
        outside = next(int(value) for value in indices if not 0 <= value < size)
        raise ValueError(f"held_out of {kind} names datum {outside}, but there are {size:,}, from 0 to {size - 1}")
    values, counts = indices.unique(return_counts=True)
    if len(values) < len(indices):
        raise ValueError(f"held_out of {kind} names datum {int(values[counts.argmax()])} {int(counts.max())} times")
    return indices


def described(value: object) -> str:
    """The type and the shape of a tensor, or the class of anything else, for a message."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
