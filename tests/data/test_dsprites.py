"""The dSprites renderer against real frames and against a slow one, and the reader of dSprites files."""

import hashlib
import math
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.data import DSprites, DSpritesFile, Images, render

OFFICIAL = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


@pytest.fixture(scope="module")
def drawn():
    return DSprites()


def frames(count, seed=0):
    """Indices of ``count`` random frames."""
    return torch.randint(0, 737_280, (count,), generator=torch.Generator().manual_seed(seed))


def write(path, count=6, compressed=True, **changes):
    """A synthetic file in the official format: pickled metadata, a column for the one colour."""
    indices = frames(count)
    classes = DSprites().factors(indices).numpy()
    content = {
        "imgs": render(torch.from_numpy(classes)).numpy(),
        "latents_classes": np.concatenate([np.zeros((count, 1), np.int64), classes], 1),
        "latents_values": np.ones((count, 6)),
    }
    content |= changes
    (np.savez_compressed if compressed else np.savez)(path, **{k: v for k, v in content.items() if v is not None})
    return indices


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("the pickle in the file was opened",)


def test_what_shape_and_orientation_are_worth():
    """Cross-entropy of the pixels with the mean image of all that is known: the numbers of docs/gated_study.md."""
    data = DSprites(fixed={"position_x": 16, "position_y": 16}, first={"orientation": 10})
    x, factors = data.images(torch.arange(len(data))).double().flatten(1), data.factors(torch.arange(len(data)))
    nats = {}
    for known in ("scale", "scale shape", "scale orientation", "scale shape orientation"):
        columns = [data.factor_names.index(name) for name in known.split()]
        _, group = factors[:, columns].unique(dim=0, return_inverse=True)
        totals = torch.zeros(int(group.max()) + 1, x.shape[1], dtype=x.dtype).index_add(0, group, x)
        mean = (totals / torch.bincount(group)[:, None])[group]
        nats[known] = float(torch.nn.functional.binary_cross_entropy(mean, x, reduction="sum")) / len(x)
    assert list(nats.values()) == pytest.approx([114.5, 77.8, 83.5, 0], abs=0.05)  # as they are printed there


@pytest.mark.parametrize(
    "fixed", [{}, {"orientation": 0}, {"shape": 2, "position_y": 31}, {"scale": 5, "orientation": 39}]
)
def test_fixed_factors(drawn, fixed):
    """The frames that have those values, in the same order, with the other factors."""
    part = DSprites(fixed)
    names = drawn.factor_names
    assert part.factor_names == tuple(name for name in names if name not in fixed)
    table = dict(zip(names, zip(drawn.factor_sizes, drawn.factor_kinds, strict=True), strict=True))
    assert list(zip(part.factor_sizes, part.factor_kinds, strict=True)) == [table[name] for name in part.factor_names]
    assert dict(part.factor_periods) == {n: p for n, p in drawn.factor_periods.items() if n not in fixed}
    assert len(part) == math.prod(size for name, (size, _) in table.items() if name not in fixed)
    everything = drawn.factors(torch.arange(737_280))
    chosen = torch.ones(737_280, dtype=torch.bool)
    for name, value in fixed.items():
        chosen &= everything[:, names.index(name)] == value
    whole = chosen.nonzero().squeeze(1)
    here = torch.randint(len(part), (50,), generator=torch.Generator().manual_seed(0))
    assert part.images(here).equal(drawn.images(whole[here]))
    varied = [names.index(name) for name in part.factor_names]
    assert part.factors(here).equal(everything[whole[here]][:, varied])
    with pytest.raises(IndexError, match=f"no datum {len(part)}"):
        part.images(torch.tensor([len(part)]))


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"angle": 0}, "dSprites has no factor 'angle'; its factors are: shape, scale, orientation, "),
        ({"shape": 3}, "factor 'shape' can be fixed at 0 to 2, got 3"),
        ({"shape": -1}, "factor 'shape' can be fixed at 0 to 2, got -1"),
        (dict.fromkeys(DSprites().factor_names, 0), "every factor is fixed: leave one that varies"),
    ],
)
def test_what_cannot_be_fixed(fixed, message):
    with pytest.raises(ValueError, match=message):
        DSprites(fixed)


