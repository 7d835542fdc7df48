"""The split, and batches by one gather each."""

import re
from itertools import islice

import numpy as np
import pytest
import torch
from support import TinyImages

from pyro_hfvae.data import Batch, Data
from pyro_hfvae.train import DataModule
from pyro_hfvae.weak import Pairing


class Counting(TinyImages):
    calls = 0

    def images(self, indices):
        self.calls += 1
        return super().images(indices)


def test_split_is_disjoint_complete_and_follows_the_seed():
    data, again, other = (DataModule(TinyImages(), 16, held_out=30, seed=seed) for seed in (0, 0, 1))
    assert data.data_size == 70
    assert torch.cat([data.train_indices, data.held_out_indices]).sort().values.equal(torch.arange(100))
    assert data.held_out_indices.equal(again.held_out_indices)
    assert not data.held_out_indices.equal(other.held_out_indices)


def test_the_test_set_that_comes_with_the_data_is_held_out():
    images = TinyImages()
    images.held_out = torch.arange(80, 100)
    data = DataModule(images, 16)
    assert data.train_indices.equal(torch.arange(80))
    assert data.held_out_indices.sort().values.equal(torch.arange(80, 100))
    assert DataModule(TinyImages(), 16).held_out_indices.shape == (10,)


def test_one_gather_a_batch():
    images = Counting()
    data = DataModule(images, 16, held_out=30)
    loader = iter(data.train_dataloader())
    for calls in range(1, 6):
        batch = next(loader)
        assert images.calls == calls
    assert batch.x.shape == (6, 1, 8, 8)  # 70 = 4 · 16 + 6
    assert sum(batch.size for batch in data.val_dataloader()) == 30


def test_held_out_batches_pair_images_with_factors():
    data = DataModule(TinyImages(), 16, held_out=30)
    images, factors = zip(*data.held_out_batches(25, batch_size=8), strict=True)
    assert Batch.joined(images).x.equal(data.source.images(data.held_out_indices[:25]))
    assert torch.cat(factors).equal(data.source.factors(data.held_out_indices[:25]))


@pytest.mark.parametrize("held_out", [0, 1, 99, 100])
def test_bad_split(held_out):
    with pytest.raises(ValueError, match=f"cannot hold out {held_out} of 100 data"):
        DataModule(TinyImages(), 16, held_out=held_out)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_and_torch(integer):
    pairs = Pairing({"place": ["x"], "rest": []}, swap=True)
    for options in ({}, {"pairs": pairs}):
        expected = DataModule(TinyImages(), 16, held_out=30, seed=3, **options)
        numbers = {"held_out": integer(30), "num_workers": integer(0), "seed": integer(3)}
        found = DataModule(TinyImages(), integer(16), **numbers, **options)
        assert found.held_out_indices.equal(expected.held_out_indices)
        ((one,), _), ((other,), _) = found.first_batch().arguments, expected.first_batch().arguments
        assert one.equal(other)
        batches = found.held_out_batches(integer(20), integer(8)), expected.held_out_batches(20, 8)
        for (one, _), (other, _) in zip(*batches, strict=True):
            assert one.x.equal(other.x)
        assert next(iter(found.val_dataloader())).x.equal(next(iter(expected.val_dataloader())).x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_a_test_set_of_any_integers(dtype):
    images = TinyImages()
    images.held_out = torch.arange(80, 100).to(dtype)
    assert DataModule(images, 16).held_out_indices.sort().values.equal(torch.arange(80, 100))


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (torch.arange(100) < 20, "must be a tensor of indices, integers [M], got bool [100]"),
        (np.arange(20), "must be a tensor of indices, integers [M], got a numpy.ndarray"),
        (list(range(20)), "must be a tensor of indices, integers [M], got a list"),
        (torch.arange(20.0), "must be a tensor of indices, integers [M], got float32 [20]"),
        (torch.zeros(2, 2).long(), "must be a tensor of indices, integers [M], got int64 [2, 2]"),
        (torch.tensor([1, 2, 500]), "names datum 500, but there are 100, from 0 to 99"),
        (torch.tensor([1, -1, 2]), "names datum -1, but there are 100"),
        (torch.tensor([1, 1, 2, 2]), "names datum 1 2 times"),
        ((torch.arange(100) < 20).long(), "names datum 0 80 times"),
    ],
)
def test_what_is_no_test_set(held_out, message):
    images = TinyImages()
    images.held_out = held_out
    with pytest.raises(ValueError, match=f"^held_out of TinyImages {re.escape(message)}"):
        DataModule(images, 16)
    assert DataModule(images, 16, held_out=30).data_size == 70  # the user's own split


