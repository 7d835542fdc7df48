"""Distorted copies of sequences ``[B, T, V]`` of their own lengths, with zeros beyond their ends."""

import math
from dataclasses import dataclass
from operator import index

import torch
from torch import Generator, Tensor

from pyro_hfvae.weak.distortions.distortion import Distortion, check_range, check_shape, uniform

__all__ = ["Jitter", "TimeWarp"]


@dataclass(frozen=True)
class Jitter(Distortion):
    """Adds normal noise to each value.

    Args:
        scale: standard deviation, in units of the data, above 0.

    Raises:
        ValueError: a scale that makes no sense; on use, data that are no sequences.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "scale", 0, math.inf, above=True, ends=False)

    def __call__(self, x: Tensor, generator: Generator, lengths: Tensor | None = None) -> Tensor:
        """Copies of the sequences, ``[B, T, V]``; ``lengths`` are int64, ``[B]``."""
        check_shape(self, x, "sequences [B, T, V]", 3)
        noisy = x + self.scale * torch.randn(x.shape, generator=generator).to(x.dtype)
        return torch.where(_inside(x, lengths)[..., None], noisy, x)


@dataclass(frozen=True)
class TimeWarp(Distortion):
    """Lets time run faster and slower along each sequence, between its ends, which stay.

    Time is cut into ``parts`` of equal length. Each is stretched by a factor from 1 / (1 + speed) to 1 + speed, uniform
    in its logarithm, and all of them together are brought back to the length of the sequence. Values between two points
    in time are interpolated.

    Args:
        speed: by which part time runs faster at most, above 0.
        parts: 2 or more.

    Raises:
        ValueError: numbers that make no sense; on use, data that are no sequences.
    """

    speed: float = 0.5
    parts: int = 4

    def __post_init__(self) -> None:
        check_range(self, "speed", 0, math.inf, above=True, ends=False)
        if index(self.parts) < 2:
            raise ValueError(f"parts of TimeWarp must be 2 or more, got {self.parts}")

    def __call__(self, x: Tensor, generator: Generator, lengths: Tensor | None = None) -> Tensor:
        """Copies of the sequences, ``[B, T, V]``; ``lengths`` are int64, ``[B]``."""
        check_shape(self, x, "sequences [B, T, V]", 3)
        count, steps, _ = x.shape
        most = math.log1p(self.speed)
        stretched = uniform(generator, -most, most, count, self.parts).exp()
        ends = torch.cat([stretched.new_zeros(count, 1), stretched.cumsum(1)], 1)
        ends = ends / ends[:, -1:]  # where each part ends, [B, parts + 1]
        last = _lengths(x, lengths)[:, None] - 1  # [B, 1]
        time = torch.arange(steps) / last.clamp(min=1)  # from 0 to 1 up to the end, [B, T]
        part = (time * self.parts).long().clamp(max=self.parts - 1)
        begin, end = ends.gather(1, part), ends.gather(1, part + 1)
        place = (begin + (time * self.parts - part) * (end - begin)) * last  # [B, T]
        before = place.long().clamp(min=0).minimum((last - 1).clamp(min=0))
        weight = (place - before).clamp(0, 1)[..., None].to(x.dtype)
        rows = torch.arange(count)[:, None]
        warped = torch.lerp(x[rows, before], x[rows, (before + 1).clamp(max=steps - 1)], weight)
        return torch.where((_inside(x, lengths) & (last > 0))[..., None], warped, x)


def _lengths(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The lengths, those of whole sequences by default, int64, ``[B]``."""
    return torch.full((len(x),), x.shape[1]) if lengths is None else lengths.cpu()


def _inside(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Which points in time are before the end, ``[B, T]``."""
    return torch.arange(x.shape[1]) < _lengths(x, lengths)[:, None]
