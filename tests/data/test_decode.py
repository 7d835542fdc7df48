"""Pictures of all modes and formats: what becomes of their pixels, and what is refused."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyro_hfvae.data.decode import decode, picture_suffixes

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 4), np.uint8)
COLOURS = RANDOM.integers(0, 256, (6, 4, 3), np.uint8)


def content(image, suffix="png", **options):
    out = BytesIO()
    image.save(out, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
    return out.getvalue()


def read(image, suffix="png", size=None, channels=None, fit="crop", **options):
    found = decode(content(image, suffix, **options), size, channels, fit)
    assert found.dtype == np.uint8
    return found


def test_grey_and_colour_as_they_are(tmp_path):
    np.testing.assert_array_equal(read(Image.fromarray(GREY)), GREY[None])
    np.testing.assert_array_equal(read(Image.fromarray(COLOURS)), COLOURS.transpose(2, 0, 1))
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", None, None, "crop"), GREY[None])


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp", "ppm", "tga", "jp2"])
def test_lossless_formats(suffix):
    options = {"lossless": True} if suffix == "webp" else {"irreversible": False} if suffix == "jp2" else {}
    image = Image.fromarray(GREY)
    if suffix == "webp":
        image = image.convert("RGB")
    found = read(image, {"jp2": "jpeg2000"}.get(suffix, suffix), channels=1, **options)
    np.testing.assert_array_equal(found, GREY[None])
    assert f".{suffix}" in picture_suffixes()
    assert not picture_suffixes() & {".eps", ".pdf", ".h5", ".csv", ".txt", ""}


def test_grey_becomes_colour_and_colour_grey():
    np.testing.assert_array_equal(read(Image.fromarray(GREY), channels=3), np.stack([GREY] * 3))
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    np.testing.assert_allclose(read(Image.fromarray(COLOURS), channels=1)[0], COLOURS @ weights, atol=1)  # rounded once
    four = read(Image.fromarray(COLOURS), channels=4)
    np.testing.assert_array_equal(four, np.concatenate([COLOURS.transpose(2, 0, 1), np.full((1, 6, 4), 255)]))


def test_bits_and_palettes():
    bits = GREY > 127
    np.testing.assert_array_equal(read(Image.fromarray(bits)), 255 * bits[None])
    palette = Image.fromarray(GREY % 3, "P")
    colours = np.array([[255, 0, 0], [0, 7, 0], [1, 2, 250]], np.uint8)
    palette.putpalette(colours.tobytes())
    np.testing.assert_array_equal(read(palette), colours[GREY % 3].transpose(2, 0, 1))


def test_cmyk():
    """Without a colour profile: each ink takes its share of the light, (255 - c)(255 - k) / 255."""
    inks = RANDOM.integers(0, 256, (6, 4, 4), np.uint8)
    left = 255.0 - inks
    expected = (left[..., :3] * left[..., 3:] / 255).transpose(2, 0, 1)
    np.testing.assert_allclose(read(Image.fromarray(inks, "CMYK"), "tif"), expected, atol=1)  # rounded once


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_laid_over_black(mode):
    pixels = RANDOM.integers(0, 256, (6, 4, len(mode)), np.uint8)
    opacity = pixels[..., -1:] / 255
    found = read(Image.fromarray(pixels, mode))
    assert len(found) == len(mode) - 1
    np.testing.assert_allclose(found, (pixels[..., :-1] * opacity).transpose(2, 0, 1), atol=1.01)  # rounded twice
    kept = read(Image.fromarray(pixels, mode), channels=4)
    np.testing.assert_array_equal(kept[3], pixels[..., -1])


def test_a_transparent_entry_of_a_palette():
    palette = Image.fromarray(GREY % 2, "P")
    palette.putpalette(bytes([200, 100, 50, 1, 2, 3]))
    found = read(palette, transparency=0)
    assert found[:, GREY % 2 == 0].max() == 0
    assert (found[:, GREY % 2 == 1].T == [1, 2, 3]).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(suffix):
    values = RANDOM.integers(0, 2**16, (6, 4)).astype(np.uint16)
    values[0, :3] = 0, 65535, 257
    found = read(Image.fromarray(values), suffix)
    np.testing.assert_array_equal(found[0], np.round(values / 257).astype(np.uint8))
    with pytest.raises(ValueError, match="^16 bits for each value, but none above 255: save it with 8 bits$"):
        read(Image.fromarray(GREY.astype(np.uint16) | 255), suffix)
    assert read(Image.fromarray(np.zeros((2, 2), np.uint16)), suffix).max() == 0


def test_real_values_and_long_integers():
    reals = RANDOM.random((6, 4)).astype(np.float32)
    reals[0, :2] = 0, 1
    np.testing.assert_array_equal(read(Image.fromarray(reals), "tif")[0], np.round(reals * 255))
    for wrong, message in ((reals * 255, "0 to 255"), (reals - 0.5, "-0.5 to 0.5"), (reals * np.nan, "nan to nan")):
        with pytest.raises(ValueError, match=f"^real values from {message}, expected 0 to 1$"):
            read(Image.fromarray(wrong), "tif")
    with pytest.raises(ValueError, match="^32-bit integers, expected 8 or 16 bits for each value$"):
        read(Image.fromarray(GREY.astype(np.int32)), "tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    """The pixels stored are those of the upright picture moved as the standard's table says."""
    stored = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY, 1),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif"):
        image = Image.fromarray(np.ascontiguousarray(stored))
        np.testing.assert_array_equal(read(image, suffix, exif=exif), GREY[None])


