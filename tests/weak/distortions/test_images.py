"""Distorted images: against scipy's interpolation and NumPy, image by image, with the same draws; any size."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy.ndimage import map_coordinates

from pyro_hfvae.weak.distortions import Affine, ColourJitter, Crop, PixelNoise

MODES = {"zeros": "grid-constant", "border": "nearest", "reflection": "mirror"}
ALL = {
    "affine": Affine(rotation=20, scale=0.2, shear=10, shift=0.1),
    "crop": Crop(0.6),
    "colour": ColourJitter(0.4, 0.4, 0.4, 0.1),
    "grey": ColourJitter(0.4, 0.4),
    "noise": PixelNoise(0.2),
}


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def draws(seed=3):
    """Uniform numbers in the order in which they are drawn."""
    stream = generator(seed)
    return lambda low, high, *shape: low + (high - low) * torch.rand(*shape, generator=stream).double().numpy()


def sampled(image, columns, rows, mode="grid-constant"):
    """The image at other places, [C, H, W]."""
    places = np.stack([rows, columns])
    return np.stack([map_coordinates(channel, places, order=1, mode=mode) for channel in image.double().numpy()])


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 3), channels=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9),
    rotation=st.sampled_from([0.0, 20.0, 180.0]), scale=st.sampled_from([0.0, 0.4]), fill=st.sampled_from([*MODES]),
    shear=st.sampled_from([0.0, 30.0]), shift=st.sampled_from([0.0, 0.3]),
)  # fmt: skip
def test_affine_against_interpolation_by_scipy(count, channels, height, width, rotation, scale, fill, shear, shift):
    if not any((rotation, scale, shear, shift)):
        return
    x = images(count, channels, height, width)
    copies = Affine(rotation, scale, shear, shift, fill)(x, generator())
    assert copies.shape == x.shape
    uniform = draws()
    angles, factors = uniform(-rotation, rotation, count), uniform(1 - scale, 1 + scale, count, 2)
    leans, shifts = uniform(-shear, shear, count), uniform(-shift, shift, count, 2) * [width, height]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    for copy, image, angle, factor, lean, by in zip(copies, x, angles, factors, leans, shifts, strict=True):
        c, s, t = math.cos(math.radians(angle)), math.sin(math.radians(angle)), math.tan(math.radians(lean))
        # y points down: the turn is clockwise to the eye.
        forward = np.array([[c, -s], [s, c]]) @ np.diag(factor) @ np.array([[1, -t], [0, 1]])
        moved = np.stack([columns - by[0] - centre[0], rows - by[1] - centre[1]])
        back = np.einsum("ij,jhw->ihw", np.linalg.inv(forward), moved) + centre[:, None, None]
        expected = sampled(image, back[0], back[1], MODES[fill])
        # Places in float32: some 1e-6 of a pixel of slope 1, and more where a place falls beyond the edge.
        np.testing.assert_allclose(copy.numpy(), expected, atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 4), channels=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9),
    least=st.sampled_from([0.1, 0.5, 0.9]),
)  # fmt: skip
def test_crops_against_interpolation_by_scipy(count, channels, height, width, least):
    x = images(count, channels, height, width)
    copies = Crop(least)(x, generator())
    assert copies.shape == x.shape
    uniform = draws()
    parts, corners = uniform(least, 1, count, 2), uniform(0, 1, count, 2)
    for copy, image, part, corner in zip(copies, x, parts, corners, strict=True):
        size = part * [width - 1, height - 1]
        start = corner * ([width - 1, height - 1] - size)
        columns, rows = (start[i] + size[i] * np.linspace(0, 1, n) for i, n in enumerate((width, height)))
        expected = sampled(image, *np.meshgrid(columns, rows), mode="nearest")
        np.testing.assert_allclose(copy.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("hue", [0.0, 0.3])
def test_colours_against_numpy(channels, hue):
    if channels != 3 and hue:
        return
    x = images(5, channels, 4, 6)
    saturation = 0.8 if channels == 3 else 0.0
    copies = ColourJitter(0.5, 0.7, saturation, hue)(x, generator())
    uniform = draws()
    factors = [uniform(1 - most, 1 + most, 5) for most in (0.5, 0.7, saturation)]
    turns = uniform(-hue, hue, 5)
    grey = np.array([0.299, 0.587, 0.114])
    for row, (copy, image) in enumerate(zip(copies, x.double().numpy(), strict=True)):
        image = (image * factors[0][row]).clip(0, 1)
        mean = np.tensordot(grey, image, 1).mean() if channels == 3 else image.mean()
        image = (mean + factors[1][row] * (image - mean)).clip(0, 1)
        if channels == 3:
            own = np.tensordot(grey, image, 1)[None]
            image = (own + factors[2][row] * (image - own)).clip(0, 1)
            hsv = rgb_to_hsv(image.transpose(1, 2, 0))
            hsv[..., 0] = (hsv[..., 0] + turns[row]) % 1
            image = hsv_to_rgb(hsv).transpose(2, 0, 1)
        np.testing.assert_allclose(copy.numpy(), image, atol=2e-5)


def test_noise_has_its_scale_and_stays_in_range():
    x = torch.full((10, 1, 50, 50), 0.5)
    noise = PixelNoise(0.1)(x, generator()) - x
    # 25,000 draws: standard errors of .1 / √25,000 and .1 / √50,000.
    assert abs(noise.mean()) < 5 * 0.1 / math.sqrt(25_000)
    assert abs(noise.std() - 0.1) < 5 * 0.1 / math.sqrt(50_000)
    wild = PixelNoise(1.0)(images(4, 3, 5, 6), generator())
    assert wild.min() == 0
    assert wild.max() == 1


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=10, deadline=None)
@given(
    count=st.integers(0, 3), height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 9),
    wide=st.booleans(),
)  # fmt: skip
def test_every_distortion(name, count, height, width, seed, wide):
    """Any size, of one pixel too: in range, a function of images and generator, which changes nothing else."""
    x = images(count, 3 if name == "colour" else 2, height, width).to(torch.float64 if wide else torch.float32)
    before, state = x.clone(), torch.get_rng_state()
    copies = ALL[name](x, generator(seed))
    assert copies.shape == x.shape
    assert copies.dtype == x.dtype
    assert ((copies >= 0) & (copies <= 1)).all()
    assert copies.equal(ALL[name](x, generator(seed)))
    assert x.equal(before)
    assert torch.get_rng_state().equal(state)
    if count and height * width > 4:
        assert not copies.equal(ALL[name](x, generator(seed + 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(rotation=181), "rotation of Affine must be from 0 to 180, got 181"),
        (lambda: Affine(rotation=-1), "rotation of Affine must be from 0 to 180, got -1"),
        (lambda: Affine(scale=1), "scale of Affine must be from 0 to below 1, got 1"),
        (lambda: Affine(shear=90), "shear of Affine must be from 0 to below 90, got 90"),
        (lambda: Affine(shift=math.nan), "shift of Affine must be from 0 to 1, got nan"),
        (lambda: Affine(shift=0.1, fill="grey"), "fill of Affine is one of 'zeros', 'border', 'reflection', got 'grey"),
        (lambda: Affine(), "Affine changes nothing: give rotation, scale, shear or shift"),
        (lambda: Crop(0), "least of Crop must be above 0 and below 1, got 0"),
        (lambda: Crop(1), "least of Crop must be above 0 and below 1, got 1"),
        (lambda: ColourJitter(), "ColourJitter changes nothing: give brightness, contrast, saturation or hue"),
        (lambda: ColourJitter(hue=0.6), "hue of ColourJitter must be from 0 to 0.5, got 0.6"),
        (lambda: PixelNoise(0), "scale of PixelNoise must be above 0 and at most 1, got 0"),
    ],
)
def test_ranges(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ALL)
def test_what_are_no_images(name):
    kind = type(ALL[name]).__name__
    for x, said in [
        (torch.rand(4, 13), r"distorts images \[B, C, H, W\], but the data are \[4, 13\]"),
        (torch.zeros(4, 1, 5, 5, dtype=torch.uint8), r"but the data are uint8 \[4, 1, 5, 5\]"),
        (torch.rand(4, 3, 0, 5), r"but the data are \[4, 3, 0, 5\]"),
        (images(4, 3, 5, 5) * 255, "distorts images with values from 0 to 1, but they go from .* to 25"),
        (torch.full((1, 3, 2, 2), math.nan), "distorts images with values from 0 to 1, but they go from nan to nan"),
    ]:
        with pytest.raises(ValueError, match=f"{kind} {said}|{kind} .*{said}"):
            ALL[name](x, generator())


def test_colours_of_images_without_colour():
    for distortion in (ColourJitter(saturation=0.5), ColourJitter(brightness=0.1, hue=0.1)):
        with pytest.raises(ValueError, match="saturation and hue of images with 3 channels, but the images have 1"):
            distortion(images(2, 1, 4, 4), generator())


@pytest.mark.parametrize("name", ["affine", "crop", "grey"])
def test_without_kornia_its_extra_is_named(name, monkeypatch):
    for module in ("kornia", "kornia.geometry.transform", "kornia.enhance"):
        monkeypatch.setitem(sys.modules, module, None)
    kind = type(ALL[name]).__name__
    with pytest.raises(ValueError, match=rf"^{kind} needs kornia, .*: pip install 'pyro-hfvae\[views\]'$"):
        ALL[name](images(2, 1, 4, 4), generator())
    PixelNoise(0.1)(images(2, 1, 4, 4), generator())
