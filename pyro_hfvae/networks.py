"""What the networks of models and guides have in common: checks of their sizes, dense layers, lengths of sequences."""

from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor, nn

__all__ = [
    "ImageSize",
    "check_lengths",
    "dense_layers",
    "halvings",
    "image_shape_of",
    "image_size",
    "positive",
    "within",
]

ImageSize: TypeAlias = int | tuple[int, int]
"""Height and width of an image; one number where both are the same."""


def positive(**sizes: SupportsIndex | None) -> tuple[int, ...]:
    """Sizes by name, as integers.

    Raises:
        ValueError: one is no integer or below 1.
    """
    for name, size in sizes.items():
        (number,) = _integers([size]) or (0,)
        if number < 1:
            raise ValueError(f"{name} must be an integer of 1 or more, got {size}")
    return _integers(sizes.values())


def image_size(size: ImageSize) -> tuple[int, int]:
    """Height and width from what a user gives for them.

    Raises:
        ValueError: neither an integer nor two, or one that is not from 16 to 256.
    """
    sides = _integers([size, size]) or _integers(size)
    if len(sides) != 2 or not all(16 <= side <= 256 for side in sides):
        raise ValueError(f"size must be an integer from 16 to 256, or two, height and width; got {size}")
    return sides[0], sides[1]


def _integers(given: Any) -> tuple[int, ...]:
    """Numbers of Python, NumPy or torch as integers; none where one of them is no integer."""
    try:
        return tuple(map(index, given))
    except TypeError:
        return ()


def halvings(*sides: int) -> int:
    """How often all sides are halved until the shortest one is 4 to 7, or was: 2 times from 16, 6 times from 256."""
    return max(min(sides).bit_length() - 3, 0)


def image_shape_of(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """C, H, W as integers.

    Raises:
        ValueError: there are not three of them, or one is below 1.
    """
    shape = tuple(map(index, image_shape))
    if len(shape) != 3:
        raise ValueError(f"image_shape must be C, H, W, got {list(shape)}")
    if min(shape) < 1:
        raise ValueError(f"the sizes of image_shape must be 1 or more, got {list(shape)}")
    return shape


def dense_layers(inputs: int, hidden: Sequence[int], outputs: int | None = None) -> list[nn.Module]:
    """A linear layer and a rectifier for each entry of ``hidden``, and a linear layer to the outputs, if there are.

    Raises:
        ValueError: a layer without units.
    """
    hidden = tuple(map(index, hidden))
    if min(hidden, default=1) < 1:
        raise ValueError(f"each layer of hidden must have 1 unit or more, got {list(hidden)}")
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, *hidden)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    if outputs is not None:
        layers.append(nn.Linear((inputs, *hidden)[-1], outputs))
    return layers


def within(lengths: Tensor | None, x: Tensor) -> Tensor:
    """Which time steps belong to each sequence, [B, T] of bool.

    Args:
        lengths: how many steps each has, [B]; None for T.
        x: the sequences, [B, T, V].

    Raises:
        ValueError: a length that is not from 1 to T, or other than B of them.
    """
    count, steps = x.shape[:2]
    if lengths is None:
        return x.new_ones(count, steps, dtype=torch.bool)
    check_lengths(lengths, x)
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def check_lengths(lengths: Tensor, x: Tensor) -> None:
    """Checks the lengths [B] of sequences x, [B, T, V].

    Raises:
        ValueError: a length that is not from 1 to T, or other than B of them.
    """
    count, steps = x.shape[:2]
    if lengths.shape != (count,):
        raise ValueError(f"lengths must be [{count}], one for each sequence, got {list(lengths.shape)}")
    # The values are not known while a graph is made of the network.
    if not torch.compiler.is_compiling() and ((lengths < 1) | (lengths > steps)).any():
        raise ValueError(f"lengths must be from 1 to {steps}, got {lengths.min()} to {lengths.max()}")
