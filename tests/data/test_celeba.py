"""CelebA from small files of the official layout."""

import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hfvae.data import CelebA, Images

ATTRIBUTES = ["Eyeglasses", "Male", "Smiling"]
NAMES = [f"{number:06}.jpg" for number in range(1, 8)]
VALUES = np.random.default_rng(0).integers(0, 2, (7, 3))
PARTS = [0, 0, 1, 0, 2, 2, 0]
PEOPLE = [2880, 17, 17, 10177, 17, 2880, 5]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    return tmp_path


def photo(number):
    """178 × 218, of one shade for each photo, as a JPEG keeps it."""
    out = BytesIO()
    Image.new("RGB", (178, 218), (30 * number, 100, 50)).save(out, "jpeg", quality=95)
    return out.getvalue()


def write(folder, archive=False, sorted_in_folders=False):
    """The files as the authors give them: spaces pad the values of the attributes."""
    places = {kind: folder / (kind if sorted_in_folders else "") for kind in ("Img", "Anno", "Eval")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{name} {' '.join(f'{2 * value - 1:2d}' for value in row)}" for name, row in zip(NAMES, VALUES, strict=True)
    ]
    head = [str(len(NAMES)), " ".join(ATTRIBUTES) + " "]
    (places["Anno"] / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]) + "\n")
    for place, name, numbers in (("Eval", "list_eval_partition", PARTS), ("Anno", "identity_CelebA", PEOPLE)):
        lines = [f"{photo_name} {number}\n" for photo_name, number in zip(NAMES, numbers, strict=True)]
        (places[place] / f"{name}.txt").write_text("".join(lines))
    if archive:
        with zipfile.ZipFile(places["Img"] / "img_align_celeba.zip", "w") as file:
            file.mkdir("img_align_celeba")
            for number, name in enumerate(NAMES):
                file.writestr(f"img_align_celeba/{name}", photo(number))
    else:
        (places["Img"] / "img_align_celeba").mkdir()
        for number, name in enumerate(NAMES):
            (places["Img"] / "img_align_celeba" / name).write_bytes(photo(number))
    return folder


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("sorted_in_folders", [False, True])
def test_photos_attributes_and_test_set(root, archive, sorted_in_folders):
    write(root / "celeba", archive, sorted_in_folders)
    read = CelebA()
    assert isinstance(read, Images)
    assert (len(read), read.image_shape, read.names) == (7, (3, 64, 64), tuple(NAMES))
    assert (read.factor_names, read.factor_sizes) == (tuple(ATTRIBUTES), (2, 2, 2))
    assert read.factor_kinds == ("categorical",) * 3
    assert read.factors(range(7)).tolist() == VALUES.tolist()
    assert read.held_out.tolist() == [4, 5]
    shades = read.images(range(7)) * 255
    expected = torch.tensor([[30.0 * number, 100, 50] for number in range(7)])
    torch.testing.assert_close(shades.mean((2, 3)), expected, atol=3, rtol=0)  # the compression's loss
    assert read.licence
    assert read.citation


def test_identity_and_some_attributes(root):
    write(root / "celeba")
    read = CelebA(factors=["identity", "Smiling"], size=(12, 10), channels=1)
    assert read.shape == (1, 12, 10)
    assert (read.factor_names, read.factor_sizes) == (("identity", "Smiling"), (4, 2))
    assert read.factor_labels == {"identity": ("5", "17", "2880", "10177")}
    assert read.factors(range(7))[:, 0].tolist() == [2, 1, 1, 3, 1, 2, 0]
    assert read.factors([6, 0])[:, 1].tolist() == VALUES[[6, 0], 2].tolist()
    assert CelebA(factors=[]).factors([1, 2]).shape == (2, 0)


@pytest.mark.parametrize("archive", [False, True])
def test_a_damaged_photo_is_left_out(root, archive):
    write(root / "celeba", archive)
    if archive:
        file = root / "celeba" / "img_align_celeba.zip"
        whole, second = file.read_bytes(), photo(1)
        at = whole.index(second)
        file.write_bytes(whole[: at + 300] + bytes(len(second) - 300) + whole[at + len(second) :])
    else:
        (root / "celeba" / "img_align_celeba" / NAMES[1]).write_bytes(photo(1)[:300])
    with pytest.warns(UserWarning, match=r"left out what cannot be read as an image: '000002\.jpg' \("):
        read = CelebA()
    assert read.names == (NAMES[0], *NAMES[2:])
    assert read.factors(range(6)).tolist() == VALUES[[0, 2, 3, 4, 5, 6]].tolist()
    assert read.held_out.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "list_attr_celeba.txt",
            lambda text: text.replace("7\n", "8\n", 1),
            "its first line gives 8 photos, but",
        ),
        ("list_attr_celeba.txt", lambda text: text.replace("7\n", "6\n", 1), "line 9 is not one of 6 with a name and"),
        ("list_attr_celeba.txt", lambda text: text + "\nx\n", "line 10 is not one of 7 with a name and 3 values"),
        (
            "list_attr_celeba.txt",
            lambda text: text.replace(" 1", " 0", 1),
            "is not one of 7 with a name and 3 values of",
        ),
        ("list_attr_celeba.txt", lambda text: text.replace(NAMES[0], NAMES[1]), "it has a photo twice"),
        ("list_attr_celeba.txt", lambda text: "", "cannot be read as the attributes of CelebA: invalid literal"),
        ("list_eval_partition.txt", lambda text: text.replace(" 1", " x"), "line 3 is '000003.jpg x'"),
        (
            "list_eval_partition.txt",
            lambda text: text.replace(" 1", " 3"),
            "it gives 3 for a photo, expected 0, 1 or 2",
        ),
        ("list_eval_partition.txt", lambda text: text.replace(NAMES[2], "x.jpg"), "it has no '000003.jpg'"),
        ("identity_CelebA.txt", lambda text: text.replace(" 5\n", "\n"), "line 7 is '000007.jpg'"),
    ],
)
def test_damaged_lists(root, file, change, message):
    path = write(root / "celeba") / file
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=rf"^'{path}'") as error:
        CelebA(factors=["identity"])
    assert message in str(error.value)


def test_what_is_missing(root):
    with pytest.raises(
        FileNotFoundError, match=rf"^no list_attr_celeba\.txt in '{root}/celeba', nor in its folders Img"
    ):
        CelebA()
    folder = write(root / "celeba")
    with pytest.raises(ValueError, match="^CelebA has no factor 'Age'; it has: identity, Eyeglasses, Male, Smiling$"):
        CelebA(factors=["Age"])
    with pytest.raises(ValueError, match="^factors names one twice: Male, Male$"):
        CelebA(factors=["Male", "Male"])
    (folder / "img_align_celeba" / NAMES[3]).unlink()
    with pytest.raises(
        ValueError, match=r"' lacks 1 of the 7 photos in list_attr_celeba\.txt, '000004\.jpg' the first"
    ):
        CelebA()
    (folder / "identity_CelebA.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"^no identity_CelebA\.txt in "):
        CelebA(factors=["identity"])
