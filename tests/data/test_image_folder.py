"""Folders of images: what is read from them, what is known of the images, the cache, and what is refused."""

import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from pyro_hfvae.data import ImageFolder, Images
from pyro_hfvae.data import pictures as pictures_module

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A data root of its own for each test."""
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def write(folder, names, shape=(5, 4, 3)):
    """Images of random pixels; returns them by name."""
    images = {}
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        images[name] = RANDOM.integers(0, 256, shape, np.uint8)
        Image.fromarray(images[name]).save(file)
    return images


PEOPLE = ["ann/left_0.png", "ann/right_30.png", "bob/left_30.png", "bob/right_-5.png", "eve/left_0.png"]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "photos", PEOPLE)
    return tmp_path / "photos"


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return name


def labels(folder, *columns):
    """A table with rows for all people; each column is a function of the name."""
    head = ",".join(["name", *(f"c{place}" for place in range(len(columns)))])
    return table(folder, "\n".join([head, *(",".join([name, *(f(name) for f in columns)]) for name in PEOPLE)]))


def refused(folder, error=ValueError, **options):
    with pytest.raises(error) as caught:
        ImageFolder(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_in_the_order_of_their_names(tmp_path):
    images = write(tmp_path / "a", ["c.png", "x/a.bmp", "b.tif", "x/y/z.png"])
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._c.png").write_bytes(b"hidden")
    read = ImageFolder(tmp_path / "a")
    assert isinstance(read, Images)
    assert read.names == ("b.tif", "c.png", "x/a.bmp", "x/y/z.png")
    assert (len(read), read.image_shape, read.held_out, dict(read.unreadable)) == (4, (3, 5, 4), None, {})
    asked = torch.tensor([3, 0, 3, 1])
    found = read.images(asked)
    assert found.dtype == torch.float32
    expected = np.stack([images[read.names[at]] for at in asked]).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert read.batch([0]).x.shape == (1, 3, 5, 4)
    assert read.shape == (3, 5, 4)
    assert read.factors(asked).shape == (4, 0)
    assert read.images([]).shape == (0, 3, 5, 4)
    with pytest.raises(IndexError, match="^no datum 4: there are 4"):
        read.images([4])
    assert ImageFolder(tmp_path / "a", recursive=False).names == ("b.tif", "c.png")


def test_other_sizes_and_channels(folder):
    for size, channels in (((7, 3), 1), ((2, 9), 3), ((5, 4), 4)):
        assert ImageFolder(folder, size, channels).shape == (channels, *size)


def test_a_relative_folder_is_found_in_the_data_root(root):
    write(root / "shapes", ["a.png", "b.png"])
    assert len(ImageFolder("shapes")) == 2
    assert refused("forms", FileNotFoundError) == f"no folder of images at '{root / 'forms'}'"


def test_links_to_folders_are_followed_once(folder):
    (folder / "bob" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "more").symlink_to(folder / "ann", target_is_directory=True)
    assert len(ImageFolder(folder)) == 5


def test_links_to_nothing_are_named_and_pipes_are_no_images(folder):
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")  # to open it is to wait forever
    with pytest.warns(UserWarning, match=r"'lost\.png' \(.*No such file or directory"):
        assert len(ImageFolder(folder)) == 5


def test_factors_from_folders(folder):
    read = ImageFolder(folder, factors=["person"])
    assert (read.factor_names, read.factor_sizes, read.factor_kinds) == (("person",), (3,), ("categorical",))
    assert read.factor_labels == {"person": ("ann", "bob", "eve")}
    assert read.factors([0, 4, 2]).tolist() == [[0], [2], [1]]
    assert read.factors([0]).dtype == torch.int64


def test_factors_from_folders_within_folders(tmp_path):
    write(tmp_path / "a", ["test/ann/1/a.png", "train/bob/2/a.png", "train/ann/2/b.png"])
    read = ImageFolder(tmp_path / "a", factors=["person", "take"], held_out="test")
    assert read.factors([0, 1, 2]).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert read.held_out.tolist() == [0]
    assert read.held_out.dtype == torch.int64
    assert "'test/ann/1/a.png' does not lie in the folders that are to be factors, '<person>/'" in refused(
        tmp_path / "a", factors=["person"]
    )
    assert "'<person>/', or that beneath 'test'" in refused(tmp_path / "a", factors=["person"], held_out="test")


def test_training_images_need_no_folder_of_their_own(tmp_path):
    write(tmp_path / "a", ["ann/a.png", "bob/b.png", "val/ann/c.png"])
    read = ImageFolder(tmp_path / "a", factors=["person"], held_out="val")
    assert read.factors([0, 1, 2]).flatten().tolist() == [0, 1, 0]
    assert read.held_out.tolist() == [2]


def test_factors_from_a_pattern(folder):
    pattern = r"(?P<person>\w+)/(?P<side>\w+?)_(?P<yaw>-?\d+)"
    read = ImageFolder(folder, factors=pattern, kinds={"yaw": "ordinal"})
    assert read.factor_names == ("person", "side", "yaw")
    assert read.factor_kinds == ("categorical", "categorical", "ordinal")
    assert read.factor_labels["yaw"] == ("-5", "0", "30")  # in the order of numbers
    assert read.factors(range(5)).tolist() == [[0, 0, 1], [0, 1, 2], [1, 0, 2], [1, 1, 0], [2, 0, 1]]
    some = ImageFolder(folder, factors=r"left_(?P<yaw>\d+)|right")
    assert some.factors(range(5)).dtype == torch.float64
    np.testing.assert_array_equal(some.factors(range(5))[:, 0], [0, np.nan, 1, np.nan, 0])


def test_factors_from_a_table(folder):
    text = "name,age,glasses,split\nann/left_0.png,31.5,no,train\n"
    text += (
        "bob/right_-5.png,,yes,test\nbob/left_30.png,7,yes,train\n\neve/left_0.png,90,,val\nann/right_30.png,31.5,no,"
    )
    for name, written in (("l.csv", "\ufeff" + text + "train"), ("l.tsv", (text + "Train\n").replace(",", "\t"))):
        read = ImageFolder(folder, factors=table(folder, written, name), held_out="split")
        assert read.factor_names == ("age", "glasses")
        assert read.factor_kinds == ("continuous", "categorical")
        assert read.factor_sizes == (0, 2)
        assert read.factor_labels == {"glasses": ("no", "yes")}
        assert read.held_out.tolist() == [3, 4]
        factors = read.factors([0, 1, 2, 3, 4])
        assert factors.dtype == torch.float64
        np.testing.assert_array_equal(factors, [[31.5, 0], [31.5, 0], [7, 1], [np.nan, 1], [90, np.nan]])
    chosen = ImageFolder(folder, factors="l.csv", columns=["glasses"], held_out="split")
    assert chosen.factor_names == ("glasses",)


def test_a_table_elsewhere(folder, root, tmp_path):
    labels(folder, lambda name: name[:3]), root.mkdir()
    (folder / "labels.csv").rename(root / "people.csv")
    for path in ("people.csv", str(root / "people.csv")):
        assert ImageFolder(folder, factors=path).factor_labels == {"c0": ("ann", "bob", "eve")}
    assert "no table of factors at '" in refused(folder, FileNotFoundError, factors="others.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line is '', expected the names of two columns or more"),
        ("name;a\n", "its first line is 'name;a', expected the names of two columns or more"),
        ("name,a\nann/left_0.png\n", "line 2 has 1 cells, the first line 2"),
        ("name,a\nann/left_0.png,1,2\n", "line 2 has 3 cells, the first line 2"),
        ("name,a,a\n", "two factors are called 'a'"),
        ("name,\n", "a factor is called '', expected a name that can be printed"),
        ("name,a\nann/left_0.png,1\nann/left_0.png,1\n", "it has 'ann/left_0.png' twice, the second time in line 3"),
        ("name,a\nann/left_0.png,1\n", "4 of 5 images are not in it, 'ann/right_30.png' the first"),
        ("name,a\nann/left_0,1\n", "1 names in it are no images of the folder, 'ann/left_0' the first; 5 of 5 images"),
        ('name,a\nann/left_0.png,"1\n', "line 2: unexpected end of data"),
    ],
)
def test_tables_that_do_not_fit(folder, text, message):
    said = refused(folder, factors=table(folder, text))
    assert said.startswith(f"'{folder}': '{folder / 'labels.csv'}': ")
    assert message in said


def test_other_tables_that_do_not_fit(folder):
    (folder / "labels.csv").write_bytes("name,é".encode("latin-1"))
    assert "it is no text in UTF-8: " in refused(folder, factors="labels.csv")
    named = labels(folder, lambda name: "", lambda name: "maybe", lambda name: "0")
    assert "factor 'c0' has no value for any image" in refused(folder, factors=named)
    assert "it has no column 'age'; after the names it has: c0, c1, c2" in refused(
        folder, factors=named, columns=["age"]
    )
    assert "line 2 has 'maybe' in column 'c1', expected one of 1, true, yes, test" in refused(
        folder, factors=named, columns=["c2"], held_out="c1"
    )
    assert "column 'c2' holds out no image" in refused(folder, factors=named, columns=["c1"], held_out="c2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": "(?P<a>x+)"}, "the pattern '(?P<a>x+)' is found in 0 of 5 names, but not in 'ann/left_0.png'"),
        ({"factors": "ann/(?P<a>.)"}, "is found in 2 of 5 names, but not in 'bob/left_30.png'"),
        ({"factors": "(?P<a"}, "factors is '(?P<a', which is no regular expression: "),
        ({"factors": "folders"}, "factors is 'folders': expected a list of names for folders, a table (.csv or .tsv)"),
        ({"factors": ["a", "b"]}, "'ann/left_0.png' does not lie in the folders that are to be factors, '<a>/<b>/'"),
        ({"factors": ["a", "a"]}, "two factors are called 'a'"),
        ({"factors": ["a"], "kinds": {"b": "ordinal"}}, "kinds names 'b', which is no factor; factors are: a"),
        ({"factors": ["a"], "kinds": {"a": "real"}}, "kinds has 'real' for 'a', expected categorical, ordinal"),
        ({"factors": ["a"], "kinds": {"a": "ordinal"}}, "'a' cannot be ordinal: it has the value 'ann', which is no"),
        ({"factors": ["a"], "columns": ["b"]}, "columns is for factors that are a table"),
        ({"held_out": "test"}, "held_out is 'test', which is neither a folder of images nor a column of a table of"),
        ({"size": (3,)}, "size must be integers [2], got int64 [1]"),
        ({"size": 3}, "size must be integers [2], got int64 [1]"),
        ({"size": (3.5, 2)}, "size must be integers [2], got float64 [2]"),
        ({"size": (3, 0)}, "size must be height and width, 1 or more each, got [3, 0]"),
        ({"channels": 2}, "channels must be 1 (grey), 3 (red, green, blue) or 4 (with opacity), got 2"),
        ({"fit": "pad"}, "fit must be 'crop' or 'stretch', got 'pad'"),
    ],
)
def test_options_that_do_not_fit(folder, options, message):
    assert message in refused(folder, **options)


def test_mixed_sizes_and_channels_are_named(folder):
    write(folder, ["zoe/a.png"], (5, 6, 3))
    said = refused(folder)
    assert "images of different sizes: 'ann/left_0.png' is 5 × 4, 'zoe/a.png' is 5 × 6 (height × width); give" in said
    write(folder, ["zoe/a.png"], (5, 4))
    assert "'ann/left_0.png' is in colour, 'zoe/a.png' is grey; give channels=1 to have all grey" in refused(folder)
    assert ImageFolder(folder, channels=1).shape == (1, 5, 4)


def test_no_folder_and_no_images(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == f"no images in '{tmp_path / 'empty'}', and no other files"
    (tmp_path / "empty" / "a.mp4").write_bytes(b"film")
    assert refused(tmp_path / "empty") == f"no images in '{tmp_path / 'empty'}'; it has files with: .mp4"
    file = folder / PEOPLE[0]
    assert refused(file, NotADirectoryError) == f"'{file}' is a file, expected a folder of images"


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("bob"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert refused(folder, PermissionError) == f"'{folder / 'bob'}' may not be read: Permission denied"


def test_damaged_files_are_named_and_left_out(folder, monkeypatch):
    whole = (folder / PEOPLE[1]).read_bytes()
    (folder / PEOPLE[1]).write_bytes(whole[:50])
    (folder / PEOPLE[3]).write_bytes(b"no image")
    named = labels(folder, lambda name: name[:3])
    for _ in range(2):  # read, and from the cache
        with pytest.warns(
            UserWarning, match=r"photos': left out what cannot be read as an image: 'ann/right_30\.png' \("
        ):
            read = ImageFolder(folder, factors=named)
        assert set(read.unreadable) == {PEOPLE[1], PEOPLE[3]}
        assert read.unreadable[PEOPLE[3]] == "no image, or damaged"
        assert read.names == (PEOPLE[0], PEOPLE[2], PEOPLE[4])
        assert read.factors([0, 1, 2]).flatten().tolist() == [0, 1, 2]
        assert len(read.images([0, 1, 2])) == 3
    (folder / PEOPLE[0]).write_bytes(b"")
    assert refused(folder) == (
        f"'{folder}': more than half of 5 images cannot be read; the first of these is 'ann/left_0.png': no image, or "
        "damaged"
    )


def test_bombs_are_left_out_without_another_warning(folder, monkeypatch):
    write(folder, ["large.png"], (50, 4, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(ImageFolder(folder)) == 5
    (warning,) = caught
    assert "'large.png' (4 × 50 pixels, more than PIL.Image.MAX_IMAGE_PIXELS, 150)" in str(warning.message)


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that are decoded."""
    calls = []
    real = pictures_module.decode
    monkeypatch.setattr(pictures_module, "decode", lambda *a: (calls.append(1), real(*a))[1])
    return calls


