"""Convolutional encoders of images."""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from pyro_hfvae.networks import ImageSize, halvings, image_size, positive

__all__ = ["ConvEncoder", "SubpixelEncoder"]


class _Encoder(nn.Module):
    """A convolutional encoder, whatever its ``layers`` are."""

    layers: nn.Sequential
    image_shape: tuple[int, int, int]

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to features ``[B, hidden]``.

        Raises:
            ValueError: images of another shape.
        """
        if x.shape[1:] != self.image_shape:
            wanted = ", ".join(map(str, self.image_shape))
            raise ValueError(f"the encoder takes images [B, {wanted}], got {list(x.shape)}")
        return cast(Tensor, self.layers(x))


class ConvEncoder(_Encoder):
    """The usual encoder of images: convolutions that halve both sides, four for 64×64, then a dense layer.

    Burgess et al., Understanding disentangling in β-VAE (2018), with the widths of Chen et al. (2018). There are as
    many convolutions as leave 4 to 7 pixels of the shorter side: two of 16, six of 256.

    Args:
        channels: of the image; None takes that of the data, or 1.
        width: channels of all layers but the last two, which have twice as many.
        hidden: units of the dense layer, the number of features.
        size: height and width of the image, each from 16 to 256, or one number for both; None takes that of the data,
            or 64.

    Raises:
        ValueError: a size below 1, or one of the image that is not from 16 to 256.
    """

    def __init__(
        self, channels: int | None = None, width: int = 32, hidden: int = 256, size: ImageSize | None = None
    ) -> None:
        super().__init__()
        channels, width, self.features = positive(
            channels=1 if channels is None else channels, width=width, hidden=hidden
        )
        rows, columns = image_size(64 if size is None else size)
        self.image_shape = channels, rows, columns
        count = halvings(rows, columns)
        widths = [channels, *[width] * (count - 2), 2 * width, 2 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]  # the last of 2 k + 1 pixels is in the k-th window
        places = (rows >> count) * (columns >> count)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * places, self.features), nn.ReLU())


class _Squares(nn.PixelUnshuffle):
    """Squares of pixels as channels; zeros fill the last squares."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return super().forward(pad(x, (0, -width % self.downscale_factor, 0, -height % self.downscale_factor)))


class SubpixelEncoder(_Encoder):
    """An encoder of images at half the cost: each square of 4×4 pixels becomes one position of 16 channels.

    The mirror of :class:`pyro_hfvae.models.SubpixelDecoder`, after Shi et al. (CVPR 2016). Zeros fill the last squares
    of an image whose sides are no multiples of 4.

    Args:
        channels: of the image; None takes that of the data, or 1.
        width: half the channels of each layer.
        hidden: units of the dense layer, the number of features.
        kaiming: start from weights that keep the variance of what they are given, by He et al., Delving Deep into
            Rectifiers (2015), equation 10, and biases of 0. The ordinary ones of torch shrink it to a sixth in each
            layer, so that images look alike at first, and small differences between them are found late or never.
        size: height and width of the image, each from 16 to 256, or one number for both; None takes that of the data,
            or 64.

    Raises:
        ValueError: a size below 1, or one of the image that is not from 16 to 256.
    """

    def __init__(
        self,
        channels: int | None = None,
        width: int = 32,
        hidden: int = 256,
        kaiming: bool = False,
        size: ImageSize | None = None,
    ) -> None:
        super().__init__()
        channels, width, self.features = positive(
            channels=1 if channels is None else channels, width=width, hidden=hidden
        )
        rows, columns = image_size(64 if size is None else size)
        self.image_shape = channels, rows, columns
        count = halvings(rows, columns) - 2  # the squares are two halvings
        layers: list[nn.Module] = [_Squares(4), nn.Conv2d(channels * 16, 2 * width, 3, 1, 1), nn.ReLU()]
        for _ in range(count):
            layers += [nn.Conv2d(2 * width, 2 * width, 4, 2, 1), nn.ReLU()]
        places = (-(-rows // 4) >> count) * (-(-columns // 4) >> count)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * places, self.features), nn.ReLU())
        if kaiming:
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(cast(Tensor, layer.bias))
