"""Sizes are checked, sequences are masked, and dense layers are what they say."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from pyro_hfvae.networks import dense_layers, halvings, image_shape_of, image_size, positive, within


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, torch.tensor, np.array])
def test_integers_of_any_kind(kind):
    assert positive(width=kind(3), depth=kind(1)) == (3, 1)
    assert image_size(kind(48)) == (48, 48)
    assert image_size((kind(48), kind(80))) == image_size([kind(48), kind(80)]) == (48, 80)
    assert all(type(number) is int for number in (*positive(width=kind(3)), *image_size(kind(48))))


@pytest.mark.parametrize("sides", [np.array, torch.tensor, list, tuple])
def test_two_sides_of_any_kind(sides):
    assert image_size(sides([16, 255])) == (16, 255)


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, [2], torch.tensor(2.5), np.array([1, 2])])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match=re.escape(f"width must be an integer of 1 or more, got {size}")):
        positive(channels=1, width=size)


@pytest.mark.parametrize(
    "size", [15, 257, 64.0, "64", "16", None, (64,), (64, 64, 64), (64, 8), (64, 64.0), [], {}, -64]
)
def test_images_of_no_size(size):
    message = f"size must be an integer from 16 to 256, or two, height and width; got {size}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        image_size(size)


@pytest.mark.parametrize("shape", [(1, 28), (28,), (1, 1, 28, 28), (0, 28, 28), (1, 28, -1)])
def test_images_of_no_shape(shape):
    must = "the sizes of image_shape must be 1 or more" if len(shape) == 3 else "image_shape must be C, H, W"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{must}, got {list(shape)}')}$"):
        image_shape_of(shape)


def test_halvings_leave_four_to_seven():
    for size in range(8, 300):
        assert 4 <= size >> halvings(size) < 8
        assert halvings(size, 300) == halvings(300, size) == halvings(size)
    assert [halvings(size) for size in range(1, 9)] == [0] * 7 + [1]


def test_dense_layers():
    shapes = [(layer.in_features, layer.out_features) for layer in dense_layers(3, [4, 5], 6)[::2]]
    assert shapes == [(3, 4), (4, 5), (5, 6)]
    assert [type(layer) for layer in dense_layers(3, (4, 5))] == [nn.Linear, nn.ReLU] * 2
    assert [type(layer) for layer in dense_layers(3, (4,), 6)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert dense_layers(3, ()) == []
    assert dense_layers(3, (), 2)[0].weight.shape == (2, 3)


def test_within():
    x = torch.zeros(3, 4, 2)
    assert within(None, x).all()
    assert within(torch.tensor([1, 4, 2]), x).tolist() == [[i < n for i in range(4)] for n in (1, 4, 2)]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 0, 4], "lengths must be from 1 to 4, got 0 to 4"),
        ([1, 5, 4], "lengths must be from 1 to 4, got 1 to 5"),
        ([1, 2], "lengths must be [3], one for each sequence, got [2]"),
        ([[1], [2], [3]], "lengths must be [3], one for each sequence, got [3, 1]"),
    ],
)
def test_lengths_that_do_not_fit(lengths, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        within(torch.tensor(lengths), torch.zeros(3, 4, 2))
