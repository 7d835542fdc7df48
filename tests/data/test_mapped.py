"""Rows of arrays in files: whatever is asked for, it is what indexing the array gives."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.data.mapped import MappedArray

ARRAYS = {
    "bytes": np.random.default_rng(0).integers(0, 256, (7, 2, 3), np.uint8),
    "reals": np.random.default_rng(0).normal(size=(7, 2)).astype(">f4"),
    "flat": np.arange(7),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    return {(name, keep): MappedArray(folder / f"{name}.npy", name, keep) for name in ARRAYS for keep in (False, True)}


@given(st.sampled_from(list(ARRAYS)), st.booleans(), st.lists(st.integers(0, 6), max_size=9))
def test_rows_in_any_order(files, name, keep, indices):
    mapped, array = files[name, keep], ARRAYS[name]
    assert (len(mapped), mapped.shape, mapped.dtype) == (7, array.shape, array.dtype)
    found = mapped.rows(np.array(indices, np.int64))
    np.testing.assert_array_equal(found, array[np.array(indices, np.int64)])
    found.fill(0)  # a copy: the file is read only, and stays as it is
    copy = pickle.loads(pickle.dumps(mapped))
    np.testing.assert_array_equal(copy.rows(np.arange(7)), array)
