"""A decoder of dense layers, for small images."""

from typing import cast

from torch import Tensor, nn

from pyro_hfvae.networks import dense_layers, image_shape_of

__all__ = ["MLPDecoder"]


class MLPDecoder(nn.Module):
    """Dense layers from a latent vector to an image; two hidden layers for 28×28 by default.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        image_shape: C, H, W; None takes that of the data, or 1, 28, 28.
        hidden: units of the hidden layers, from the latent side.

    Raises:
        ValueError: a hidden layer without units, or an image without pixels.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int] | None = None,
        hidden: tuple[int, ...] = (200, 400),
    ) -> None:
        super().__init__()
        channels, height, width = image_shape_of((1, 28, 28) if image_shape is None else image_shape)
        self.layers = nn.Sequential(
            *dense_layers(latent_size, hidden, channels * height * width),
            nn.Unflatten(-1, (channels, height, width)),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to logits ``[..., C, H, W]``."""
        return cast(Tensor, self.layers(z))
