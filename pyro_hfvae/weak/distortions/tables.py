"""Distorted copies of tables ``[B, D]``, in which NaN stands for a missing cell."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pyro_hfvae.weak.distortions.distortion import Distortion, check_range, check_shape

__all__ = ["ColumnDropout"]


@dataclass(frozen=True)
class ColumnDropout(Distortion):
    """Makes each cell of a row missing with a given probability; those that are missing stay so.

    Model and guide must be of those that leave missing cells out.

    Args:
        rate: the probability, above 0 and below 1.

    Raises:
        ValueError: a rate that makes no sense; on use, data that are no table.
    """

    rate: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, "rate", 0, 1, above=True, ends=False)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies of the rows, ``[B, D]``."""
        check_shape(self, x, "tables [B, D]", 2)
        return x.masked_fill(torch.rand(x.shape, generator=generator) < self.rate, torch.nan)
