"""MPI3D from files with all images of the official sets, each of one pixel."""

import numpy as np
import pytest
import torch

from pyro_hfvae.data import MPI3D, Images, mpi3d

COMPLEX = 4 * 4 * 2 * 3 * 3 * 40 * 40
SIMPLE = 6 * 6 * 2 * 3 * 3 * 40 * 40


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    (tmp_path / "mpi3d").mkdir()
    return tmp_path


def pixels(count):
    """Each number in three bytes."""
    numbers = np.arange(count)
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 2**16], 1).astype(np.uint8).reshape(-1, 1, 1, 3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("count", [COMPLEX, SIMPLE])
def test_images_and_factors(root, monkeypatch, save, count):
    monkeypatch.setattr(mpi3d, "_TOGETHER", 300_000)
    save(root / "mpi3d" / "mpi3d_real.npz", images=pixels(count))
    read = MPI3D()
    assert isinstance(read, Images)
    assert (len(read), read.image_shape, read.held_out) == (count, (3, 1, 1), None)
    asked = torch.tensor([0, count - 1, 40, 41, 123_456])
    bytes_found = (read.images(asked).flatten(1) * 255).round().long()
    assert (bytes_found * torch.tensor([1, 256, 2**16])).sum(1).tolist() == asked.tolist()
    shapes = 4 if count == COMPLEX else 6
    assert read.factor_sizes == (shapes, shapes, 2, 3, 3, 40, 40)
    assert ("object_color" in read.factor_labels) == (count == SIMPLE)
    assert all(
        len(labels) == dict(zip(read.factor_names, read.factor_sizes, strict=True))[name]
        for name, labels in read.factor_labels.items()
    )
    color, shape, size, height, background, horizontal, vertical = read.factors(asked).T
    numbers = (((color * shapes + shape) * 2 + size) * 3 + height) * 3 + background
    assert ((numbers * 40 + horizontal) * 40 + vertical).tolist() == asked.tolist()


def test_other_content(root):
    file = root / "mpi3d" / "mpi3d_real.npz"
    with pytest.raises(FileNotFoundError, match=rf"^no MPI3D at '{file}': put an npz file of its authors"):
        MPI3D()
    for content, message in (
        (
            {"images": pixels(COMPLEX)[:-1]},
            r"images is uint8 \[460799, 1, 1, 3\], expected uint8 \[N, H, W, 3\], N = 1,036",
        ),
        ({"images": pixels(COMPLEX)[..., 0]}, r"images is uint8 \[460800, 1, 1\], expected uint8"),
        ({"pictures": pixels(5)}, "it has no 'images'; it has: pictures"),
    ):
        np.savez(file, **content)
        with pytest.raises(
            ValueError, match=rf"^'{file}' cannot be read as an npz file with the images of MPI3D: {message}"
        ):
            MPI3D()
    np.savez_compressed(file, images=pixels(COMPLEX))
    whole = file.read_bytes()
    file.write_bytes(whole[:2000] + bytes(50) + whole[2050:])
    with pytest.raises(ValueError, match=rf"^'{file}' cannot be read as an npz file with the images of MPI3D: "):
        MPI3D()
    file.write_bytes(whole)
    assert len(MPI3D()) == COMPLEX
