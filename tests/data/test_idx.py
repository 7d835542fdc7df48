"""Images in MNIST's file format: reading, refusing, and downloading MNIST itself."""

import gzip
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.data import MNIST, FashionMNIST, IdxImages, Images, data_root

FILES = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def idx(array, magic=None):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress((magic or head[:4]) + head[4:] + array.astype(np.uint8).tobytes())


@pytest.fixture
def parts():
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (7, 5, 4)), np.array([0, 1, 2, 3, 2, 1, 0])
    images[0, 0, :2] = 0, 255
    return images, labels


@pytest.fixture
def folder(tmp_path, parts):
    images, labels = parts
    for part, rows in (("train", slice(0, 4)), ("t10k", slice(4, 7))):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images[rows]))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels[rows]))
    return tmp_path


def refused(folder, error=ValueError, kind=IdxImages):
    """The message with which the folder is refused, in one line."""
    with pytest.raises(error) as caught:
        kind(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_training_and_test_set(folder, parts):
    read = IdxImages(str(folder), factor="digit")
    assert isinstance(read, Images)
    assert len(read) == 7
    assert read.image_shape == (1, 5, 4)
    assert (read.factor_names, read.factor_sizes, read.factor_kinds) == (("digit",), (4,), ("categorical",))
    assert read.held_out.tolist() == [4, 5, 6]
    images = read.images(torch.arange(7))
    assert images.dtype == torch.float32
    assert images.shape == (7, 1, 5, 4)
    assert (images.min(), images.max()) == (0, 1)
    assert np.array_equal((images[:, 0] * 255).round().numpy(), parts[0])
    assert read.factors(torch.arange(7)).flatten().tolist() == parts[1].tolist()
    assert IdxImages(str(folder)).factor_names == ("class",)


@given(st.lists(st.integers(0, 6), max_size=5))
def test_any_indices_in_any_order(tmp_path_factory, indices):
    folder = tmp_path_factory.getbasetemp() / "idx"
    if not folder.exists():
        folder.mkdir()
        array = np.arange(7)[:, None, None] * np.ones((5, 4))
        for part in ("train", "t10k"):
            (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(array))
            (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(7)))
    read = IdxImages(str(folder))
    indices = torch.tensor(indices, dtype=torch.int64)
    images, factors = read.images(indices), read.factors(indices)
    assert images.shape == (len(indices), 1, 5, 4)
    assert factors.shape == (len(indices), 1)
    assert factors.dtype == torch.int64
    assert torch.equal(factors[:, 0], indices)
    assert torch.allclose(images, (indices / 255).view(-1, 1, 1, 1).expand_as(images))


def test_refuses_indices_outside(folder):
    for outside in (-1, 7):
        with pytest.raises(IndexError, match=f"^no datum {outside}: there are 7, from 0 to 6$"):
            IdxImages(str(folder)).images(torch.tensor([outside]))


def test_names_the_missing_files(folder):
    (folder / FILES[0]).unlink()
    (folder / FILES[3]).unlink()
    assert refused(folder, FileNotFoundError) == f"no {FILES[0]}, {FILES[3]} in '{folder}': put them there"


@pytest.mark.parametrize("cut", [0, 9, -10])
def test_refuses_a_broken_gzip(folder, cut):
    file = folder / FILES[0]
    file.write_bytes(file.read_bytes()[: cut or None] if cut else b"plain text")
    assert f"'{file}' cannot be read as a gzip file: " in refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_refuses_truncated_content(folder, name):
    content = gzip.decompress((folder / name).read_bytes())
    (folder / name).write_bytes(gzip.compress(content[:-1]))
    assert f"'{folder / name}' is truncated or too long" in refused(folder)
    (folder / name).write_bytes(gzip.compress(content[:6]))
    assert f"'{folder / name}' is truncated: 6 bytes, where the header alone has" in refused(folder)


def test_refuses_labels_in_place_of_images(folder):
    (folder / FILES[0]).write_bytes((folder / FILES[1]).read_bytes())
    assert "starts with 00000801, expected 00000803: not such an idx file" in refused(folder) or "header" in refused(
        folder
    )
    (folder / FILES[0]).write_bytes(idx(np.zeros((4, 5, 4)), magic=b"\0\0\x0d\3"))
    assert "starts with 00000d03, expected 00000803: not such an idx file" in refused(folder)


def test_refuses_parts_that_do_not_fit(folder):
    (folder / FILES[1]).write_bytes(idx(np.zeros(3)))
    assert refused(folder) == f"'{folder}' holds 4 train images but 3 train labels"
    (folder / FILES[1]).write_bytes(idx(np.zeros(4)))
    (folder / FILES[2]).write_bytes(idx(np.zeros((3, 6, 4))))
    assert refused(folder) == f"train and t10k images in '{folder}' differ in size: 5×4 and 6×4"
    (folder / FILES[2]).write_bytes(idx(np.zeros((0, 5, 4))))
    (folder / FILES[3]).write_bytes(idx(np.zeros(0)))
    assert refused(folder) == f"'{folder}' holds no t10k images"


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_refuses_other_content_in_place_of_the_known(folder, kind):
    message = refused(folder, kind=kind)
    assert message.startswith(f"'{folder / FILES[0]}' is damaged: its content has SHA-256 ")
    assert message.endswith(f"expected {kind.content_sha256[FILES[0]]}")


