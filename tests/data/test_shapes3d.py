"""3D Shapes from small files of the official layout."""

import itertools

import h5py
import numpy as np
import pytest
import torch

from pyro_hfvae.data import Images, Shapes3D, shapes3d

HUES = np.arange(10) / 10
GRIDS = (HUES[:3], HUES[:2], HUES[5:6], np.linspace(0.75, 1.25, 8)[:3], np.arange(4.0), np.linspace(-30, 30, 15)[::7])
LABELS = np.array(list(itertools.product(*GRIDS)))  # orientation fastest, as the authors have it
IMAGES = np.random.default_rng(0).integers(0, 256, (len(LABELS), 6, 5, 3), np.uint8)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    (tmp_path / "3dshapes").mkdir()
    return tmp_path


def write(root, images=IMAGES, labels=LABELS, **options):
    with h5py.File(root / "3dshapes" / "3dshapes.h5", "w") as file:
        for name, content in (("images", images), ("labels", labels)):
            if content is not None:
                file.create_dataset(name, data=content, **(options if name == "images" else {}))
    return root / "3dshapes" / "3dshapes.h5"


@pytest.mark.parametrize("chunks", [None, (50, 2, 3, 1), (1, 6, 5, 3), (len(LABELS), 6, 5, 3)])
@pytest.mark.parametrize("together", [1, 2000, 2**26])
def test_images_and_factors(root, monkeypatch, chunks, together):
    monkeypatch.setattr(shapes3d, "_TOGETHER", together)
    monkeypatch.setattr(shapes3d, "_WRITTEN", 7)
    write(root, **({"chunks": chunks, "compression": "gzip"} if chunks else {}))
    read = Shapes3D()
    assert isinstance(read, Images)
    assert (len(read), read.image_shape, read.held_out) == (216, (3, 6, 5), None)
    assert read.factor_sizes == (3, 2, 1, 3, 4, 3)
    assert read.factor_names[3:] == ("scale", "shape", "orientation")
    assert read.factor_kinds[:4] == ("circular", "circular", "circular", "ordinal")
    everything = torch.arange(len(read))
    np.testing.assert_allclose(read.images(everything) * 255, IMAGES.transpose(0, 3, 1, 2), atol=1e-4)
    expected = list(itertools.product(*(range(len(grid)) for grid in GRIDS)))
    assert [tuple(row) for row in read.factors(everything).tolist()] == expected
    assert read.factor_labels["orientation"] == ("-30", "0", "30")
    assert read.factor_labels["object_hue"] == ("0.5",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "it has no 'images'; it has: labels"),
        ({"labels": None}, "it has no 'labels'; it has: images"),
        ({"images": IMAGES[..., 0]}, "images is uint8 [216, 6, 5], expected uint8 [N, H, W, 3]"),
        ({"images": IMAGES / 255}, "images is float64 [216, 6, 5, 3], expected uint8"),
        ({"labels": LABELS[:5]}, "labels is float64 [5, 6], expected numbers [216, 6]"),
        ({"labels": LABELS * np.nan}, "labels holds values that are not finite"),
    ],
)
def test_other_content(root, changes, message):
    file = write(root, **changes)
    with pytest.raises(ValueError, match=rf"^'{file}' cannot be read as the HDF5 file of 3D Shapes: ") as error:
        Shapes3D()
    assert message in str(error.value)


def test_no_file_and_no_hdf5(root):
    with pytest.raises(FileNotFoundError, match=rf"^no 3D Shapes at '{root}/3dshapes/3dshapes\.h5': put the file"):
        Shapes3D()
    whole = write(root).read_bytes()
    for content in (b"", b"no hdf5", whole[:1000]):
        (root / "3dshapes" / "3dshapes.h5").write_bytes(content)
        with pytest.raises(ValueError, match=r"3dshapes\.h5' cannot be read as the HDF5 file of 3D Shapes: "):
            Shapes3D()
