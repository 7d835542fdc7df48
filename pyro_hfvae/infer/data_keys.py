"""Numbers by which the data of a batch are known again: hashes of their bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["hash_rows", "keys_of"]


def keys_of(given: Sequence[Any], batch: int, device: torch.device) -> Tensor | None:
    """A hash of the bytes of each datum, [B]; None where the first argument holds no tensor.

    Args:
        given: arguments of model and guide.
        batch: B.
        device: of the hashes.

    Raises:
        ValueError: a tensor of another length than the batch.
    """
    if not given:
        return None
    arrays = [leaf for leaf in tree_leaves(given[0]) if isinstance(leaf, Tensor | np.ndarray)]
    leaves = [leaf if isinstance(leaf, Tensor) else torch.from_numpy(leaf) for leaf in arrays]
    rows = [leaf.detach() for leaf in leaves if leaf.dim() > 0]
    if not rows:
        return None
    if any(len(leaf) != batch for leaf in rows):
        raise ValueError(
            f"a memory knows data again by the first argument of model and guide, which has {len(rows[0])} rows for a "
            f"batch of {batch}; give the batch itself, not data that a plate takes a subsample of"
        )
    total = hash_rows(rows[0].to(device))
    for leaf in rows[1:]:
        total = total * _MIXER + hash_rows(leaf.to(device))
    return total


_MIXER = -7046029254386353131  # 2^64 over the golden ratio, odd, as a signed integer
_multipliers: dict[int, Tensor] = {}


def hash_rows(data: Tensor) -> Tensor:
    """An int64 for each row, the same for the same bytes, whatever else is in the batch and on every device.

    A sum of the row's mixed words times fixed odd numbers, modulo 2^64: integers, because the last bits of a
    floating-point sum depend on the order in which it is made.
    """
    if data.dtype.is_complex:
        data = torch.view_as_real(data)
    raw = data.reshape(len(data), -1).contiguous().view(torch.uint8)  # [B, bytes]
    if raw.shape[1] % 8:
        raw = torch.nn.functional.pad(raw, (0, -raw.shape[1] % 8))
    elif raw.storage_offset() % 8:
        raw = raw.clone()  # where a word begins
    bits = raw.view(torch.int64)
    length = bits.shape[1]
    if length not in _multipliers:
        generator = torch.Generator().manual_seed(length)
        _multipliers[length] = torch.randint(-(2**62), 2**62, (length,), generator=generator) * 2 + 1
    # Round floating-point numbers end in zeros, which a product keeps: their high bits must reach the low ones first.
    mixed = bits * _MIXER
    mixed ^= mixed >> 32
    return mixed.mul_(_multipliers[length].to(bits.device)).sum(1)