@pytest.mark.parametrize(
    ("first", "kinds"),
    [
        ({"orientation": 10}, {"orientation": "ordinal"}),
        ({"orientation": 38, "shape": 2}, {"orientation": "ordinal"}),
        ({"orientation": 39}, {}),  # a whole turn
        ({"orientation": 40, "position_x": 2}, {}),
    ],
)
def test_first_values(drawn, first, kinds):
    """The frames that have no other values, in the same order."""
    part = DSprites({"scale": 3}, first)
    names = part.factor_names
    table = dict(zip(drawn.factor_names, zip(drawn.factor_sizes, drawn.factor_kinds, strict=True), strict=True))
    assert list(part.factor_sizes) == [first.get(name, table[name][0]) for name in names]
    assert list(part.factor_kinds) == [kinds.get(name, table[name][1]) for name in names]
    assert dict(part.factor_periods) == ({} if kinds else {"orientation": 39})
    everything = drawn.factors(torch.arange(737_280))
    chosen = everything[:, 1] == 3
    for name, count in first.items():
        chosen &= everything[:, drawn.factor_names.index(name)] < count
    whole = chosen.nonzero().squeeze(1)
    assert len(part) == len(whole)
    here = torch.randint(len(part), (50,), generator=torch.Generator().manual_seed(0))
    assert part.images(here).equal(drawn.images(whole[here]))
    assert part.factors(here).equal(everything[whole[here]][:, [0, 2, 3, 4]])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"angle": 2}, "dSprites has no factor 'angle'; its factors are: shape, scale, orientation, "),
        ({"shape": 1}, "the first 2 to 3 values of factor 'shape' can be kept, got 1"),
        ({"shape": 4}, "the first 2 to 3 values of factor 'shape' can be kept, got 4"),
        ({"scale": 2}, "factor 'scale' is fixed and has no first values: leave it out of one of the two"),
    ],
)
def test_what_are_no_first_values(first, message):
    with pytest.raises(ValueError, match=message):
        DSprites({"scale": 3}, first)


# ---------------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("name", ["dsprites_grid", "dsprites_random"])
def test_draws_the_real_frames(shared_data, drawn, name):
    path = shared_data / "dsprites" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as content:
        real, indices = content["imgs"], torch.from_numpy(content["original_dataset_indices"])
        classes = torch.from_numpy(content["latents_classes"])
    assert torch.equal(drawn.factors(indices), classes)
    wrong = torch.cat(
        [
            (render(part) != torch.from_numpy(pixels)).sum((1, 2))
            for part, pixels in zip(classes.split(1000), np.split(real, range(1000, len(real), 1000)), strict=True)
        ]
    )
    for shape in range(3):
        exact = (wrong[classes[:, 0] == shape] == 0).double().mean()
        assert exact >= 0.9995, f"shape {shape}: {exact:.5f} of the frames are exact"
    assert wrong.max() <= 2


def inside(outline, x, y):
    """Whether the point is inside the polygon, or on its left or bottom side, by the even-odd rule in whole numbers."""
    crossings = 0
    for (ax, ay), (bx, by) in zip(outline, [*outline[1:], outline[0]], strict=True):
        if (ay < y) != (by < y):
            (ax, ay), (bx, by) = sorted([(ax, ay), (bx, by)], key=lambda end: end[1])
            crossings += (x - ax) * (by - ay) >= (bx - ax) * (y - ay)
    return crossings % 2 == 1


def draw_slowly(shape, scale, orientation, column, row):
    """The same rule, pixel by pixel."""
    turns = [2 * math.pi * k / n for n in [(4, 100, 150)[shape]] for k in range(n)]
    if shape == 0:
        outline = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    elif shape == 1:
        outline = [(1.33 * math.cos(t), math.sin(t) / 1.33) for t in turns]
    else:
        outline = [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 14.5 - 0.15,
            )
            for t in turns
        ]
    size, angle = 9.6 * (0.5 + 0.1 * scale), 2 * math.pi * orientation / 39
    cos, sin = size * math.cos(angle), size * math.sin(angle)
    x, y = 16 + 32 * column / 31, 16 + 32 * row / 31
    outline = [(round(256 * (x + cos * u + sin * v)), round(256 * (y - sin * u + cos * v))) for u, v in outline]
    return [[inside(outline, 256 * i + 128, 256 * j + 128) for i in range(64)] for j in range(64)]


@pytest.mark.parametrize(
    "classes",
    [(0, 1, 0, 0, 8), (0, 5, 7, 31, 31), (1, 5, 11, 0, 30), (1, 0, 39, 31, 5), (2, 5, 23, 17, 0), (2, 2, 4, 3, 9)],
)
def test_draws_as_the_slow_renderer(classes):
    assert render(torch.tensor([classes]))[0].tolist() == draw_slowly(*classes)