@pytest.mark.parametrize(
    ("kind", "name", "factor"), [(MNIST, "mnist", "digit"), (FashionMNIST, "fashion_mnist", "class")]
)
def test_reads_the_real_set(shared_data, monkeypatch, kind, name, factor):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(shared_data))
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: pytest.fail("it downloads what is there"))
    read = kind()
    assert len(read) == 70_000
    assert read.image_shape == (1, 28, 28)
    assert (read.factor_names, read.factor_sizes) == ((factor,), (10,))
    assert torch.equal(read.held_out, torch.arange(60_000, 70_000))
    assert read.factors(read.held_out).flatten().bincount().min() > 800


@pytest.mark.parametrize(("kind", "name"), [(MNIST, "mnist"), (FashionMNIST, "fashion_mnist")])
def test_says_what_to_put_where_without_a_network(tmp_path, monkeypatch, kind, name):
    def no_network(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        kind()
    files, folder = ", ".join(FILES), tmp_path / name
    assert str(caught.value) == (
        f"no {files} in '{folder}', and no download from {kind.address} (no route to host): put the files there"
    )


def test_downloads_what_is_missing(folder, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("root")
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append(url)
        path.mkdir(exist_ok=True)
        (path / fname).write_bytes((folder / fname).read_bytes())

    monkeypatch.setenv("PYRO_HFVAE_DATA", str(root))
    monkeypatch.setattr("pooch.retrieve", retrieve)
    monkeypatch.setattr(MNIST, "content_sha256", {})
    assert len(MNIST()) == 7
    (root / "mnist" / FILES[2]).unlink()
    assert len(MNIST()) == 7
    assert asked == [MNIST.address + name for name in [*FILES, FILES[2]]]


PORTAL = b"<html>please log in</html>"


def test_a_damaged_download_is_not_kept_and_a_damaged_file_is_fetched_again(folder, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("root")
    answers = {name: (folder / name).read_bytes() for name in FILES}

    def retrieve(url, known_hash, fname, path):
        (path / fname).write_bytes(answers[fname])

    monkeypatch.setenv("PYRO_HFVAE_DATA", str(root))
    monkeypatch.setattr("pooch.retrieve", retrieve)
    monkeypatch.setattr(MNIST, "content_sha256", {})
    for broken in (PORTAL, answers[FILES[0]][:-9]):
        good, answers[FILES[0]] = answers[FILES[0]], broken
        with pytest.raises(
            ValueError, match=rf"^the download of {MNIST.address}{FILES[0]} is not kept: it cannot be read as a"
        ):
            MNIST()
        assert not any((root / "mnist").iterdir())
        answers[FILES[0]] = good
    assert len(MNIST()) == 7
    for broken in (PORTAL, b"", answers[FILES[2]][:40]):
        (root / "mnist" / FILES[2]).write_bytes(broken)
        assert len(MNIST()) == 7
        assert (root / "mnist" / FILES[2]).read_bytes() == answers[FILES[2]]
    (root / "mnist" / FILES[2]).write_bytes(PORTAL)
    answers[FILES[2]] = PORTAL
    with pytest.raises(
        ValueError, match="be read as a gzip file: .*; and it could not be fetched again: the download of"
    ):
        MNIST()
    assert sorted(path.name for path in (root / "mnist").iterdir()) == sorted(FILES)


def test_no_more_is_unpacked_than_the_header_promises(folder):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = struct.pack(">HBB3I", 0, 8, 3, 4, 5, 4)
    bomb = [pack.compress(head), *(pack.compress(bytes(2**20)) for _ in range(400)), pack.flush()]
    (folder / FILES[0]).write_bytes(b"".join(bomb))
    assert refused(folder).endswith("is truncated or too long: more values for [4, 5, 4]")
    (folder / FILES[0]).write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3) + bytes(100)))
    assert "100 values for [4294967295, 4294967295, 4294967295]" in refused(folder)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100  # MiB


def test_never_downloads_to_a_given_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: pytest.fail("it downloads"))
    for kind in (IdxImages, MNIST, FashionMNIST):
        assert refused(tmp_path, FileNotFoundError, kind).endswith("put them there")


def test_data_root(monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", "~/sets")
    assert data_root().parts[-1] == "sets"
    assert data_root().is_absolute()
    monkeypatch.delenv("PYRO_HFVAE_DATA")
    assert "pyro-hfvae" in str(data_root())
