"""Distorted copies of images ``[B, C, H, W]`` of any size, with values from 0 to 1, by kornia."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast, get_args

import torch
from torch import Generator, Tensor

from pyro_hfvae.weak.distortions.distortion import Distortion, check_range, check_shape, uniform

__all__ = ["Affine", "ColourJitter", "Crop", "PixelNoise"]

Fill = Literal["zeros", "border", "reflection"]
"""What is seen beyond the edge: black, the edge itself, or the image in a mirror."""


@dataclass(frozen=True)
class Affine(Distortion):
    """Turns, scales, shears and moves each image by amounts of its own, up to those given, in one interpolation.

    Args:
        rotation: degrees, to either side, at most 180.
        scale: part by which width and height, each by itself, grow or shrink, below 1: factors from 1 - scale to 1 +
            scale.
        shear: degrees by which a vertical line leans, to either side, below 90.
        shift: part of the width and of the height by which the image moves, to either side, at most 1.
        fill: what is seen beyond the edge: ``"zeros"``, ``"border"`` or ``"reflection"``.

    Raises:
        ValueError: a range that makes no sense, or all are 0; on use, kornia is missing, or no images with values from
            0 to 1.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    fill: Fill = "zeros"

    def __post_init__(self) -> None:
        check_range(self, "rotation", 0, 180)
        check_range(self, "scale", 0, 1, ends=False)
        check_range(self, "shear", 0, 90, ends=False)
        check_range(self, "shift", 0, 1)
        if self.fill not in get_args(Fill):
            raise ValueError(f"fill of Affine is one of {', '.join(map(repr, get_args(Fill)))}, got {self.fill!r}")
        if not any((self.rotation, self.scale, self.shear, self.shift)):
            raise ValueError("Affine changes nothing: give rotation, scale, shear or shift")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies of the images, ``[B, C, H, W]``."""
        _check_images(self, x)
        count, (height, width) = len(x), x.shape[2:]
        angle = uniform(generator, -self.rotation, self.rotation, count)
        factors = uniform(generator, 1 - self.scale, 1 + self.scale, count, 2)
        lean = uniform(generator, -self.shear, self.shear, count) * (math.pi / 180)
        shift = uniform(generator, -self.shift, self.shift, count, 2) * torch.tensor([width, height])
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(count, 2)
        transform = _kornia("geometry.transform", self)
        matrix = transform.get_affine_matrix2d(shift, centre, factors, angle, sx=lean)[:, :2].to(x.dtype)
        copies = transform.warp_affine(x, matrix, (height, width), padding_mode=self.fill)
        return cast(Tensor, copies).clamp(0, 1)  # rounding may bring it above


@dataclass(frozen=True)
class Crop(Distortion):
    """Cuts a rectangle out of each image, anywhere, and brings it to the size of the image.

    Args:
        least: the least part of the width and of the height that is kept, each drawn by itself, uniform from there to
            1; above 0 and below 1.

    Raises:
        ValueError: a part that makes no sense; on use, kornia is missing, or no images with values from 0 to 1.
    """

    least: float = 0.7

    def __post_init__(self) -> None:
        check_range(self, "least", 0, 1, ends=False, above=True)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies of the images, ``[B, C, H, W]``."""
        _check_images(self, x)
        height, width = x.shape[2:]
        whole = torch.tensor([width - 1.0, height - 1.0])
        size = uniform(generator, self.least, 1, len(x), 2) * whole  # between the centres of the outermost pixels
        corner = uniform(generator, 0, 1, len(x), 2) * (whole - size)
        steps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        boxes = (corner[:, None] + steps * size[:, None]).to(x.dtype)  # [B, 4, 2], clockwise from the upper left
        copies = _kornia("geometry.transform", self).crop_and_resize(x, boxes, (height, width))
        return cast(Tensor, copies).clamp(0, 1)


@dataclass(frozen=True)
class ColourJitter(Distortion):
    """Changes brightness, contrast, saturation and hue of each image, in this order.

    Args:
        brightness: pixels are multiplied by a factor from 1 - brightness to 1 + brightness; at most 1.
        contrast: their distance from the mean grey of the image likewise; at most 1.
        saturation: their distance from their own grey likewise; at most 1, and 0 for images without colour.
        hue: turns, to either side, at most .5; 0 for images without colour.

    Raises:
        ValueError: a range that makes no sense, or all are 0; on use, kornia is missing, no images with values from 0
            to 1, or saturation or hue of images whose channels are not red, green and blue.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_range(self, name, 0, 1)
        check_range(self, "hue", 0, 0.5)
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            raise ValueError("ColourJitter changes nothing: give brightness, contrast, saturation or hue")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies of the images, ``[B, C, H, W]``."""
        _check_images(self, x)
        coloured = x.shape[1] == 3
        if (self.saturation or self.hue) and not coloured:
            raise ValueError(
                f"ColourJitter changes saturation and hue of images with 3 channels, but the images have {x.shape[1]}: "
                "set saturation and hue to 0"
            )
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [uniform(generator, 1 - most, 1 + most, len(x)).to(x.dtype) for most in strengths]
        turn = uniform(generator, -self.hue, self.hue, len(x)).to(x.dtype) * (2 * math.pi)
        enhance = _kornia("enhance", self)
        copies = enhance.adjust_brightness_accumulative(x, factors[0])
        copies = enhance.adjust_contrast_with_mean_subtraction(copies, factors[1])
        if coloured:
            copies = enhance.adjust_saturation_with_gray_subtraction(copies, factors[2])
        if self.hue:
            copies = enhance.adjust_hue(copies, turn)
        return cast(Tensor, copies).clamp(0, 1)


@dataclass(frozen=True)
class PixelNoise(Distortion):
    """Adds normal noise to each pixel and keeps it from 0 to 1.

    Args:
        scale: standard deviation, above 0 and at most 1.

    Raises:
        ValueError: a scale that makes no sense; on use, no images with values from 0 to 1.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "scale", 0, 1, above=True)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Copies of the images, ``[B, C, H, W]``."""
        _check_images(self, x)
        return (x + self.scale * torch.randn(x.shape, generator=generator).to(x.dtype)).clamp(0, 1)


def _check_images(distortion: object, x: Tensor) -> None:
    """Raises ValueError for anything but images with values from 0 to 1."""
    check_shape(distortion, x, "images [B, C, H, W]", 4)
    if len(x) and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"{type(distortion).__name__} distorts images with values from 0 to 1, but they go from {x.min():g} to "
            f"{x.max():g}"
        )


def _kornia(module: str, distortion: object) -> Any:
    """A module of kornia, imported when it is needed."""
    try:
        return import_module(f"kornia.{module}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{type(distortion).__name__} needs kornia, which is not installed: pip install 'pyro-hfvae[views]'"
        ) from error
