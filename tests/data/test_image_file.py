"""Images of one's own in an npz file: what is read from it, what is held out, and what is refused."""

import numpy as np
import pytest
import torch

from pyro_hfvae.data import ImageFile, Images
from pyro_hfvae.train import DataModule

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 5, 4)).astype(np.uint8)
COLOURS = RANDOM.integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)
FACTORS = np.array([[0, 3], [1, 0], [2, 1], [0, 1], [1, 3], [0, 2]])
TOLD = {"factors": FACTORS, "factor_names": np.array(["person", "yaw"])}
KINDS = np.array(["categorical", "ordinal"])


def read(path, **content):
    np.savez(path / "photos.npz", **content)
    return ImageFile(str(path / "photos.npz"))


def test_grey_images_alone(tmp_path):
    photos = read(tmp_path, images=GREY)
    assert isinstance(photos, Images)
    assert (len(photos), photos.image_shape, photos.held_out) == (6, (1, 5, 4), None)
    asked = torch.tensor([5, 0, 0])
    np.testing.assert_allclose(photos.images(asked)[:, 0].numpy(), GREY[asked] / 255, rtol=1e-6)
    assert photos.images(asked).dtype == torch.float32
    assert photos.factor_names == photos.factor_sizes == photos.factor_kinds == ()
    assert photos.factors(asked).shape == (3, 0)
    assert photos.factors(asked).dtype == torch.int64
    with pytest.raises(IndexError, match="^no datum 6: there are 6"):
        photos.images(torch.tensor([6]))


def test_colours_come_first(tmp_path):
    photos = read(tmp_path, images=COLOURS)
    assert photos.image_shape == (3, 5, 4)
    drawn = photos.images(torch.tensor([2]))
    assert drawn[0, 1, 4, 3].item() == pytest.approx(COLOURS[2, 4, 3, 1] / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_factors_and_held_out(tmp_path, dtype):
    told = TOLD | {"factors": FACTORS.astype(dtype), "factor_kinds": KINDS}
    photos = read(tmp_path, images=GREY, held_out=np.array([4, 1]), **told)
    assert photos.factor_names == ("person", "yaw")
    assert photos.factor_kinds == ("categorical", "ordinal")
    assert photos.factor_sizes == (3, 4)
    assert photos.factors(torch.tensor([3, 0])).tolist() == [[0, 1], [0, 3]]
    assert photos.held_out.tolist() == [1, 4]
    data = DataModule(photos, 2)
    assert data.train_indices.tolist() == [0, 2, 3, 5]
    assert sorted(data.held_out_indices.tolist()) == [1, 4]
    assert read(tmp_path, images=GREY, **TOLD).factor_kinds == ("categorical", "categorical")
    marked = read(tmp_path, images=GREY, held_out=FACTORS[:, 0] == 1)
    assert marked.held_out.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": None},
            "cannot be read as an npz file with images: it has no 'images'; it has: factors, factor_names",
        ),
        ({"images": GREY / 255}, "images is float64 [6, 5, 4], expected uint8 [N, H, W] or [N, H, W, C]"),
        ({"images": GREY[0]}, "images is uint8 [5, 4], expected uint8"),
        ({"images": GREY[:0]}, "images is uint8 [0, 5, 4], expected uint8"),
        ({"factors": FACTORS[:5]}, "factors is int64 [5, 2], expected integers [6, F], a column for each factor"),
        ({"factors": FACTORS[:, 0]}, "factors is int64 [6], expected integers [6, F]"),
        ({"factors": FACTORS * 1.0}, "factors is float64 [6, 2], expected integers"),
        ({"factors": FACTORS - 1}, "factors holds -1, expected classes from 0; what is known of some images alone"),
        ({"factor_names": None}, "factor_names is [], expected 2 different names, one for each factor"),
        ({"factor_names": np.array(["yaw", "yaw"])}, "factor_names is ['yaw', 'yaw'], expected 2 different names"),
        ({"factor_names": np.array([1, 2])}, "factor_names is [1, 2], expected 2 different names"),
        ({"factors": None}, "factor_names is ['person', 'yaw'], expected 0 different names"),
        ({"factor_kinds": np.array(["ordinal"])}, "factor_kinds is ['ordinal'], expected 2 of categorical, ordinal"),
        (
            {"factor_kinds": np.array(["ordinal", "ordered"])},
            "factor_kinds is ['ordinal', 'ordered'], expected 2 of categorical, ordinal, circular",
        ),
        ({"held_out": np.array([6])}, "held_out is int64 [1], expected numbers from 0 to 5, or a bool for each of the"),
        ({"held_out": np.array([-1])}, "held_out is int64 [1], expected numbers from 0 to 5"),
        ({"held_out": np.zeros(0, int)}, "held_out is int64 [0], expected numbers"),
        ({"held_out": np.ones(5, bool)}, "held_out is bool [5], expected numbers from 0 to 5, or a bool for each"),
        ({"held_out": np.ones((2, 1), int)}, "held_out is int64 [2, 1], expected numbers"),
        ({"images": GREY > 127}, "images is bool [6, 5, 4], expected uint8"),
        ({"images": np.zeros_like(GREY)}, "images holds no value above 1, and 255 is the brightest"),
        ({"images": (GREY > 127).astype(np.uint8)}, "images holds no value above 1, and 255 is the brightest"),
        (
            {"images": GREY[:, None].repeat(5, 3)},
            "images is [6, 1, 5, 20], expected [N, H, W, C] with 1 to 4 channels C; [N, C, H, W] becomes it by images.",
        ),
        ({"images": COLOURS.repeat(3, 3)}, "images is [6, 5, 4, 9], expected [N, H, W, C] with 1 to 4 channels C"),
        ({"held_out": np.array([4, 1, 4])}, "held_out names image 4 2 times: give each number once, and a mask"),
        ({"held_out": np.array([0, 1, 0, 0, 1, 0])}, "held_out names image 0 4 times"),
        ({"factors": FACTORS.astype(np.uint64) + np.uint64(2**63)}, "factors holds 9223372036854775811, expected"),
        ({"factor_names": np.array(["a", "b\n"])}, "factor_names holds 'b\\n', expected names that can be printed"),
        ({"factor_names": np.array(["a", "b"], dtype=object)}, "images: factor_names: it holds Python objects"),
    ],
)
def test_what_is_no_such_file(tmp_path, changes, message):
    content = {"images": GREY, **TOLD} | changes
    with pytest.raises(ValueError, match=r"photos\.npz'") as error:
        read(tmp_path, **{name: part for name, part in content.items() if part is not None})
    assert message in str(error.value)


def test_no_file_and_no_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no images at .*photos\.npz': make it with numpy\.savez"):
        ImageFile("photos.npz")
    (tmp_path / "photos.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"photos\.npz' cannot be read as an npz file with images: "):
        ImageFile("photos.npz")
    np.savez(tmp_path / "photos.npz", images=GREY)
    assert len(ImageFile("photos.npz")) == 6  # found in the data root
    whole = (tmp_path / "photos.npz").read_bytes()
    (tmp_path / "photos.npz").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"photos\.npz' cannot be read as an npz file with images: "):
        ImageFile("photos.npz")


@pytest.mark.parametrize("numbers", [[3], [0, 1, 2, 3, 4]])
def test_too_few_held_out_or_left(tmp_path, numbers):
    photos = read(tmp_path, images=GREY, held_out=np.array(numbers))
    with pytest.raises(ValueError, match=f"^cannot hold out {len(numbers)} of 6 data: at least 2, and 2 must remain"):
        DataModule(photos, 2)