def test_pictures_are_decoded_once(folder, decoded, root):
    for _ in range(2):
        ImageFolder(folder)
        assert len(decoded) == 5
    ImageFolder(folder, size=(3, 3))
    ImageFolder(folder, size=[3, 3], factors=["person"])
    assert len(decoded) == 10
    assert len(list((root / "image_cache").glob("*.npy"))) == 2
    write(folder, ["top.png"])
    for recursive, count in ((False, 1), (True, 6), (False, 1), (True, 6)):
        assert len(ImageFolder(folder, recursive=recursive)) == count
    assert len(decoded) == 10 + 7


def test_only_one_of_several_processes_decodes(folder, decoded):
    with ThreadPoolExecutor(4) as pool:  # locks of files hold between threads as between processes
        for read in pool.map(ImageFolder, [folder] * 4):
            assert len(read) == 5
    assert len(decoded) == 5


def test_a_changed_folder_is_read_again(folder, decoded, root):
    ImageFolder(folder)
    write(folder, ["new.png"])
    assert len(ImageFolder(folder)) == 6
    images = write(folder, ["new.png"])
    os.utime(folder / "new.png", ns=(10**18, 10**18))
    read = ImageFolder(folder)
    np.testing.assert_allclose(read.images([5])[0] * 255, images["new.png"].transpose(2, 0, 1), atol=1e-4)
    (folder / "new.png").unlink()
    assert len(ImageFolder(folder)) == 5
    assert len(decoded) == 5 + 6 + 6 + 5
    assert len(list((root / "image_cache").glob("*.npy"))) == 1, "those of earlier contents are removed"


