"""Series in the format of the UEA archive."""

import numpy as np
import pytest

from pyro_hfvae.data.ts_file import read_ts

HEADER = "#a comment\n@problemName Steps\n@timeStamps false\n@classLabel true up down\n@data\n"


def written(path, text):
    (path / "a.ts").write_text(text)
    return path / "a.ts"


def test_series_of_two_lengths(tmp_path):
    found = read_ts(written(tmp_path, HEADER + "1,2.5,-3:4,5,6:up\n\n7e1:8:down\n"))
    assert found.labels == ["up", "down"]
    np.testing.assert_array_equal(found.values[0], [[1, 4], [2.5, 5], [-3, 6]])
    np.testing.assert_array_equal(found.values[1], [[70, 8]])
    plain = read_ts(written(tmp_path, "@classLabel false\n@data\n1,2\n3,4\n"))
    assert plain.labels == []
    assert [series.tolist() for series in plain.values] == [[[1], [2]], [[3], [4]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no series after @data"),
        (HEADER, "it has no series after @data"),
        ("1,2:up\n", "line 1 is neither a comment (#) nor a description (@) before @data"),
        (HEADER + "1,2:3,4:left\n", "line 6: the class 'left' is none of those in @classLabel"),
        (HEADER + "1,2:3:up\n", "line 6: its features have 2, 1 steps, expected as many each"),
        (HEADER + "1,?:3,4:up\n", "line 6: a value is missing (?), and missing values are not read"),
        (HEADER + "1,b:3,4:up\n", "line 6: could not convert string to float: 'b'"),
        (HEADER + "1:2:up\n1:up\n", "line 7: 1 features, the first series has 2"),
        (HEADER + "up\n", "line 6: its features have steps"),
        ("@timestamps true\n@data\n(0,1)\n", "line 3: series with time stamps are not read"),
        ("@targetlabel true\n@data\n1:2\n", "line 3: series with a number as their target are not read"),
    ],
)
def test_what_is_no_such_file(tmp_path, text, message):
    file = written(tmp_path, text)
    with pytest.raises(ValueError, match=rf"^'{file}' cannot be read as a .ts file of series: ") as error:
        read_ts(file)
    assert message in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.ts").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as a .ts file of series: 'utf-8' codec"):
        read_ts(tmp_path / "a.ts")
