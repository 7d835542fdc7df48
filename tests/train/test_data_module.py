"""The split, and batches by one gather each."""

import numpy as np
import pytest
import torch
from support import TinyImages

from pyro_hfvae.train import ImageDataModule
from pyro_hfvae.weak import Pairing


class Counting(TinyImages):
    calls = 0

    def images(self, indices):
        self.calls += 1
        return super().images(indices)


def test_split_is_disjoint_complete_and_follows_the_seed():
    data, again, other = (ImageDataModule(TinyImages(), 16, held_out=30, seed=seed) for seed in (0, 0, 1))
    assert data.data_size == 70
    assert torch.cat([data.train_indices, data.held_out_indices]).sort().values.equal(torch.arange(100))
    assert data.held_out_indices.equal(again.held_out_indices)
    assert not data.held_out_indices.equal(other.held_out_indices)


def test_the_test_set_that_comes_with_the_data_is_held_out():
    images = TinyImages()
    images.held_out = torch.arange(80, 100)
    data = ImageDataModule(images, 16)
    assert data.train_indices.equal(torch.arange(80))
    assert data.held_out_indices.sort().values.equal(torch.arange(80, 100))
    assert ImageDataModule(TinyImages(), 16).held_out_indices.shape == (10,)


def test_one_gather_a_batch():
    images = Counting()
    data = ImageDataModule(images, 16, held_out=30)
    loader = iter(data.train_dataloader())
    for calls in range(1, 6):
        (batch,) = next(loader)
        assert images.calls == calls
    assert batch.shape == (6, 1, 8, 8)  # 70 = 4 · 16 + 6
    assert sum(len(batch) for (batch,) in data.val_dataloader()) == 30


def test_held_out_batches_pair_images_with_factors():
    data = ImageDataModule(TinyImages(), 16, held_out=30)
    images, factors = zip(*data.held_out_batches(25, batch_size=8), strict=True)
    assert torch.cat(images).equal(data.images.images(data.held_out_indices[:25]))
    assert torch.cat(factors).equal(data.images.factors(data.held_out_indices[:25]))


@pytest.mark.parametrize("held_out", [0, 1, 99, 100])
def test_bad_split(held_out):
    with pytest.raises(ValueError, match=f"cannot hold out {held_out} of 100 images"):
        ImageDataModule(TinyImages(), 16, held_out=held_out)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_and_torch(integer):
    pairs = Pairing({"place": ["x"], "rest": []}, swap=True)
    for options in ({}, {"pairs": pairs}):
        expected = ImageDataModule(TinyImages(), 16, held_out=30, seed=3, **options)
        numbers = {"held_out": integer(30), "num_workers": integer(0), "seed": integer(3)}
        found = ImageDataModule(TinyImages(), integer(16), **numbers, **options)
        assert found.held_out_indices.equal(expected.held_out_indices)
        assert found.first_batch()[0].equal(expected.first_batch()[0])
        batches = found.held_out_batches(integer(20), integer(8)), expected.held_out_batches(20, 8)
        for (one, _), (other, _) in zip(*batches, strict=True):
            assert one.equal(other)
        assert next(iter(found.val_dataloader()))[0].equal(next(iter(expected.val_dataloader()))[0])


@pytest.mark.parametrize("kind", [np.array, list, tuple, torch.tensor])
def test_a_test_set_of_any_integers(kind):
    images = TinyImages()
    images.held_out = kind(range(80, 100))
    assert ImageDataModule(images, 16).held_out_indices.sort().values.equal(torch.arange(80, 100))


def test_a_mask_in_the_place_of_a_test_set():
    images = TinyImages()
    images.held_out = np.arange(100) < 20
    with pytest.raises(ValueError, match=r"held_out of the data must be integers \[M\], got bool \[100\]"):
        ImageDataModule(images, 16)