def returning(change, part="images"):
    class Changed(TinyImages):
        def images(self, indices):
            return change(super().images(indices)) if part == "images" else super().images(indices)

        def factors(self, indices):
            return change(super().factors(indices)) if part == "factors" else super().factors(indices)

    return Changed()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.numpy(), "must return a floating-point tensor with 16 rows for 16 indices, got a numpy.ndarray"),
        (
            lambda x: (x * 255).byte(),
            "must return a floating-point tensor with 16 rows for 16 indices, got uint8",
        ),
        (lambda x: x > 0, "must return a floating-point tensor with 16 rows for 16 indices, got bool"),
        (lambda x: x[:3], "must return a floating-point tensor with 16 rows for 16 indices, got float32 [3, 1, 8, 8]"),
        (lambda x: None, "must return a floating-point tensor with 16 rows for 16 indices, got a NoneType"),
        (lambda x: x.permute(0, 2, 3, 1), "returns the shape [16, 8, 8, 1], but its image_shape is [1, 8, 8]"),
        (lambda x: x.expand(-1, 3, -1, -1), "returns the shape [16, 3, 8, 8], but its image_shape is [1, 8, 8]"),
    ],
)
def test_images_of_another_kind(change, message):
    with pytest.raises(ValueError, match=f"^images of Changed {re.escape(message)}"):
        DataModule(returning(change), 16).first_batch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.numpy(), "factors of Changed must return integers of shape [100, 3] for 100 indices, got a numpy"),
        (
            lambda f: f.float(),
            "factors of Changed must return integers of shape [100, 3], or float64 where a factor is continuous or "
            "missing, got float32 [100, 3]",
        ),
        (lambda f: f[:, :2], "factors of Changed must return integers of shape [100, 3] for 100 indices, got int64 [1"),
        (lambda f: f + 1, "factor 'x' of Changed has the value 5, expected 0 to 4"),
        (lambda f: f - 1, "factor 'x' of Changed has the value -1, expected 0 to 4"),
        (lambda f: f + 0.5 * torch.ones(3).double(), "factor 'x' of Changed has the value 0.5, expected 0 to 4"),
    ],
)
def test_factors_of_another_kind(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DataModule(returning(change, "factors"), 16)


def test_factors_that_are_missing_or_continuous():
    missing = returning(lambda f: f.double().where(f > 0, torch.nan), "factors")
    assert DataModule(missing, 16).data_size == 90
    missing.factor_kinds = ("ordinal", "ordinal", "continuous")
    assert DataModule(missing, 16).data_size == 90
    endless = returning(lambda f: f.double().where(f > 0, torch.inf), "factors")
    endless.factor_kinds = ("continuous", "ordinal", "ordinal")
    with pytest.raises(ValueError, match="^factor 'x' of Changed has the value inf, expected finite numbers$"):
        DataModule(endless, 16)


def test_pairs_share_what_is_known_and_no_real_number():
    missing = returning(lambda f: f.double().where(f > 0, torch.nan), "factors")
    missing.factor_kinds = ("ordinal", "continuous", "ordinal")
    data = DataModule(missing, 16, held_out=2, pairs=Pairing({"place": ["x"], "rest": []}, identity=0.3))
    for asked in islice(data._training_batches(0), 20):
        one, other = (missing.factors(indices)[:, 0] for indices in (asked.inputs, asked.targets))
        assert (one == other)[asked.inputs != asked.targets].all()  # NaN equals nothing
    with pytest.raises(
        ValueError, match="^pairs.blocks of block 'place': the data have no factor 'y'; they have: 'x', 'l"
    ):
        DataModule(missing, 16, pairs=Pairing({"place": ["y"], "rest": []}))


class Counts(Data):
    """Whole numbers with a covariate."""

    def __init__(self, change=dict):
        self.change = change

    def __len__(self):
        return 40

    def batch(self, indices):
        return self.change(Batch(x=torch.ones(len(indices), 3), total=indices.float()))

    def factors(self, indices):
        return torch.zeros(len(indices), 0, dtype=torch.long)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict, "batch of Counts must return a pyro_hfvae.data.Batch of named tensors, got a dict"),
        (lambda batch: Batch(), "batch of Counts must return a pyro_hfvae.data.Batch of named tensors, got a pyro"),
        (
            lambda batch: Batch(x=batch.x, total=batch["total"][:3]),
            "'total' of a batch of Counts must be a tensor with 16 rows for 16 indices, got float32 [3]",
        ),
        (
            lambda batch: Batch(x=batch.x, target=batch.x),
            "a batch of Counts names a tensor 'target', which pairs give to programs: choose another name",
        ),
        (
            lambda batch: Batch(x=batch.x.long(), total=batch["total"]),
            "'x' of a batch of Counts must be a floating-point tensor with 16 rows for 16 indices, got int64 [16, 3]",
        ),
    ],
)
def test_batches_of_another_kind(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DataModule(Counts(change), 16).first_batch()


def test_named_tensors_reach_training_and_held_out_batches():
    data = DataModule(Counts(lambda batch: batch), 16, held_out=4)
    assert list(data.first_batch()) == ["x", "total"]
    assert data.source.shape == (3,)
    held_out = Batch.joined(batch for batch, _ in data.held_out_batches())
    assert held_out["total"].equal(data.held_out_indices.float())
    loaded = next(iter(data.train_dataloader()))
    assert isinstance(loaded, Batch)
    assert loaded["total"].long().unique().numel() == loaded.size == 16


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            {"factor_sizes": (5, 5)},
            "TinyImages has 3 factor_names, 2 factor_sizes and 3 factor_kinds: give",
        ),
        ({"factor_names": ("x", "x", "y")}, "factor_names of TinyImages holds 'x', expected different names"),
        ({"factor_names": ("x", "", "y")}, "factor_names of TinyImages holds '', expected different names"),
        ({"factor_names": ("x", "a\nb", "y")}, "factor_names of TinyImages holds 'a\\nb', expected different names"),
        ({"factor_names": ("x", 3, "y")}, "factor_names of TinyImages holds 3, expected different names"),
        (
            {"factor_kinds": ("ordinal", "ordered", "ordinal")},
            "factor 'y' of TinyImages is of kind",
        ),
    ],
)
def test_descriptions_that_do_not_fit(description, message):
    images = TinyImages()
    for name, value in description.items():
        setattr(images, name, value)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DataModule(images, 16)