def test_the_first_frame_of_a_film():
    frames = [Image.fromarray(np.full((3, 2), value, np.uint8)) for value in (10, 200)]
    found = read(frames[0], "gif", channels=1, save_all=True, append_images=frames[1:])
    assert (found == 10).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 4]))
def test_any_size_becomes_any_other(height, width, rows, columns, channels):
    image = Image.fromarray(np.full((height, width, 3), [200, 100, 50], np.uint8))
    for fit in ("crop", "stretch"):
        found = read(image, size=(rows, columns), channels=channels, fit=fit)
        assert found.shape == (channels, rows, columns)
        if channels >= 3:
            assert (found[:3].transpose(1, 2, 0) == [200, 100, 50]).all()


def test_crop_takes_the_middle_and_stretch_all():
    """Three squares side by side, black, white, black: the middle is white, and a third of all is."""
    row = np.repeat(np.array([0, 255, 0], np.uint8), 30)
    image = Image.fromarray(np.tile(row, (30, 1)))
    assert read(image, size=(10, 10)).min() > 235  # the filter makes the edges soft, and looks not beyond them
    assert read(image, size=(10, 10), fit="stretch").mean() == pytest.approx(255 / 3, abs=5)
    assert read(image, size=(10, 30)).mean() == pytest.approx(255 / 3, abs=2)


def test_large_jpegs_are_reduced_while_they_are_decoded():
    """Half the size and less is decoded by the transform itself: close to decoding all and resizing it."""
    smooth = np.add.outer(np.arange(800), np.arange(1200)) / 2000 * 255
    image = Image.fromarray(smooth.astype(np.uint8))
    found = read(image, "jpg", size=(20, 30), quality=95)
    whole = np.asarray(image.resize((30, 20), Image.Resampling.LANCZOS))
    np.testing.assert_allclose(found[0], whole, atol=3)  # the compression's loss


def test_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ValueError, match="^4 × 6 pixels, more than PIL"):
        read(Image.fromarray(GREY))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(Image.DecompressionBombError):
        read(Image.fromarray(GREY))


@pytest.mark.parametrize("cut", [0, 5, 40, -100])
def test_damaged_files_raise(cut):
    whole = content(Image.fromarray(RANDOM.integers(0, 256, (60, 60), np.uint8)))
    with pytest.raises(Exception, match="."):  # of any kind: what calls catches them all
        decode(whole[:cut], None, None, "crop")
