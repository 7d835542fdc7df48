"""Cars3D from small files of the official layout."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from pyro_hfvae.data import Cars3D, Images

CARS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3, 24, 4), np.uint8)
NAMES = ["002_mesh", "001_mesh", "010_mesh"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(root):
    (root / "cars3d").mkdir()
    for name, car in zip(NAMES, CARS, strict=True):
        savemat(root / "cars3d" / f"{name}.mat", {"im": car})
    (root / "cars3d" / "list.txt").write_text("\n".join(NAMES))
    return root / "cars3d"


def test_images_and_factors(folder):
    read = Cars3D(size=(6, 5))
    assert isinstance(read, Images)
    assert (len(read), read.image_shape, read.held_out) == (288, (3, 6, 5), None)
    assert (read.factor_names, read.factor_sizes) == (("elevation", "azimuth", "car"), (4, 24, 3))
    assert read.factor_kinds == ("ordinal", "circular", "categorical")
    everything = torch.arange(288)
    factors = read.factors(everything)
    assert len(factors.unique(dim=0)) == 288
    for image, (elevation, azimuth, car) in zip(read.images(everything) * 255, factors.tolist(), strict=True):
        expected = CARS[[1, 0, 2][car], :, :, :, azimuth, elevation]  # in the order of the names
        np.testing.assert_allclose(image, expected.transpose(2, 0, 1), atol=1e-4)


def test_another_size(folder):
    read = Cars3D(size=(3, 4))
    expected = Image.fromarray(np.ascontiguousarray(CARS[1, ..., 7, 2])).resize((4, 3), Image.Resampling.LANCZOS)
    found = read.images([7 * 4 + 2])[0] * 255
    np.testing.assert_allclose(found, np.asarray(expected).transpose(2, 0, 1), atol=1e-4)
    assert Cars3D().image_shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": CARS[0]}, "it has no 'im'"),
        ({"im": CARS[0, ..., 0]}, r"im is uint8 \[6, 5, 3, 24\], expected uint8 \[H, W, 3, 24, 4\]"),
        ({"im": CARS[0] / 255}, r"im is float64 \[6, 5, 3, 24, 4\], expected uint8"),
        (b"no matrix", "."),
        (b"", "."),
    ],
)
def test_other_content(folder, content, message):
    file = folder / "001_mesh.mat"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        savemat(file, content)
    with pytest.raises(ValueError, match=rf"^'{file}' cannot be read as a MATLAB file of Cars3D: {message}"):
        Cars3D()


def test_no_files(root):
    with pytest.raises(
        FileNotFoundError, match=rf"^no \.mat files in '{root}/cars3d': put those of data/cars of Cars3D"
    ):
        Cars3D()
    with pytest.raises(ValueError, match="^size must be integers"):
        Cars3D(size=(64,))