@pytest.mark.parametrize("given", ["[person, side]", "labels.csv", r"[a-z]+/(?P<side>\w+?)_(?P<yaw>-?\d+)"])
def test_options_of_the_command_line(given):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Images, "data")
    options = ["--data=pyro_hfvae.data.ImageFolder", "--data.path=a", "--data.size=[48, 80]"]
    init = parser.parse_args([*options, f"--data.factors={given}", "--data.kinds={yaw: ordinal}"]).data.init_args
    assert init.factors == (["person", "side"] if given.startswith("[p") else given)
    assert (tuple(init.size), init.kinds) == ((48, 80), {"yaw": "ordinal"})


def test_two_folders_alike_have_two_caches(tmp_path):
    for name, value in (("a", 10), ("b", 20)):
        (tmp_path / name / "x").mkdir(parents=True)
        for at in range(2):
            file = tmp_path / name / "x" / f"{at}.bmp"
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)
            os.utime(file, ns=(10**18, 10**18))
    values = [int(ImageFolder(tmp_path / name / "x").images([0]).max() * 255) for name in "ab"]
    assert values == [10, 20]


def test_a_damaged_cache_is_made_again(folder, root, decoded):
    expected = ImageFolder(folder).images(range(5))
    (cache,) = (root / "image_cache").glob("*.npy")
    whole = cache.read_bytes()
    for damage in (
        lambda: cache.write_bytes(whole[:-1]),
        lambda: cache.write_bytes(b""),
        lambda: cache.with_suffix(".json").unlink(),
        lambda: cache.with_suffix(".json").write_text("{"),
    ):
        damage()
        before = len(decoded)
        assert ImageFolder(folder).images(range(5)).equal(expected)
        assert len(decoded) == before + 5
    assert cache.read_bytes() == whole


