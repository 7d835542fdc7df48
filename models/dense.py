"""A dense decoder of rows of numbers."""

from collections.abc import Sequence
from math import prod
from operator import index
from typing import cast

from torch import Tensor, nn

from pyro_hfvae.networks import dense_layers

__all__ = ["DenseDecoder"]


class DenseDecoder(nn.Module):
    """Dense layers from a latent vector to a number of outputs, for tables and counts, or for each step of a sequence.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        outputs: parameters of a datum, or of one step of a sequence. It follows from the data.
        hidden: units of the hidden layers, from the latent side.
        length: steps of a sequence, T; None for data without. It follows from the data.

    Raises:
        ValueError: no outputs or steps, or a hidden layer without units.
    """

    def __init__(
        self,
        latent_size: int,
        outputs: int | None = None,
        hidden: Sequence[int] = (128, 128),
        length: int | None = None,
    ) -> None:
        super().__init__()
        if outputs is None or index(outputs) < 1:
            raise ValueError(f"a DenseDecoder needs 1 output or more, got {outputs}")
        if length is not None and index(length) < 1:
            raise ValueError(f"length must be 1 or more, got {length}")
        self.shape: tuple[int, ...] = (index(outputs),) if length is None else (index(length), index(outputs))
        self.layers = nn.Sequential(*dense_layers(latent_size, hidden, prod(self.shape)))

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to ``[..., outputs]``, or ``[..., T, outputs]``."""
        return cast(Tensor, self.layers(z).unflatten(-1, self.shape))
