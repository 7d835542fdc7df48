"""Convolutional decoders of images of any size: every pixel is decoded from the latents."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_hfvae.models import ConvDecoder, SpatialBroadcastDecoder, SubpixelDecoder

DECODERS = (ConvDecoder, SubpixelDecoder, SpatialBroadcastDecoder)
SMALL = {
    ConvDecoder: {"width": 2, "hidden": 3},
    SubpixelDecoder: {"width": 2, "hidden": 3},
    SpatialBroadcastDecoder: {"width": 2, "depth": 2},
}

sides = st.integers(16, 256)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(decoder, latent_size=2, **options):
    return decoder(latent_size, **SMALL[decoder], **options)


def of_old(decoder):
    """The layers of 64×64 images as they were while there was no other size, for 3 latents, 2 channels, width 4."""
    dense = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8 * 4 * 4), nn.ReLU(), nn.Unflatten(-1, (8, 4, 4))]
    if decoder is ConvDecoder:
        return nn.Sequential(
            *dense,
            nn.ConvTranspose2d(8, 8, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 4, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 4, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 2, 4, 2, 1),
        )
    return nn.Sequential(
        *dense,
        nn.Conv2d(8, 8 * 4, 3, 1, 1),
        nn.PixelShuffle(2),
        nn.ReLU(),
        nn.Conv2d(8, 4 * 4, 3, 1, 1),
        nn.PixelShuffle(2),
        nn.ReLU(),
        nn.Conv2d(4, 2 * 16, 3, 1, 1),
        nn.PixelShuffle(4),
    )


@pytest.mark.parametrize("decoder", [ConvDecoder, SubpixelDecoder])
def test_images_of_64_are_decoded_as_they_were(decoder):
    old = of_old(decoder)
    torch.manual_seed(0)
    new = decoder(3, 2, 4, 8)
    assert list(new.state_dict()) == [f"layers.{name}" for name in old.state_dict()]
    for ours, theirs in zip(new.state_dict().values(), old.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    z = torch.randn(5, 3)
    assert torch.equal(new(z), old(z))


def test_images_of_64_are_broadcast_as_they_were():
    of_latents, of_positions = nn.Linear(3, 4), nn.Conv2d(2, 4, 1, bias=False)
    layers = nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(4, 2 * 4 * 4, 3, 1, 1),
        nn.PixelShuffle(4),
    )
    old = [*of_latents.state_dict().values(), *of_positions.state_dict().values(), *layers.state_dict().values()]
    torch.manual_seed(0)
    new = SpatialBroadcastDecoder(3, 2, 4, 2)
    names = [
        "of_latents.weight",
        "of_latents.bias",
        "of_positions.weight",
        *(f"layers.{n}" for n in layers.state_dict()),
    ]
    assert list(new.state_dict()) == names
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(new.state_dict().values(), old, strict=True))
    axis = torch.linspace(-1, 1, 16)
    positions = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    z = torch.randn(5, 3)
    assert torch.equal(new(z), layers(of_latents(z)[..., None, None] + of_positions(positions)))


RECORDED = {
    ConvDecoder: ((3, 2, 4, 8), 3122, 318.054896824, 2195.268222376),
    SubpixelDecoder: ((3, 2, 4, 8), 5872, 516.040265716, 2463.227234867),
    SpatialBroadcastDecoder: ((3, 2, 4, 3), 1504, 133.470092503, 1497.683376314),
}
"""Arguments; number of parameters and sum of their sizes; a weighted sum of the outputs."""


@pytest.mark.parametrize("decoder", DECODERS)
def test_values_recorded_before_there_were_other_sizes(decoder):
    arguments, count, size, weighted = RECORDED[decoder]
    network = decoder(*arguments).double()
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(p.abs().sum().item() for p in network.parameters()) == pytest.approx(size, rel=1e-6)  # drawn in float32
    out = network(torch.linspace(-1, 1, 15).double().reshape(5, 3)).flatten()
    assert (out @ torch.linspace(1, 2, len(out)).double()).item() == pytest.approx(weighted, rel=1e-6)


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=25, deadline=None)
@given(height=sides, width=sides, channels=st.integers(1, 4), batch=st.integers(1, 3))
def test_any_size_and_number_of_channels(decoder, height, width, channels, batch):
    network = small(decoder, channels=channels, size=(height, width))
    assert network(torch.randn(batch, 2)).shape == (batch, channels, height, width)


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=10, deadline=None)
@given(height=st.integers(16, 80), width=st.integers(16, 80))
def test_every_pixel_depends_on_the_latents(decoder, height, width):
    """With positive weights nothing cancels, and no rectifier is closed."""
    network = small(decoder, size=(height, width))
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.1)
    difference = network(torch.full((1, 2), 3.0)) - network(torch.full((1, 2), 2.0))
    assert (difference > 0).all()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [16, 64, (48, 80), (17, 250)])
def test_all_parameters_get_gradients(decoder, size):
    network = decoder(3, width=4, size=size)
    network(torch.randn(20, 3)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("size", [16, 31, 32, 63, 64, 128, 256, (48, 80), (16, 256)])
def test_the_coarsest_grid_has_four_to_eight_places_on_its_shorter_side(size):
    for decoder in (ConvDecoder, SubpixelDecoder):
        (grid,) = (layer.unflattened_size for layer in small(decoder, size=size).layers if type(layer) is nn.Unflatten)
        assert 4 <= min(grid[1:]) <= 8


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("leading", [(), (1,), (0,), (3, 2), (2, 1, 4)])
def test_leading_dimensions(decoder, leading):
    network, z = small(decoder, size=(20, 17)), torch.randn(*leading, 2)
    images = network(z)
    assert images.shape == (*leading, 1, 20, 17)
    expected = network(z.reshape(-1, 2)).reshape(images.shape)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_channel_and_pixel_has_weights_of_its_own(decoder):
    """The image is not repeated or mirrored: no two pixels are alike."""
    image = small(decoder, channels=3, size=(18, 22))(torch.randn(1, 2)).flatten()
    assert len(image.unique()) > 0.9 * len(image)


@pytest.mark.parametrize("size", [(48, 80), (21, 34)])
def test_positions_go_from_minus_one_to_one_along_both_sides(size):
    rows, columns = SpatialBroadcastDecoder(2, size=size).positions
    assert rows.shape == columns.shape == (-(-size[0] // 4), -(-size[1] // 4))
    for lines, others in ((rows, columns), (columns.T, rows.T)):
        assert torch.equal(lines[:, 0], torch.linspace(-1, 1, len(lines)))
        assert (lines == lines[:, :1]).all()
        assert (others == others[:1]).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_sizes_that_are_refused(decoder):
    with pytest.raises(ValueError, match=r"^size must be an integer from 16 to 256, or two, height and width; got 8$"):
        decoder(2, size=8)
    for name in ("latent_size", "channels", "width", *set(SMALL[decoder]) - {"width"}):
        with pytest.raises(ValueError, match=rf"^{name} must be an integer of 1 or more, got 0$"):
            decoder(**{"latent_size": 2, name: 0})


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_image_that_nobody_gives_the_size_of_is_one_of_64(decoder):
    assert decoder(2, channels=None, width=2, size=None)(torch.zeros(3, 2)).shape == (3, 1, 64, 64)


@pytest.mark.parametrize("decoder", DECODERS)
def test_sizes_of_numpy(decoder):
    network = decoder(np.int64(2), np.int64(3), np.int64(2), np.int64(2), np.array([16, 20]))
    assert network(torch.zeros(2, 2)).shape == (2, 3, 16, 20)
