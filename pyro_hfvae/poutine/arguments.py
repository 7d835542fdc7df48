"""What handlers are given about the data of a batch, as tensors: masks by block, partners, groups, labels."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hfvae.blocks import Layout, block_names

__all__ = [
    "ArrayLike",
    "as_integers",
    "as_mask",
    "as_masks",
    "as_partner_masks",
    "as_partners",
    "as_tensor",
    "integral",
    "kind",
    "names_in_words",
]

ArrayLike = Any
"""A tensor, a NumPy array, or a list."""


def as_masks(masks: Mapping[str, ArrayLike], blocks: Layout | None) -> dict[str, Tensor]:
    """The masks as boolean tensors, by block.

    Raises:
        TypeError: a mask is not boolean.
        ValueError: a mask for what is no block.
    """
    must = "the mask of block '{}' must be a boolean tensor"
    found = {name: as_mask(must.format(name), mask) for name, mask in masks.items()}
    if blocks is not None and (unknown := [name for name in masks if name not in block_names(blocks)]):
        raise ValueError(
            f"there is a mask for '{unknown[0]}', which is no block; the blocks are: "
            f"{names_in_words(block_names(blocks))}"
        )
    return found


def as_mask(must: str, mask: ArrayLike) -> Tensor:
    """A boolean tensor; raises TypeError, which begins with ``must``, for anything else."""
    tensor = as_tensor(mask)
    if tensor is None or (tensor.dtype != torch.bool and not (tensor.numel() == 0 and isinstance(mask, list | tuple))):
        raise TypeError(f"{must}, got {kind(mask)}")
    return tensor.bool()


def as_integers(what: str, values: ArrayLike) -> Tensor:
    """One integer for each datum, int64, [B].

    Raises:
        ValueError: something else; the message begins with ``what``.
    """
    tensor = as_tensor(values)
    if tensor is None or tensor.dim() != 1 or not integral(tensor):
        shape = "" if tensor is None else f" of shape {tuple(tensor.shape)}"
        raise ValueError(f"{what} must be integers of shape (B,), got {kind(values)}{shape}")
    return tensor.long()


def as_partners(partners: ArrayLike) -> Tensor:
    """For each datum the place of its partner in the batch, int64, [B].

    Raises:
        ValueError: something else.
    """
    places = as_integers("partners", partners)
    count = len(places)
    if count and not 0 <= int(places.min()) <= int(places.max()) < count:
        raise ValueError(f"partners must be from 0 to {count - 1}, their places in the batch; got {places.tolist()}")
    return places


def as_partner_masks(
    masks: Mapping[str, ArrayLike], partners: ArrayLike, blocks: Layout | None
) -> tuple[dict[str, Tensor], Tensor]:
    """The masks, by block, and the partners, one entry for each datum in all of them, ``[B]``.

    Raises:
        TypeError: a mask is not boolean.
        ValueError: something else than partners, shapes that differ, or a mask for what is no block.
    """
    places, found = as_partners(partners), as_masks(masks, blocks)
    for name, mask in found.items():
        if mask.shape != places.shape:
            raise ValueError(
                f"the mask of block '{name}' has the shape {tuple(mask.shape)}, but there are {len(places)} partners"
            )
    return found, places


def names_in_words(names: Iterable[str]) -> str:
    """The names in quotes, for messages."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def as_tensor(values: ArrayLike) -> Tensor | None:
    """None for what is no array of numbers."""
    if not isinstance(values, Tensor | np.ndarray | list | tuple):
        return None
    try:
        return torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values))
    except (TypeError, ValueError, RuntimeError):  # strings, lists of different lengths
        return None


def integral(tensor: Tensor) -> bool:
    """Whether its numbers are integers."""
    return tensor.dtype != torch.bool and not tensor.is_floating_point() and not tensor.is_complex()


def kind(values: ArrayLike) -> str:
    """What was given, for messages."""
    tensor = as_tensor(values)
    return str(tensor.dtype) if tensor is not None else type(values).__name__
