"""What a guide asks of its encoder."""

from typing import Protocol

from torch import Tensor

__all__ = ["Encoder"]


class Encoder(Protocol):
    """A module with the number of its features. It is also given those covariates that its ``forward`` names."""

    features: int

    def __call__(self, x: Tensor, /) -> Tensor:
        """Data ``[B, ...]`` to features ``[B, features]``."""
