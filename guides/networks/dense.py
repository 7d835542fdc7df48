"""An encoder of dense layers, for small images."""

from operator import index
from typing import cast

from torch import Tensor, nn

from pyro_hfvae.networks import dense_layers, image_shape_of

__all__ = ["MLPEncoder"]


class MLPEncoder(nn.Module):
    """Dense layers from an image to features; two hidden layers for 28×28 by default.

    Args:
        image_shape: C, H, W; None takes that of the data, or 1, 28, 28.
        hidden: units of the hidden layers, from the image side, one layer or more.

    Raises:
        ValueError: there is no hidden layer, or one without units, or an image without pixels.
    """

    def __init__(self, image_shape: tuple[int, int, int] | None = None, hidden: tuple[int, ...] = (400, 200)) -> None:
        super().__init__()
        channels, height, width = image_shape_of((1, 28, 28) if image_shape is None else image_shape)
        hidden = tuple(map(index, hidden))
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden must have one layer or more, of 1 unit or more, got {list(hidden)}")
        self.features = hidden[-1]
        self.layers = nn.Sequential(nn.Flatten(), *dense_layers(channels * height * width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to features ``[B, hidden[-1]]``."""
        return cast(Tensor, self.layers(x))
