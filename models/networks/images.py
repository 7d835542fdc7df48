"""Convolutional decoders: from a latent vector to the logits of an image."""

from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from pyro_hfvae.networks import ImageSize, dense_layers, halvings, image_size, positive

__all__ = ["ConvDecoder", "SpatialBroadcastDecoder", "SubpixelDecoder"]


class _Decoder(nn.Module):
    """A convolutional decoder, whatever its ``layers`` are; they may paint beyond the right and lower edges."""

    layers: nn.Sequential
    size: tuple[int, int]

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to logits ``[..., C, H, W]``."""
        height, width = self.size
        images = self.layers(self.features(z.reshape(-1, z.shape[-1])))[..., :height, :width]
        return cast(Tensor, images).reshape(*z.shape[:-1], *images.shape[1:])

    def features(self, z: Tensor) -> Tensor:
        """What the layers are given for latents [B, latent_size]: the latents, unless overridden."""
        return z


def _grid(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Rows and columns of squares of so many pixels that cover an image."""
    height, width = size
    return -(-height // pixels), -(-width // pixels)


def _dense(latent_size: int, hidden: int, channels: int, grid: tuple[int, int]) -> list[nn.Module]:
    """Two dense layers from a latent vector to channels on a grid."""
    return [*dense_layers(latent_size, (hidden, channels * prod(grid))), nn.Unflatten(-1, (channels, *grid))]


class ConvDecoder(_Decoder):
    """The usual decoder of images: two dense layers, then transposed convolutions, four for 64×64.

    The mirror of the encoder of Burgess et al., Understanding disentangling in β-VAE (2018), with the widths of
    Chen et al., Isolating Sources of Disentanglement (2018). The first convolution has a grid of 4 to 8 places along
    the shorter side, and each doubles it, so that larger images have more of them.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image; None takes that of the data, or 1.
        width: channels of the layers next to the image; the first two have twice as many.
        hidden: units of the dense layer.
        size: height and width of the image, each from 16 to 256, or one number for both; None takes that of the data,
            or 64.

    Raises:
        ValueError: a size below 1, or one of the image that is not from 16 to 256.
    """

    def __init__(
        self,
        latent_size: int,
        channels: int | None = None,
        width: int = 32,
        hidden: int = 256,
        size: ImageSize | None = None,
    ) -> None:
        super().__init__()
        latent_size, channels, width, hidden = positive(
            latent_size=latent_size, channels=1 if channels is None else channels, width=width, hidden=hidden
        )
        self.size = image_size(64 if size is None else size)
        doublings = halvings(*self.size)
        layers = _dense(latent_size, hidden, 2 * width, _grid(self.size, 2**doublings))
        widths = [2 * width, 2 * width, *[width] * (doublings - 2), channels]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])


class SubpixelDecoder(_Decoder):
    """A decoder of images at half the cost: convolutions at low resolution whose channels become pixels.

    Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network (CVPR 2016). No layer works at a resolution above a quarter of the image's, and neighbouring pixels get
    weights of their own.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image; None takes that of the data, or 1.
        width: channels of the finest layer, 16×16 for an image of 64×64; the coarser layers have twice as many.
        hidden: units of the dense layer.
        size: height and width of the image, each from 16 to 256, or one number for both; None takes that of the data,
            or 64.

    Raises:
        ValueError: a size below 1, or one of the image that is not from 16 to 256.
    """

    def __init__(
        self,
        latent_size: int,
        channels: int | None = None,
        width: int = 32,
        hidden: int = 256,
        size: ImageSize | None = None,
    ) -> None:
        super().__init__()
        latent_size, channels, width, hidden = positive(
            latent_size=latent_size, channels=1 if channels is None else channels, width=width, hidden=hidden
        )
        self.size = image_size(64 if size is None else size)
        doublings = halvings(*self.size)
        widths = [2 * width] * (doublings - 2) + [width]
        layers = _dense(latent_size, hidden, widths[0], _grid(self.size, 2**doublings))
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after * 4, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels * 16, 3, 1, 1), nn.PixelShuffle(4))


class SpatialBroadcastDecoder(_Decoder):
    """A decoder with position inputs: each place of a grid gets the latents and its position.

    Watters et al., Spatial Broadcast Decoder: A Simple Architecture for Learning Disentangled Representations in VAEs
    (2019). A shape that is learnt at one place is known at all others, so that it takes far fewer steps than
    :class:`ConvDecoder`. To be cheap on a CPU each place of the grid paints 4×4 pixels: the channels become pixels as
    in Shi et al., Real-Time Single Image and Video Super-Resolution (CVPR 2016). An image of 64×64 has 16×16 places.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image; None takes that of the data, or 1.
        width: channels of the layers.
        depth: convolutions after the first layer, the last included.
        size: height and width of the image, each from 16 to 256, or one number for both; None takes that of the data,
            or 64.

    Raises:
        ValueError: a size below 1, or one of the image that is not from 16 to 256.
    """

    positions: Tensor

    def __init__(
        self,
        latent_size: int,
        channels: int | None = None,
        width: int = 32,
        depth: int = 3,
        size: ImageSize | None = None,
    ) -> None:
        super().__init__()
        latent_size, channels, width, depth = positive(
            latent_size=latent_size, channels=1 if channels is None else channels, width=width, depth=depth
        )
        self.size = image_size(64 if size is None else size)
        axes = [torch.linspace(-1, 1, places) for places in _grid(self.size, 4)]
        self.register_buffer("positions", torch.stack(torch.meshgrid(*axes, indexing="ij")), persistent=False)
        # Together these two are a 1×1 convolution of latents and positions, without the copies of the latents.
        self.of_latents = nn.Linear(latent_size, width)
        self.of_positions = nn.Conv2d(2, width, 1, bias=False)
        hidden = [layer for _ in range(depth - 1) for layer in (nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1))]
        self.layers = nn.Sequential(
            *hidden,
            nn.ReLU(),
            nn.Conv2d(width, channels * 4 * 4, 3, 1, 1),
            nn.PixelShuffle(4),
        )

    def features(self, z: Tensor) -> Tensor:
        """The latents and the position of each place, [B, width, H / 4, W / 4]."""
        return cast(Tensor, self.of_latents(z)[..., None, None] + self.of_positions(self.positions))
