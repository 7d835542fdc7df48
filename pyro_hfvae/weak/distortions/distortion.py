"""What distortions share: their base class, uniform numbers from a generator, and the refusal of what does not fit."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

__all__ = ["Distortion", "check_range", "check_shape", "uniform"]


class Distortion(ABC):
    """Makes distorted copies of data. What it draws comes from the generator alone."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies.

        Args:
            x: the data, ``[B, ...]``.
            generator: of the random numbers.

        Returns:
            A copy of each datum, ``[B, ...]``.
        """


def uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Numbers from ``low`` to ``high``, float32; as many are drawn where the two are the same."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def check_range(
    distortion: object, name: str, low: float, high: float, *, above: bool = False, ends: bool = True
) -> None:
    """Refuses an attribute outside its range.

    Args:
        distortion: of which it is an attribute.
        name: of the attribute.
        low: the least value.
        high: the largest value.
        above: whether the least value itself is refused.
        ends: whether the largest value itself is allowed.

    Raises:
        ValueError: names class, attribute, range and value.
    """
    value = getattr(distortion, name)
    if (value > low if above else value >= low) and (value <= high if ends else value < high):
        return
    start = f"above {low:g} and" if above else f"from {low:g} to"
    end = (
        "finite"
        if high == math.inf
        else f"below {high:g}"
        if not ends
        else f"at most {high:g}"
        if above
        else f"{high:g}"
    )
    raise ValueError(f"{name} of {type(distortion).__name__} must be {start} {end}, got {value:g}")


def check_shape(distortion: object, x: Tensor, expected: str, dimensions: int) -> None:
    """Refuses data of another number of dimensions, or with one of size 0.

    Raises:
        ValueError: names the class, what it distorts and the shape of the data.
    """
    if x.dim() != dimensions or not x.is_floating_point() or 0 in x.shape[1:]:
        kind = "" if x.is_floating_point() else f"{x.dtype} ".removeprefix("torch.")
        raise ValueError(f"{type(distortion).__name__} distorts {expected}, but the data are {kind}{list(x.shape)}")