def skew(weights):
    """Third central moment: positive where the longer tail is at the higher indices."""
    at = torch.arange(len(weights), dtype=torch.float64)
    return (weights * (at - (weights * at).sum() / weights.sum()) ** 3).sum()


def test_turns_against_the_clock():
    """A quarter turn of the heart, nearly: its tip, below at first, points to the right."""
    upright, turned = (render(torch.tensor([[2, 5, turn, 0, 0]]))[0] for turn in (0, 10))
    assert skew(upright.sum(1)) > 2 * skew(upright.sum(0)).abs()
    assert skew(turned.sum(0)) > 2 * skew(turned.sum(1)).abs()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 737_279), max_size=3), st.randoms(use_true_random=False))
def test_any_indices_in_any_order(indices, random):
    drawn = DSprites()
    batch = indices + indices[:1]  # with a repeat
    random.shuffle(batch)
    images = drawn.images(torch.tensor(batch, dtype=torch.int64))
    assert images.shape == (len(batch), 1, 64, 64)
    assert images.dtype == torch.float32
    for index, image in zip(batch, images, strict=True):
        assert torch.equal(image, drawn.images(torch.tensor([index]))[0])
        assert set(image.unique().tolist()) == {0.0, 1.0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 737_279), max_size=3))
def test_factors_give_back_the_index(indices):
    drawn = DSprites()
    factors = drawn.factors(torch.tensor(indices, dtype=torch.int64))
    assert factors.shape == (len(indices), 5)
    assert factors.dtype == torch.int64
    strides = torch.tensor([6 * 40 * 32 * 32, 40 * 32 * 32, 32 * 32, 32, 1])
    assert (factors * strides).sum(1).tolist() == indices


def test_describes_itself(drawn):
    assert isinstance(drawn, Images)
    assert len(drawn) == math.prod(drawn.factor_sizes) == 737_280
    assert len(drawn.factor_names) == len(drawn.factor_sizes) == len(drawn.factor_kinds) == 5
    assert drawn.factor_kinds[drawn.factor_names.index("orientation")] == "circular"
    assert drawn.image_shape == (1, 64, 64)
    assert drawn.held_out is None


def test_first_and_last_orientation_are_one_angle():
    turns = torch.tensor([[shape, 5, turn, 4, 9] for shape in range(3) for turn in (0, 39)])
    first, last = render(turns).view(3, 2, 64, 64).unbind(1)
    assert (first != last).sum() <= 12  # an edge of the square may lie on pixel centres, but for the last bit


@pytest.mark.parametrize(("index", "named"), [(-1, "-1"), (737_280, "737280")])
def test_refuses_indices_outside(drawn, index, named):
    for ask in (drawn.images, drawn.factors):
        with pytest.raises(IndexError, match=rf"^no datum {named}: there are 737,280, from 0 to 737279$"):
            ask(torch.tensor([3, index]))


# ------------------------------------------------------------------------------------------------------------- file


@pytest.mark.parametrize("compressed", [True, False])
def test_reads_the_official_format(tmp_path, drawn, compressed):
    metadata = np.empty((), object)
    metadata[()] = Bomb()
    indices = write(tmp_path / OFFICIAL, count=5, compressed=compressed, metadata=metadata)
    for path in (tmp_path, tmp_path / OFFICIAL):
        read = DSpritesFile(str(path))
        everything = torch.tensor([4, 0, 0, 3])
        assert len(read) == 5
        assert torch.equal(read.images(everything), drawn.images(indices[everything]))
        assert torch.equal(read.factors(everything), drawn.factors(indices[everything]))
        assert read.images(torch.tensor([], dtype=torch.int64)).shape == (0, 1, 64, 64)
        assert read.images(everything).dtype == torch.float32


def test_reads_more_frames_than_one_piece(tmp_path):
    write(tmp_path / OFFICIAL, count=4_100)
    read = DSpritesFile(str(tmp_path))
    assert torch.equal(read.images(torch.arange(4_090, 4_100)), DSprites().images(frames(4_100)[-10:]))


