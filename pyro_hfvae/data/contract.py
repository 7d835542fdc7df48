"""Whether a class of images keeps what :class:`~pyro_hfvae.data.Images` promises: found before training."""

from typing import get_args

import torch
from torch import Tensor

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.images import Images

__all__ = ["check_contract", "check_images", "own_test_set"]


def check_contract(images: Images) -> None:
    """Checks the description of the factors and the factors of some data.

    Raises:
        ValueError: they do not fit one another; names the class.
    """
    kind = type(images).__name__
    names, sizes, kinds = images.factor_names, images.factor_sizes, images.factor_kinds
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
    some = torch.linspace(0, len(images) - 1, min(len(images), 100)).long()
    factors = images.factors(some)
    if (
        not isinstance(factors, Tensor)
        or factors.is_floating_point()
        or factors.is_complex()
        or factors.shape != (len(some), len(names))
    ):
        raise ValueError(
            f"factors of {kind} must return integers of shape {[len(some), len(names)]} for {len(some)} indices, got "
            f"{_described(factors)}"
        )
    for place, (name, size) in enumerate(zip(names, sizes, strict=True)):
        if factors[:, place].min() < 0 or factors[:, place].max() >= size:
            outside = next(int(value) for value in factors[:, place] if not 0 <= value < size)
            raise ValueError(f"factor '{name}' of {kind} has the value {outside}, expected 0 to {int(size) - 1}")


def check_images(images: Images, found: object, count: int) -> None:
    """Checks what the class returned for so many indices.

    Raises:
        ValueError: no floating-point tensor with a row for each index, or images of another shape than ``image_shape``.
    """
    kind = type(images).__name__
    if not isinstance(found, Tensor) or not found.is_floating_point() or not found.ndim or len(found) != count:
        raise ValueError(
            f"images of {kind} must return a floating-point tensor with {count} rows for {count} indices, got "
            f"{_described(found)}"
        )
    shape = getattr(images, "image_shape", None)
    if found.ndim == 4 and shape is not None and tuple(found.shape[1:]) != tuple(shape):
        raise ValueError(
            f"images of {kind} returns the shape {list(found.shape)}, but its image_shape is {list(shape)}: they must "
            "be the same, channels first"
        )


def own_test_set(images: Images) -> Tensor | None:
    """The indices of the data's own test set, as int64.

    Raises:
        ValueError: they are no tensor of integers, are outside the data, or name an image twice.
    """
    given, kind, size = images.held_out, type(images).__name__, len(images)
    if given is None:
        return None
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_floating_point() or given.ndim != 1:
        raise ValueError(f"held_out of {kind} must be a tensor of indices, integers [M], got {_described(given)}")
    indices = given.cpu().long()
    if len(indices) and not (indices.min() >= 0 and indices.max() < size):
        outside = next(int(value) for value in indices if not 0 <= value < size)
        raise ValueError(f"held_out of {kind} names image {outside}, but there are {size:,}, from 0 to {size - 1}")
    values, counts = indices.unique(return_counts=True)
    if len(values) < len(indices):
        raise ValueError(f"held_out of {kind} names image {int(values[counts.argmax()])} {int(counts.max())} times")
    return indices


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
