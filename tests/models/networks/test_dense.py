"""The dense decoder of images."""

import pytest
import torch

from pyro_hfvae.models import MLPDecoder


def test_values_recorded_before_it_was_moved():
    torch.manual_seed(0)
    network = MLPDecoder(3, (2, 4, 5), (6, 7)).double()
    assert sum(p.numel() for p in network.parameters()) == 393
    assert sum(p.abs().sum().item() for p in network.parameters()) == pytest.approx(77.487029821, rel=1e-6)
    out = network(torch.linspace(-1, 1, 15).double().reshape(5, 3)).flatten()
    assert (out @ torch.linspace(1, 2, len(out)).double()).item() == pytest.approx(7.915422865, rel=1e-6)


@pytest.mark.parametrize("leading", [(), (1,), (0,), (3, 2)])
def test_leading_dimensions(leading):
    assert MLPDecoder(3, (2, 4, 5), (6,))(torch.zeros(*leading, 3)).shape == (*leading, 2, 4, 5)


def test_an_image_that_nobody_gives_the_shape_of_is_one_of_28():
    assert MLPDecoder(3)(torch.zeros(2, 3)).shape == (2, 1, 28, 28)
