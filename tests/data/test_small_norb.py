"""Small NORB from small files of the official layout."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hfvae.data import Images, SmallNORB, small_norb

PARTS = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
TYPES = {"u1": 0x1E3D4C55, "i4": 0x1E3D4C54, "f4": 0x1E3D4C51}
RANDOM = np.random.default_rng(0)
PHOTOS = [RANDOM.integers(0, 256, (count, 2, 6, 5), np.uint8) for count in (11, 7)]
CATEGORIES = [RANDOM.integers(0, 5, count) for count in (11, 7)]
SIZES = (10, 9, 18, 6)
OTHERS = [np.stack([RANDOM.integers(0, size, count) for size in SIZES], 1) * [1, 1, 2, 1] for count in (11, 7)]


def matrix(array, dtype):
    """The authors' format: magic number, dimensions, at least three sizes, and the values, lowest byte first."""
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    return struct.pack(f"<Ii{len(sizes)}i", TYPES[dtype], array.ndim, *sizes) + array.astype(f"<{dtype}").tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    monkeypatch.setattr(small_norb, "_TOGETHER", 4)
    (tmp_path / "small_norb").mkdir()
    for part, photos, categories, others in zip(PARTS, PHOTOS, CATEGORIES, OTHERS, strict=True):
        for kind, array, dtype in (("dat", photos, "u1"), ("cat", categories, "i4"), ("info", others, "i4")):
            file = tmp_path / "small_norb" / f"{part}-{kind}.mat.gz"
            file.write_bytes(gzip.compress(matrix(array, dtype)))
    return tmp_path / "small_norb"


@pytest.mark.parametrize(("cameras", "views"), [("left", [0]), ("right", [1]), ("both", [0, 1])])
def test_photos_factors_and_test_set(folder, cameras, views):
    read = SmallNORB(size=(6, 5), cameras=cameras)
    assert isinstance(read, Images)
    assert (len(read), read.image_shape) == (18, (len(views), 6, 5))
    everything = torch.arange(18)
    np.testing.assert_allclose(read.images(everything) * 255, np.concatenate(PHOTOS)[:, views], atol=1e-4)
    assert read.held_out.tolist() == list(range(11, 18))
    factors = read.factors(everything)
    assert factors[:, 0].tolist() == np.concatenate(CATEGORIES).tolist()
    assert factors[:, 1:].tolist() == (np.concatenate(OTHERS) // [1, 1, 2, 1]).tolist()
    assert read.factor_kinds[3] == "circular"
    sizes = dict(zip(read.factor_names, read.factor_sizes, strict=True))
    assert all(len(labels) == sizes[name] for name, labels in read.factor_labels.items())


def test_another_size(folder):
    found = SmallNORB(size=(3, 4)).images([12])[0, 0] * 255
    expected = Image.fromarray(PHOTOS[1][1, 0]).resize((4, 3), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-4)


def test_unpacked_files(folder):
    expected = SmallNORB(size=(6, 5)).images(range(18))
    for file in folder.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert SmallNORB(size=(6, 5)).images(range(18)).equal(expected)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("dat", matrix(PHOTOS[0][:5], "u1"), "it holds uint8 [5, 2, 6, 5], expected uint8 [11, 2, H, W]"),
        ("dat", matrix(PHOTOS[0], "i4"), "it holds int32 [11, 2, 6, 5], expected uint8 [11, 2, H, W]"),
        ("dat", matrix(PHOTOS[0], "u1")[:-9], "it ends 9 bytes too early"),
        ("dat", matrix(PHOTOS[0], "u1") + b"x", "it goes on after its last photo"),
        ("dat", struct.pack("<Ii4i", TYPES["u1"], 4, 11, 2, 2**20, 2**20), "expected uint8 [11, 2, H, W]"),
        (
            "cat",
            matrix(CATEGORIES[0], "f4"),
            "it starts with 1e3d4c51 and 1 dimensions: no matrix of bytes or integers",
        ),
        ("cat", matrix(CATEGORIES[0][:5], "i4"), "-cat.mat.gz' has 5 rows, '"),
        ("cat", matrix(CATEGORIES[0] + 1, "i4"), "holds values outside 5 × 10 × 9 × 18 × 6"),
        ("cat", b"", "it ends after 0 bytes, within its header"),
        ("cat", matrix(CATEGORIES[0], "i4")[:10], "it ends within its header"),
        ("info", matrix(OTHERS[0][:, :3], "i4"), "it holds int32 [11, 3], expected int32 [N, 4]"),
        ("info", matrix(OTHERS[0] + [0, 0, 1, 0], "i4"), "holds an odd azimuth, expected 0, 2, ..., 34"),
        ("info", struct.pack("<Ii3i", TYPES["i4"], 2, 2**30, 4, 1), "it holds int32 [1073741824, 4], expected int32"),
    ],
)
def test_damaged_files(folder, kind, content, message):
    (folder / f"{PARTS[0]}-{kind}.mat.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=PARTS[0]) as error:
        SmallNORB()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_gzip_and_no_file(folder):
    (folder / f"{PARTS[1]}-info.mat.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="-info.mat.gz' cannot be read as a file of small NORB: Not a gzipped file"):
        SmallNORB()
    (folder / f"{PARTS[1]}-info.mat.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^no {PARTS[1]}-info\.mat\.gz in '{folder}': put the six files of"):
        SmallNORB()
    with pytest.raises(ValueError, match="^cameras must be 'left', 'right' or 'both', got 'middle'$"):
        SmallNORB(cameras="middle")
