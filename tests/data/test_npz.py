"""Arrays of others: what damage, claims and objects end in is one line that names the file."""

import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest

from pyro_hfvae.data.npz import map_array, read_array, read_arrays


def header(shape, descr="|u1"):
    text = str({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy(array):
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)


def archive(path, content, method=zipfile.ZIP_STORED, name="images.npy"):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "array", [IMAGES, np.asfortranarray(IMAGES), np.zeros((0, 3)), np.array(["a", "bc"]), np.array(3)]
)
def test_what_numpy_wrote_is_read(tmp_path, array):
    np.savez_compressed(tmp_path / "a.npz", images=array, other=IMAGES)
    np.save(tmp_path / "a.npy", array)
    for read in (
        read_arrays(tmp_path / "a.npz", ["images"], ["factors"])["images"],
        read_array(tmp_path / "a.npy", "images"),
    ):
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read, array)
        read.fill(read.flat[0] if read.size else 0)  # an array of its own


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10**6, 10**4, 10**3)) + bytes(100), "its header claims uint8 [1000000, 10000, 1000], 10,000,000,000,"),
        (header((10**30,)), "its header claims the shape [1000000000000000000000000000000]"),
        (header((-1,)) + bytes(9), "its header claims the shape [-1]"),
        (header((2, 3)) + bytes(7), "its header claims uint8 [2, 3], 6 bytes, but 7 are there"),
        (npy(IMAGES)[:10] + b"\xff{" + npy(IMAGES)[12:], "Cannot parse header"),
        (npy(np.array([object()])), "it holds Python objects"),
        (header((1,), "|O") + bytes(8), "it holds Python objects"),
        (b"nope", "EOF: reading magic string"),
        (b"", "EOF: reading magic string"),
    ],
)
def test_damaged_and_lying_arrays(tmp_path, content, message):
    path = archive(tmp_path / "a.npz", content)
    (tmp_path / "a.npy").write_bytes(content)
    for read, file in ((lambda file: read_arrays(file, ["images"]), path), (read_npy, tmp_path / "a.npy")):
        with pytest.raises(ValueError, match=rf"^'{file}' cannot be read as an \.?np[yz] file with images: ") as error:
            read(file)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((2, 3)) + bytes(7), "its header claims uint8 [2, 3], 6 bytes, but 7 are there"),
        (header((0, 3)), "its shape is [0, 3], which is empty"),
        (npy(np.asfortranarray(IMAGES)), "it is in Fortran order, rows scattered over the file: save numpy.ascontigu"),
        (npy(np.array([object()])), "it holds Python objects"),
        (b"", "EOF: reading magic string"),
    ],
)
def test_arrays_that_cannot_be_mapped(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"^'{tmp_path / 'a.npy'}' cannot be read as an \.npy file with images: "
    ) as error:
        map_array(tmp_path / "a.npy", "images")
    assert message in str(error.value)


def read_npy(file):
    return read_array(file, "images")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression(tmp_path, method):
    whole = archive(tmp_path / "a.npz", npy(IMAGES), method).read_bytes()
    path = tmp_path / "damaged.npz"
    for start in range(60, len(whole) - 200, 97):
        path.write_bytes(whole[:start] + bytes(byte ^ 255 for byte in whole[start : start + 30]) + whole[start + 30 :])
        with pytest.raises(ValueError, match=rf"^'{path}' cannot be read as an npz file with images: ."):
            read_arrays(path, ["images"])


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 99)], ids=["encrypted", "unknown compression"])
def test_entries_that_zipfile_does_not_read(tmp_path, place, value):
    path = archive(tmp_path / "a.npz", npy(IMAGES))
    raw = bytearray(path.read_bytes())
    central = raw.find(b"PK\x01\x02")
    raw[place] = raw[central + place + 2] = value
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"^'{path}' cannot be read as an npz file with images: ."):
        read_arrays(path, ["images"])


def test_an_array_that_is_not_there(tmp_path):
    path = archive(tmp_path / "a.npz", npy(IMAGES), name="pictures.npy")
    with pytest.raises(ValueError, match="it has no 'images'; it has: pictures$"):
        read_arrays(path, ["images"])
