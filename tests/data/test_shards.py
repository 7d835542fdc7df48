"""Arrays in many files: what one array would give, whatever the cuts and the indices, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from pyro_hfvae.data import Data, Shards, shards

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, 6, 5, 3), np.uint8)
REALS = RANDOM.normal(size=(20, 7))
CUTS = [1, 2, 9, 19]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    write(tmp_path / "parts", REALS)
    return tmp_path / "parts"


def write(folder, array, cuts=tuple(CUTS)):
    """Files of different lengths, whose numbers have one digit and two."""
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.split(array, cuts), 8):
        np.save(folder / f"part_{number}.npy", part)
    return folder


@given(st.lists(st.integers(0, 19), max_size=30), st.sets(st.integers(1, 19)), st.booleans())
def test_any_cuts_and_any_indices(tmp_path_factory, indices, cuts, many):
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_OPEN", 2 if many else 100)
        read = Shards(write(folder, REALS, sorted(cuts)))
        assert (len(read), read.shape) == (20, (7,))
        x = read.batch(indices).x
        assert x.dtype == torch.float32
        np.testing.assert_array_equal(x, REALS[np.array(indices, int)].astype(np.float32))
        assert pickle.loads(pickle.dumps(read)).batch(indices).x.equal(x)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (IMAGES, IMAGES.transpose(0, 3, 1, 2) / 255),
        (IMAGES.transpose(0, 3, 1, 2), IMAGES.transpose(0, 3, 1, 2) / 255),
        (IMAGES[..., 0], IMAGES[:, None, :, :, 0] / 255),
        (IMAGES.reshape(20, -1), IMAGES.reshape(20, -1)),
        (IMAGES / np.float16(255), IMAGES / np.float16(255)),
        (REALS.astype(">f8"), REALS),
        (IMAGES.astype(np.int16), IMAGES),
        (IMAGES > 127, IMAGES > 127),
    ],
)
def test_kinds_of_arrays(tmp_path, array, expected):
    read = Shards(str(write(tmp_path / "parts", np.ascontiguousarray(array))))
    assert isinstance(read, Data)
    found = read.batch(range(20)).x
    assert found.is_contiguous()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected.astype(np.float64), rtol=1e-6)
    assert read.factors([3, 4]).shape == (2, 0)
    assert read.held_out is None


def test_files_and_what_is_known(folder, tmp_path):
    factors = RANDOM.integers(0, 3, (20, 2))
    factors[0] = 2
    np.savez(tmp_path / "known.npz", factors=factors, factor_names=["a", "b"], held_out=np.arange(20) > 15)
    for path in ("parts", folder, [f"parts/part_{number}.npy" for number in range(8, 13)]):
        read = Shards(path, known="known.npz")
        np.testing.assert_array_equal(read.batch(range(20)).x, REALS.astype(np.float32))
        assert read.factors([4, 19]).tolist() == factors[[4, 19]].tolist()
        assert (read.factor_names, read.factor_sizes) == (("a", "b"), (3, 3))
        assert read.held_out.tolist() == [16, 17, 18, 19]
    one = Shards(folder / "part_10.npy")
    np.testing.assert_array_equal(one.batch([0]).x[0], REALS[2].astype(np.float32))
    with pytest.raises(IndexError, match="^no datum 7: there are 7"):
        one.batch([7])


def test_options_of_the_command_line(folder):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Data, "data")
    for given_path, expected in (("parts", "parts"), ("[a.npy, b.npy]", ["a.npy", "b.npy"])):
        init = parser.parse_args(["--data=pyro_hfvae.data.Shards", f"--data.path={given_path}"]).data.init_args
        assert init.path == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (REALS[:, :3], "holds float64 [20, 3], '"),
        (REALS.astype(np.float32), "holds float32 [20, 7], '"),
        (np.array([object()]), "cannot be read as an .npy file with an array: it holds Python objects"),
        (REALS[:0], "cannot be read as an .npy file with an array: its shape is [0, 7], which is empty"),
        (np.asfortranarray(REALS), "it is in Fortran order, rows scattered over the file"),
    ],
)
def test_a_file_that_does_not_fit(folder, array, message):
    np.save(folder / "part_9.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"^'{folder / 'part_9.npy'}' ") as error:
        Shards(folder)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (REALS[:, 0], "holds float64 [20], expected numbers with a row for each datum"),
        (REALS.astype(str), "expected numbers with a row for each datum"),
        (IMAGES.repeat(2, 3).repeat(2, 1), "holds uint8 [20, 12, 5, 6]: images are uint8 [N, H, W], [N, H, W, C] or"),
        (IMAGES // 255, "a hundred of 20 images hold no value above 1, and 255 is the brightest"),
    ],
)
def test_arrays_that_are_no_data(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 'a.npy'}'") as error:
        Shards(tmp_path / "a.npy")
    assert message in str(error.value)


def test_values_that_are_not_finite(folder):
    for wrong in (np.nan, np.inf):
        part = REALS[2:9].copy()
        part[4, 1] = wrong
        np.save(folder / "part_10.npy", part)
        read = Shards(folder)
        assert len(read.batch([0, 5, 7]).x) == 3
        with pytest.raises(ValueError, match=rf"^'{folder / 'part_10.npy'}': row 4 holds a value that is not finite$"):
            read.batch([0, 6, 19])


def test_no_files(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"^no array at '{tmp_path}/other\.npy': make it with numpy\.save$"):
        Shards("other.npy")
    with pytest.raises(FileNotFoundError, match="^no array at '.*b.npy'"):
        Shards([folder / "part_8.npy", "b.npy"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^no \.npy files in '.*empty'$"):
        Shards("empty")
    with pytest.raises(ValueError, match="^path names no file$"):
        Shards([])
    with pytest.raises(FileNotFoundError, match="^no file of what is known of the data at '.*known.npz'$"):
        Shards(folder, known="known.npz")
    np.savez(tmp_path / "known.npz", factors=np.zeros((3, 1), int), factor_names=["a"])
    with pytest.raises(ValueError, match=r"known.npz': factors is int64 \[3, 1\], expected integers \[20, F\]"):
        Shards(folder, known="known.npz")
