"""Batches of indices: every datum once an epoch, and the same from any start."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.data.batches import IndexBatches, in_order


@given(size=st.integers(2, 60), batch_size=st.integers(2, 60), seed=st.integers(0, 5), start=st.integers(0, 50))
def test_every_datum_once_an_epoch_from_any_start(size, batch_size, seed, start):
    if batch_size > size:
        return
    indices = torch.arange(100, 100 + size)
    batches = IndexBatches(indices, batch_size, seed)
    per_epoch = batches.batches_per_epoch
    drawn = list(islice(batches, start + 2 * per_epoch))
    for epoch in (drawn[:per_epoch], drawn[per_epoch : 2 * per_epoch]):
        assert torch.cat(epoch).sort().values.equal(indices)
        assert all(2 <= len(batch) <= batch_size + 1 for batch in epoch)
    resumed = list(islice(IndexBatches(indices, batch_size, seed, start), 2 * per_epoch))
    assert all(a.equal(b) for a, b in zip(resumed, drawn[start:], strict=True))


def test_epochs_and_seeds_differ():
    first, second = islice(IndexBatches(torch.arange(50), 50, 0), 2)
    other = next(iter(IndexBatches(torch.arange(50), 50, 1)))
    assert not first.equal(second)
    assert not first.equal(other)


def test_a_single_left_over_datum_joins_the_batch_before_it():
    sizes = [len(batch) for batch in islice(IndexBatches(torch.arange(33), 8, 0), 4)]
    assert sizes == [8, 8, 8, 9]


@given(size=st.integers(1, 40), batch_size=st.integers(1, 45))
def test_in_order(size, batch_size):
    parts = in_order(torch.arange(size), batch_size)
    assert torch.cat(parts).equal(torch.arange(size))
    assert all(len(part) <= batch_size + 1 for part in parts)
    if batch_size > 1 and size > 1:
        assert all(len(part) > 1 for part in parts)


@pytest.mark.parametrize(
    ("batch_size", "message"), [(1, "batch size 1 is too small"), (11, "larger than the 10 training")]
)
def test_bad_batch_sizes(batch_size, message):
    with pytest.raises(ValueError, match=message):
        IndexBatches(torch.arange(10), batch_size, 0)