def test_reads_the_real_part(shared_data):
    path = shared_data / "dsprites" / "dsprites_random.npz"
    read = DSpritesFile(str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with np.load(path, allow_pickle=False) as content:
        assert torch.equal(read.images(torch.arange(10_000)), torch.from_numpy(content["imgs"]).unsqueeze(1).float())
        assert torch.equal(read.factors(torch.arange(10_000)), torch.from_numpy(content["latents_classes"]))


def refused(path, error=ValueError, **options):
    """The message with which the file is refused: one line, with the file's name."""
    with pytest.raises(error) as caught:
        DSpritesFile(str(path), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert f"'{path}'" in message
    return message


def test_says_what_to_put_where(tmp_path):
    for path in (tmp_path, tmp_path / OFFICIAL):
        with pytest.raises(FileNotFoundError) as caught:
            DSpritesFile(str(path))
        source = "https://github.com/google-deepmind/dsprites-dataset"
        assert str(caught.value) == f"no dSprites file at '{tmp_path / OFFICIAL}': put {OFFICIAL} from {source} there"


def test_checks_the_checksum(tmp_path):
    write(tmp_path / "a.npz")
    actual = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    DSpritesFile(str(tmp_path / "a.npz"), sha256=actual.upper())
    assert refused(tmp_path / "a.npz", sha256="0" * 64).endswith(f"has SHA-256 {actual}, expected {'0' * 64}")


def test_refuses_what_is_not_an_npz(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip file")
    assert "cannot be read as an npz file with imgs and latents_classes: " in refused(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("imgs.npy", b"not an array")
        archive.writestr("latents_classes.npy", b"nor this")
    assert "imgs: the magic string is not correct" in refused(tmp_path / "zip.npz")


def test_refuses_a_truncated_or_damaged_file(tmp_path):
    write(tmp_path / "whole.npz", compressed=False)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    assert "cannot be read as an npz file with imgs and latents_classes: " in refused(tmp_path / "half.npz")
    middle = 10_000  # among the pixels of imgs
    (tmp_path / "bit.npz").write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert "cannot be read as an npz file with imgs and latents_classes: Bad CRC-32" in refused(tmp_path / "bit.npz")
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive, zipfile.ZipFile(tmp_path / "whole.npz") as whole:
        archive.writestr("imgs.npy", whole.read("imgs.npy")[:-1])
        archive.writestr("latents_classes.npy", whole.read("latents_classes.npy"))
    assert "imgs: its header claims uint8 [6, 64, 64], 24,576 bytes, but 24,575 are there" in refused(
        tmp_path / "short.npz"
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"imgs": None}, "it has no 'imgs'; it has: latents_classes"),
        ({"latents_classes": None}, "it has no 'latents_classes'; it has: imgs"),
        ({"imgs": np.zeros((6, 32, 32), np.uint8)}, "imgs is uint8 [6, 32, 32], expected uint8 [N, 64, 64]"),
        ({"imgs": np.zeros((6, 64, 64))}, "imgs is float64 [6, 64, 64], expected uint8"),
        ({"imgs": np.full((6, 64, 64), 255, np.uint8)}, "imgs holds the value 255, expected only 0 and 1"),
        ({"imgs": np.zeros((5, 64, 64), np.uint8)}, "holds 5 imgs but 6 latents_classes"),
        ({"imgs": np.array([Bomb()], object)}, "imgs: it holds Python objects"),
        ({"latents_classes": np.array([Bomb()], object)}, "latents_classes: it holds Python objects"),
        ({"latents_classes": np.zeros((6, 4), np.int64)}, "latents_classes is int64 [6, 4], expected integers [N, 5]"),
        ({"latents_classes": np.zeros((6, 5))}, "latents_classes is float64 [6, 5], expected integers"),
        ({"latents_classes": np.ones((6, 6), np.int64)}, "the first, colour, is not all 0"),
        ({"latents_classes": np.full((6, 5), 5)}, "latents_classes holds classes outside 3 × 6 × 40 × 32 × 32"),
    ],
)
def test_refuses_other_content(tmp_path, changes, complaint):
    write(tmp_path / "a.npz", **changes)
    assert complaint in refused(tmp_path / "a.npz")


def test_relative_path_is_looked_for_in_the_data_root_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path / "root"))
    (tmp_path / "root" / "dsprites").mkdir(parents=True)
    classes = torch.tensor([[0, 5, 0, 3, 4], [2, 1, 7, 30, 31]])
    np.savez(tmp_path / "root/dsprites/part.npz", imgs=render(classes).numpy(), latents_classes=classes.numpy())
    assert len(DSpritesFile("dsprites/part.npz")) == 2
    with pytest.raises(FileNotFoundError, match=f"no dSprites file at '{tmp_path}/root/dsprites/other.npz'"):
        DSpritesFile("dsprites/other.npz")


def test_a_file_in_the_place_of_factors():
    with pytest.raises(
        ValueError, match=r"^fixed must map factors to numbers, got 'a\.npz'; a file is read by DSpritesFile"
    ):
        DSprites("a.npz")
