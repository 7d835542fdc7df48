"""Names of picture files: any name of a block or a factor, on any file system, and back."""

from urllib.parse import unquote

import pytest

from pyro_hfvae.plot import picture_name

ODD = [
    "km/h",
    "../../x",
    "a.b",
    "..",
    "%2F",
    "größe",
    "形",
    "a b",
    'say "x"?',
    "a\nb",
    "items",
    "__class__",
    "C:\\x",
    "",
]


@pytest.mark.parametrize("name", ODD)
def test_any_name_there_and_back(tmp_path, name):
    stem = picture_name("traversal_", name)
    assert unquote(stem) == f"traversal_{name}"
    (tmp_path / f"{stem}.png").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}.png"]
    assert not set('/\\:*?"<>|\n') & set(stem)


@pytest.mark.parametrize("letter", ["a", "/", "形", "\udc80"])
def test_long_names_stay_apart(tmp_path, letter):
    names = [letter * 300, letter * 299 + "b", letter * 299 + "c"]
    stems = {picture_name("traversal_", name) for name in names}
    assert len(stems) == 3
    for stem in stems:
        (tmp_path / f".{stem}.png-abcdefgh").write_text("")
        unquote(stem)


def test_plain_names_stay_as_they_are():
    assert picture_name("categories_", "digit[0]") == "categories_digit[0]"
