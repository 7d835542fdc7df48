"""Convolutional encoders of images of any size: every pixel is read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_hfvae.guides import ConvEncoder, MLPEncoder, SubpixelEncoder

ENCODERS = (ConvEncoder, SubpixelEncoder)

sides = st.integers(16, 256)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(encoder, **options):
    return encoder(width=2, hidden=3, **options)


def of_old(encoder, size):
    """The layers as they were while there were squares only, for 2 channels, width 4 and 8 features."""
    if encoder is SubpixelEncoder:
        first = [nn.PixelUnshuffle(4), nn.Conv2d(32, 8, 3, 1, 1), nn.ReLU()]
        first += [nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU()]
    else:
        widths = {16: [2, 8, 8], 32: [2, 4, 8, 8], 64: [2, 4, 4, 8, 8], 128: [2, 4, 4, 4, 8, 8]}[size]
        convolutions = [nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1) for i in range(len(widths) - 1)]
        first = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(8 * 4 * 4, 8), nn.ReLU())


FORMER = [(ConvEncoder, 16), (ConvEncoder, 32), (ConvEncoder, 64), (ConvEncoder, 128), (SubpixelEncoder, 64)]


@pytest.mark.parametrize(("encoder", "size"), FORMER)
def test_sizes_of_before_are_encoded_as_they_were(encoder, size):
    old = of_old(encoder, size)
    torch.manual_seed(0)
    new = encoder(2, 4, 8, size=size)
    assert list(new.state_dict()) == [f"layers.{name}" for name in old.state_dict()]
    for ours, theirs in zip(new.state_dict().values(), old.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    x = torch.randn(5, 2, size, size)
    assert torch.equal(new(x), old(x))


@pytest.mark.parametrize(
    ("network", "count", "size", "weighted"),
    [
        (lambda: ConvEncoder(2, 4, 8, 16), 2328, 114.742284019, 2.016098955),
        (lambda: ConvEncoder(2, 4, 8, 32), 2716, 135.428364947, 1.040173121),
        (lambda: ConvEncoder(2, 4, 8), 2976, 150.725208937, 1.397459329),
        (lambda: ConvEncoder(2, 4, 8, 128), 3236, 166.738843207, 1.844620146),
        (lambda: SubpixelEncoder(2, 4, 8), 5408, 202.388110262, 1.067639740),
        (lambda: SubpixelEncoder(2, 4, 8, True), 5408, 458.909726142, 7.586481441),
        (lambda: MLPEncoder((2, 4, 5), (6, 7)), 295, 28.614415452, 2.160339432),
    ],
)
def test_values_recorded_before_there_were_other_sizes(network, count, size, weighted):
    network = network().double()
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(p.abs().sum().item() for p in network.parameters()) == pytest.approx(size, rel=1e-6)  # drawn in float32
    shape = (5, *getattr(network, "image_shape", (2, 4, 5)))
    out = network(torch.linspace(-1, 1, int(np.prod(shape))).double().reshape(shape)).flatten()
    assert (out @ torch.linspace(1, 2, len(out)).double()).item() == pytest.approx(weighted, rel=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=25, deadline=None)
@given(height=sides, width=sides, channels=st.integers(1, 4), batch=st.integers(1, 3))
def test_any_size_and_number_of_channels(encoder, height, width, channels, batch):
    network = small(encoder, channels=channels, size=(height, width))
    assert network(torch.rand(batch, channels, height, width)).shape == (batch, 3) == (batch, network.features)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=15, deadline=None)
@given(height=sides, width=sides)
def test_every_pixel_is_read(encoder, height, width):
    """With positive weights and images nothing cancels, and no rectifier is closed."""
    network = small(encoder, size=(height, width)).double()
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.1)
    x = torch.rand(1, 1, height, width).double().requires_grad_()
    network(x).sum().backward()
    assert (x.grad > 0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [16, 31, 32, 63, 64, 128, 255, 256, (48, 80), (16, 256)])
def test_the_dense_layer_reads_four_to_eight_places_along_the_shorter_side(encoder, size):
    network = small(encoder, size=size)
    before_dense = nn.Sequential(*list(network.layers)[:-3])
    places = before_dense(torch.zeros(1, *network.image_shape)).shape[-2:]
    assert 4 <= min(places) <= 8


def test_zeros_fill_the_last_squares():
    """An image of 18×21 is read like the one of 20×24 with zeros at its right and lower edges."""
    network, filled = (SubpixelEncoder(2, 3, 4, size=size) for size in ((18, 21), (20, 24)))
    filled.load_state_dict(network.state_dict())
    x = torch.rand(5, 2, 18, 21)
    wide = torch.zeros(5, 2, 20, 24)
    wide[..., :18, :21] = x
    torch.testing.assert_close(network(x), filled(wide))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(2, 1, 16, 20), (2, 3, 20, 16), (2, 3, 16, 21), (3, 16, 20), (1, 2, 3, 16, 20)])
def test_images_of_another_shape_are_refused(encoder, shape):
    network = small(encoder, channels=3, size=(16, 20))
    with pytest.raises(ValueError, match=rf"^the encoder takes images \[B, 3, 16, 20\], got \[{str(shape)[1:-1]}\]$"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_sizes_that_are_refused(encoder):
    with pytest.raises(ValueError, match=r"^size must be an integer from 16 to 256, or two, height and width; got 8$"):
        encoder(size=8)
    for name in ("channels", "width", "hidden"):
        with pytest.raises(ValueError, match=rf"^{name} must be an integer of 1 or more, got 0$"):
            encoder(**{name: 0})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_image_that_nobody_gives_the_size_of_is_one_of_64(encoder):
    assert small(encoder, channels=None, size=None).image_shape == (1, 64, 64)
    assert MLPEncoder(None, (2,))(torch.zeros(3, 1, 28, 28)).shape == (3, 2)


def test_sizes_of_numpy():
    n = np.int64
    assert ConvEncoder(n(3), n(2), n(5), np.array([16, 20]))(torch.zeros(2, 3, 16, 20)).shape == (2, 5)
    assert SubpixelEncoder(n(3), n(2), n(5), False, (n(16), n(20)))(torch.zeros(2, 3, 16, 20)).shape == (2, 5)
