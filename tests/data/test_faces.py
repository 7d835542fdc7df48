"""Faces: the real files, small ones of the same form, and people who are held out as a whole."""

import numpy as np
import pytest
import torch

from pyro_hfvae.data import CMUFaces, Images, SFMFaces
from pyro_hfvae.train import DataModule

SETS = {
    "sfm": (SFMFaces, "images", "factors", (30, 9, 5, 7), 255),
    "cmu": (CMUFaces, "imgs_quarter_30x32", "factors_quarter_30x32", (20, 4, 4, 2), 155),
}


def write(path, which, people=4, **changes):
    """Three faces of each person, the people in no order, everything drawn at random."""
    _, images, factors, sizes, brightest = SETS[which]
    random = np.random.default_rng(0)
    classes = np.stack([random.integers(0, size, 3 * people) for size in sizes], 1)
    classes[:, 0] = np.tile(random.permutation(people), 3)
    content = {
        images: random.integers(0, brightest + 1, (3 * people, 6, 5)).astype(np.uint8),
        factors: classes.astype(np.int16),
    } | changes
    np.savez(path, **{name: part for name, part in content.items() if part is not None})
    return content[images], content[factors]


@pytest.mark.parametrize("which", SETS)
def test_images_factors_and_held_out_people(tmp_path, which):
    make, *_, brightest = SETS[which]
    images, factors = write(tmp_path / "a.npz", which)
    faces = make(str(tmp_path / "a.npz"), held_out_people=1)
    assert isinstance(faces, Images)
    assert len(faces) == 12
    assert faces.image_shape == (1, 6, 5)
    asked = torch.tensor([11, 0, 0, 7])
    np.testing.assert_allclose(faces.images(asked)[:, 0].numpy(), images[asked] / brightest, rtol=1e-6)
    assert faces.images(asked).dtype == torch.float32
    assert faces.factors(asked).tolist() == factors[asked].tolist()
    assert faces.factors(asked).dtype == torch.int64
    assert faces.held_out.tolist() == np.flatnonzero(factors[:, 0] == 3).tolist()
    with pytest.raises(IndexError, match="^no datum 12: there are 12"):
        faces.images(torch.tensor([12]))