def test_a_half_written_cache_is_never_used(folder, root, monkeypatch):
    """What happens when the process dies on the way: nothing has the name, and the next one starts anew."""
    monkeypatch.setattr(pictures_module, "_TOGETHER", 2)
    real = pictures_module.decode
    seen = []

    def dying(source, *options):
        seen.append(source)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return real(source, *options)

    monkeypatch.setattr(pictures_module, "decode", dying)
    with pytest.raises(KeyboardInterrupt):
        ImageFolder(folder)
    assert not list((root / "image_cache").glob("*.npy"))
    monkeypatch.setattr(pictures_module, "decode", real)
    assert len(ImageFolder(folder)) == 5


def test_copies_map_the_file_again(folder):
    read = ImageFolder(folder, factors=["person"])
    content = pickle.dumps(read)
    copy = pickle.loads(content)
    assert copy.images([4, 1]).equal(read.images([4, 1]))
    assert copy.factors([4, 1]).equal(read.factors([4, 1]))
    large = ImageFolder(folder, size=(300, 300))
    assert len(pickle.dumps(large)) < 10_000


def test_file_names_that_are_no_text(tmp_path):
    """They can be printed and fit in one line, wherever they are named."""
    folder = tmp_path / "a"
    folder.mkdir()
    for at, name in enumerate((b"\xff.png", "é ü.png".encode(), b"a\nb.png")):
        Image.fromarray(np.full((2, 2), 50 * at, np.uint8)).save(folder / os.fsdecode(name))
    for name in (b"\xfe.png", b"c\nd.png"):
        (folder / os.fsdecode(name)).write_bytes(b"")
    with pytest.warns(UserWarning, match="left out what cannot be read") as caught:
        assert len(ImageFolder(folder)) == 3
    warning = str(caught[0].message)
    assert r"'c\nd.png' (" in warning
    assert r"'\udcfe.png' (" in warning
    assert "\n" not in warning.encode().decode()
