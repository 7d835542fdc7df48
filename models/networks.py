"""Decoders: from a latent vector to the logits of an image. Leading dimensions (particles, batch) are kept."""

from operator import index
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["ConvDecoder", "MLPDecoder", "SpatialBroadcastDecoder", "SubpixelDecoder"]


class _Decoder(nn.Module):
    """A convolutional decoder, whatever its ``layers`` are."""

    layers: nn.Sequential

    def forward(self, z: Tensor) -> Tensor:
        """Latents [..., latent_size] to logits [..., C, 64, 64]."""
        images = cast(Tensor, self.layers(z.flatten(0, -2)))
        return cast(Tensor, images.unflatten(0, z.shape[:-1]))


def _dense(latent_size: int, hidden: int, channels: int) -> list[nn.Module]:
    """Two dense layers from a latent vector to channels at 4×4."""
    channels = index(channels)
    return [
        nn.Linear(latent_size, hidden),
        nn.ReLU(),
        nn.Linear(hidden, channels * 4 * 4),
        nn.ReLU(),
        nn.Unflatten(-1, (channels, 4, 4)),
    ]


class ConvDecoder(_Decoder):
    """The usual decoder of 64×64 images: two dense layers, then four transposed convolutions.

    The mirror of the encoder of Burgess et al., Understanding disentangling in β-VAE (2018), with the widths of
    Chen et al., Isolating Sources of Disentanglement (2018).

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image.
        width: channels of the two layers next to the image; the two others have twice as many.
        hidden: units of the dense layer.
    """

    def __init__(self, latent_size: int, channels: int = 1, width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_dense(latent_size, hidden, 2 * width),
            nn.ConvTranspose2d(2 * width, 2 * width, 4, 2, 1),  # 8 × 8
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),  # 16 × 16
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1),  # 32 × 32
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),  # 64 × 64
        )


class SubpixelDecoder(_Decoder):
    """A decoder of 64×64 images at half the cost: convolutions at low resolution whose channels become pixels.

    Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network (CVPR 2016). No layer works at a resolution above 16×16, and neighbouring pixels get weights of their own.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image.
        width: channels at 16×16; the coarser layers have twice as many.
        hidden: units of the dense layer.
    """

    def __init__(self, latent_size: int, channels: int = 1, width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_dense(latent_size, hidden, 2 * width),
            nn.Conv2d(2 * width, 2 * width * 4, 3, 1, 1),
            nn.PixelShuffle(2),  # 8 × 8
            nn.ReLU(),
            nn.Conv2d(2 * width, width * 4, 3, 1, 1),
            nn.PixelShuffle(2),  # 16 × 16
            nn.ReLU(),
            nn.Conv2d(width, channels * 16, 3, 1, 1),
            nn.PixelShuffle(4),  # 64 × 64
        )


class SpatialBroadcastDecoder(nn.Module):
    """A decoder of 64×64 images that knows the place it paints: each place of a grid gets the latents and its position.

    Watters et al., Spatial Broadcast Decoder: A Simple Architecture for Learning Disentangled Representations in VAEs
    (2019). A shape that is learnt at one place is known at all others, so that it takes far fewer steps than
    :class:`ConvDecoder`. To be cheap on a CPU the grid has 16×16 places, each of which paints 4×4 pixels: the channels
    become pixels as in Shi et al., Real-Time Single Image and Video Super-Resolution (CVPR 2016).

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        channels: of the image.
        width: channels of the layers.
        depth: convolutions after the first layer, the last included.
    """

    positions: Tensor

    def __init__(self, latent_size: int, channels: int = 1, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        axis = torch.linspace(-1, 1, 16)
        self.register_buffer("positions", torch.stack(torch.meshgrid(axis, axis, indexing="ij")), persistent=False)
        # Together these two are a 1×1 convolution of latents and positions, without the copies of the latents.
        self.of_latents = nn.Linear(latent_size, width)
        self.of_positions = nn.Conv2d(2, width, 1, bias=False)
        hidden = [layer for _ in range(depth - 1) for layer in (nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1))]
        self.layers = nn.Sequential(
            *hidden,
            nn.ReLU(),
            nn.Conv2d(width, channels * 4 * 4, 3, 1, 1),
            nn.PixelShuffle(4),  # 64 × 64
        )

    def forward(self, z: Tensor) -> Tensor:
        """Latents [..., latent_size] to logits [..., C, 64, 64]."""
        features = self.of_latents(z.flatten(0, -2))[..., None, None] + self.of_positions(self.positions)
        return cast(Tensor, self.layers(features).unflatten(0, z.shape[:-1]))


class MLPDecoder(nn.Module):
    """Dense layers from a latent vector to an image; two hidden layers for 28×28 by default.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        image_shape: C, H, W.
        hidden: units of the hidden layers, from the latent side.

    Raises:
        ValueError: a hidden layer without units, or an image without pixels.
    """

    def __init__(
        self, latent_size: int, image_shape: tuple[int, int, int] = (1, 28, 28), hidden: tuple[int, ...] = (200, 400)
    ) -> None:
        super().__init__()
        channels, height, width = map(index, image_shape)
        if min(channels, height, width) < 1:
            raise ValueError(f"the sizes of image_shape must be 1 or more, got {list(image_shape)}")
        hidden = tuple(map(index, hidden))
        if min(hidden, default=1) < 1:
            raise ValueError(f"each layer of hidden must have 1 unit or more, got {list(hidden)}")
        layers: list[nn.Module] = []
        for before, after in zip((latent_size, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers,
            nn.Linear(hidden[-1] if hidden else latent_size, channels * height * width),
            nn.Unflatten(-1, (channels, height, width)),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Latents [..., latent_size] to logits [..., C, H, W]."""
        return cast(Tensor, self.layers(z))