def test_half_size(tmp_path):
    """Means over squares, rounded to a pixel value, datum by datum."""
    images = np.random.default_rng(1).integers(0, 256, (12, 64, 64)).astype(np.uint8)
    write(tmp_path / "a.npz", "sfm", images=images)
    faces = SFMFaces(str(tmp_path / "a.npz"), held_out_people=1, size=32)
    assert faces.image_shape == (1, 32, 32)
    drawn = faces.images(torch.tensor([3]))[0, 0]
    for row, column in ((0, 0), (31, 31), (5, 17)):
        square = images[3, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(float)
        assert drawn[row, column].item() == pytest.approx(square.mean() / 255, abs=0.51 / 255)
    with pytest.raises(ValueError, match="SFM faces have the size 64, or 32 as means over squares, got 16"):
        SFMFaces(str(tmp_path / "a.npz"), size=16)
    write(tmp_path / "b.npz", "sfm")
    with pytest.raises(ValueError, match=r"b.npz': size 32 takes means of images of 64 × 64, got \(6, 5\)"):
        SFMFaces(str(tmp_path / "b.npz"), held_out_people=1, size=32)


def real(shared_data, which):
    file = shared_data / f"{which}_faces" / f"{which}_faces.npz"
    if not file.is_file():
        pytest.skip(f"no '{file}'")
    return str(file)


@pytest.mark.parametrize("people", [1, 6, 29])
def test_nobody_is_trained_on_and_measured(shared_data, people):
    faces = SFMFaces(real(shared_data, "sfm"), held_out_people=people)
    data = DataModule(faces, 64)
    trained, measured = (
        set(faces.factors(part)[:, 0].tolist()) for part in (data.train_indices, data.held_out_indices)
    )
    assert measured == set(range(30 - people, 30))
    assert trained == set(range(30 - people))
    assert data.data_size == (30 - people) * 9 * 5 * 7


def test_the_real_rendered_faces(shared_data):
    faces = SFMFaces(real(shared_data, "sfm"))
    everything = torch.arange(len(faces))
    factors = faces.factors(everything)
    assert len(faces) == 9450
    assert faces.image_shape == (1, 64, 64)
    assert len(factors.unique(dim=0)) == 9450  # each combination once
    assert (factors.max(0).values + 1).tolist() == list(faces.factor_sizes)
    images = faces.images(everything[::50])
    assert images.min() == 0
    assert 0.9 < images.max() <= 1
    assert len(faces.factor_names) == len(faces.factor_sizes) == len(faces.factor_kinds) == 4


@pytest.mark.parametrize(
    ("size", "shape"), [("full_120x128", (120, 128)), ("half_60x64", (60, 64)), ("quarter_30x32", (30, 32))]
)
def test_the_real_photos(shared_data, size, shape):
    faces = CMUFaces(real(shared_data, "cmu"), size)
    everything = torch.arange(len(faces))
    assert len(faces) == 624
    assert faces.image_shape == (1, *shape)
    assert (faces.factors(everything).max(0).values + 1).tolist() == list(faces.factor_sizes)
    assert 0.9 < faces.images(everything).max() <= 1
    assert faces.factors(faces.held_out)[:, 0].unique().tolist() == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("people", [0, 4, -1])
def test_number_of_held_out_people(tmp_path, which, people):
    write(tmp_path / "a.npz", which)
    message = f"^held_out_people must be from 1 to 3, one less than there are people, got {people}$"
    with pytest.raises(ValueError, match=message):
        SETS[which][0](str(tmp_path / "a.npz"), held_out_people=people)


def test_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        SFMFaces()
    assert str(caught.value) == (
        f"no SFM faces at '{tmp_path}/sfm_faces/sfm_faces.npz': put an npz file with images (uint8, [N, 64, 64]) and "
        "factors (integers, [N, 4]: identity, yaw, pitch, expression) there"
    )
    with pytest.raises(FileNotFoundError) as caught:
        CMUFaces(size="half_60x64")
    assert str(caught.value) == (
        f"no CMU faces at '{tmp_path}/cmu_faces/cmu_faces.npz': put an npz file with imgs_half_60x64 (uint8, "
        "[N, H, W]) and factors_half_60x64 (integers, [N, 4]: user, pose, expression, eyes) there"
    )
    (tmp_path / "sfm_faces").mkdir()
    write(tmp_path / "sfm_faces/sfm_faces.npz", "sfm")
    assert len(SFMFaces(held_out_people=2)) == 12


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"images": None},
            "cannot be read as an npz file with images and factors: it has no 'images'; it has: factors",
        ),
        ({"images": np.zeros((12, 6, 5))}, "images is float64 [12, 6, 5], expected uint8 [N, H, W]"),
        ({"images": np.zeros((12, 30), np.uint8)}, "images is uint8 [12, 30], expected uint8 [N, H, W]"),
        (
            {"images": np.array([object()])},
            "cannot be read as an npz file with images and factors: images: it holds Python objects",
        ),
        ({"factors": np.zeros((11, 4), int)}, "factors is int64 [11, 4], expected integers [12, 4]"),
        ({"factors": np.zeros((12, 4))}, "factors is float64 [12, 4], expected integers [12, 4]"),
        ({"factors": np.full((12, 4), 7)}, "factors holds values outside 30 × 9 × 5 × 7"),
        ({"factors": np.full((12, 4), -1)}, "factors holds values outside 30 × 9 × 5 × 7"),
    ],
)
def test_refuses_other_content(tmp_path, changes, complaint):
    write(tmp_path / "a.npz", "sfm", **changes)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SFMFaces(str(tmp_path / "a.npz"), held_out_people=1)
    assert str(caught.value).startswith(f"'{tmp_path}/a.npz'")
    assert complaint in str(caught.value)


def test_refuses_what_is_brighter_than_the_brightest(tmp_path):
    write(tmp_path / "a.npz", "cmu", imgs_quarter_30x32=np.full((12, 6, 5), 156, np.uint8))
    with pytest.raises(ValueError, match="imgs_quarter_30x32 holds the value 156, expected 0 to 155$"):
        CMUFaces(str(tmp_path / "a.npz"), held_out_people=1)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04half"])
def test_refuses_what_is_not_an_npz(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a.npz' cannot be read as an npz file with images and factors: "):
        SFMFaces(str(tmp_path / "a.npz"))


def test_refuses_an_array_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="a.npy' cannot be read as an npz file with images and factors: "):
        SFMFaces(str(tmp_path / "a.npy"))
