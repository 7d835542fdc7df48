"""Encoders: from an image to the features that a guide's heads read. Each has its number of ``features``."""

from itertools import pairwise
from operator import index
from typing import Protocol, cast

from torch import Tensor, nn

__all__ = ["ConvEncoder", "Encoder", "MLPEncoder", "SubpixelEncoder"]


class Encoder(Protocol):
    """What a guide asks of its encoder: a module with the number of its features."""

    features: int

    def __call__(self, x: Tensor, /) -> Tensor:
        """Images [B, C, H, W] to features [B, features]."""


class ConvEncoder(nn.Module):
    """The usual encoder of square images: convolutions down to 4×4, then a dense layer.

    Burgess et al., Understanding disentangling in β-VAE (2018), with the widths of Chen et al. (2018); of images that
    are smaller than their 64×64 the first layers are left out.

    Args:
        channels: of the image.
        width: channels of the layers above 8×8; the two others have twice as many.
        hidden: units of the dense layer, the number of features.
        size: height and width of the image, 16, 32, 64 or 128.

    Raises:
        ValueError: another size.
    """

    def __init__(self, channels: int = 1, width: int = 32, hidden: int = 256, size: int = 64) -> None:
        super().__init__()
        if size not in (16, 32, 64, 128):
            raise ValueError(f"size must be 16, 32, 64 or 128, got {size}")
        self.features = index(hidden)
        widths = [width] * (index(size).bit_length() - 5) + [2 * width] * 2  # the last ends at 4 × 4
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *widths]):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * 4 * 4, hidden), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, size, size] to features [B, hidden]."""
        return cast(Tensor, self.layers(x))


class SubpixelEncoder(nn.Module):
    """An encoder of 64×64 images at half the cost: each square of 4×4 pixels becomes one position of 16 channels.

    The mirror of :class:`pyro_hfvae.models.SubpixelDecoder`, after Shi et al. (CVPR 2016).

    Args:
        channels: of the image.
        width: half the channels of each layer.
        hidden: units of the dense layer, the number of features.
        kaiming: start from weights that keep the variance of what they are given, by He et al., Delving Deep into
            Rectifiers (2015), equation 10, and biases of 0. The ordinary ones of torch shrink it to a sixth in each
            layer, so that images look alike at first, and small differences between them are found late or never.
    """

    def __init__(self, channels: int = 1, width: int = 32, hidden: int = 256, kaiming: bool = False) -> None:
        super().__init__()
        self.features = index(hidden)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),  # 16 × 16
            nn.Conv2d(channels * 16, 2 * width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 4, 2, 1),  # 8 × 8
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 4, 2, 1),  # 4 × 4
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 4 * 4, hidden),
            nn.ReLU(),
        )
        if kaiming:
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, 64, 64] to features [B, hidden]."""
        return cast(Tensor, self.layers(x))


class MLPEncoder(nn.Module):
    """Dense layers from an image to features; two hidden layers for 28×28 by default.

    Args:
        image_shape: C, H, W.
        hidden: units of the hidden layers, from the image side, one layer or more.

    Raises:
        ValueError: there is no hidden layer, or one without units, or an image without pixels.
    """

    def __init__(self, image_shape: tuple[int, int, int] = (1, 28, 28), hidden: tuple[int, ...] = (400, 200)) -> None:
        super().__init__()
        channels, height, width = map(index, image_shape)
        if min(channels, height, width) < 1:
            raise ValueError(f"the sizes of image_shape must be 1 or more, got {list(image_shape)}")
        hidden = tuple(map(index, hidden))
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden must have one layer or more, of 1 unit or more, got {list(hidden)}")
        self.features = hidden[-1]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip((channels * height * width, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to features [B, hidden[-1]]."""
        return cast(Tensor, self.layers(x))
