"""Swaps against a decoder that paints its latents."""

import numpy as np
import pytest
from painting import X, expected_modes, guide, model, pixels

from pyro_hfvae.blocks import resolve_blocks
from pyro_hfvae.paint import painter, swaps

SHAPES = {"z": (2,), "w": (1,), "kind": ()}
BLOCKS = resolve_blocks({"b": ["z[1]"], "a": ["z[0]", "kind"], "c": ["w"]}, SHAPES).blocks
BLOCK_OF_PIXEL = ["a", "b", "c", "a", "a", "a"]


@pytest.mark.parametrize("batch", [3, 256])
def test_a_block_of_some_with_all_else_of_others(batch, monkeypatch):
    monkeypatch.setattr(swaps, "BATCH", batch)
    paint = painter(model, guide, X, BLOCKS)
    rest = np.array([0, 5, 2, 2, 6, 1, 3, 4])
    giving = np.array([3, 1, 4, 0, 6, 5, 2, 0])
    known = pixels(expected_modes(X)).numpy()
    for block in (None, *BLOCKS):
        painted = paint(block, giving, rest)
        assert painted.shape == (8, 1, 2, 3)
        expected = known[rest].copy()
        taken = [owner == block for owner in BLOCK_OF_PIXEL]
        expected[:, taken] = known[giving][:, taken]
        np.testing.assert_array_equal(painted.reshape(8, 6), expected)


def test_one_block_has_nothing_to_swap():
    with pytest.raises(ValueError, match="swaps need two blocks or more; there is one"):
        painter(model, guide, X, resolve_blocks({"all": list(SHAPES)}, SHAPES).blocks)


def test_a_model_that_observes_nothing():
    with pytest.raises(ValueError, match="none of the model's observed sites has a mean"):
        painter(lambda x: None, guide, X, BLOCKS)(None, np.arange(2), np.arange(2))
