"""Tables: what is read from files and from memory, what x and the factors are, new rows, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_hfvae.data import Column, Table
from pyro_hfvae.data import mapped_rows as mapped_module

FRAME = pd.DataFrame(
    {
        "age": [20.5, 30.5, None, 50.0, 60.0, 70.0],
        "visits": [0, 3, 1, 2, 7, 0],
        "smoker": [True, False, True, True, False, True],
        "city": ["Bonn", None, "Aachen", "Bonn", "Celle", "Aachen"],
        "seen": pd.to_datetime(["2024-01-01", "2024-01-03", None, "2024-02-01", "2024-03-01", "2025-01-01"]),
        "ill": ["yes", "no", "no", "yes", None, "no"],
        "dose": [0.1, 0.2, 0.3, None, 0.5, 0.6],
        "test": [0, 0, 1, 0, 0, 1],
    }
)
KINDS = ["number", "count", "flag", "category", "time"]
GIVEN = {"factors": ["ill", "dose"], "held_out": "test"}


def written(path, suffix, frame=FRAME):
    file = path / f"patients{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    elif suffix == ".npz":
        np.savez(
            file,
            **{name: np.asarray(frame[name].tolist() if frame[name].dtype == "str" else frame[name]) for name in frame},
        )
    else:
        frame.to_csv(file, index=False, sep={".tsv": "\t", ".txt": ";"}.get(suffix, ","))
    return str(file)


def check(table):
    """What FRAME becomes, cell by cell."""
    assert [column.kind for column in table.columns] == KINDS
    assert table.feature_names == ("age", "visits", "smoker", "city", "seen")
    x = table.batch(range(6)).x
    assert x.dtype == torch.float32
    assert x.isnan().nonzero().tolist() == [[1, 3], [2, 0], [2, 4]]
    assert x[:, 1].tolist() == FRAME["visits"].tolist()
    assert x[:, 2].tolist() == FRAME["smoker"].tolist()
    assert x[[0, 2, 3, 4, 5], 3].tolist() == [1, 0, 1, 2, 0]
    assert table.columns[3] == Column("city", "category", 3, ("Aachen", "Bonn", "Celle"))
    training = FRAME["age"][[0, 1, 3, 4]]  # of rows 2 and 5, which are held out, nothing is taken
    assert table.columns[0].mean == pytest.approx(training.mean(), rel=1e-6)
    assert table.columns[0].scale == pytest.approx(training.std(ddof=0), rel=1e-6)
    np.testing.assert_allclose(x[:, 0], (FRAME["age"] - training.mean()) / training.std(ddof=0), rtol=1e-5)
    assert table.held_out.tolist() == [2, 5]
    assert table.factor_names == ("ill", "dose")
    assert table.factor_kinds == ("categorical", "continuous")
    assert table.factor_sizes == (2, 0)
    assert table.factor_labels == {"ill": ("no", "yes")}
    factors = table.factors([4, 0, 3])
    assert factors.dtype == torch.float64
    np.testing.assert_array_equal(factors, [[np.nan, 0.5], [1, 0.1], [1, np.nan]])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".parquet"])
def test_files(tmp_path, suffix):
    check(Table(written(tmp_path, suffix), **GIVEN))


def test_frames_and_arrays():
    check(Table(FRAME, **GIVEN))
    check(Table(FRAME.set_index(FRAME.index[::-1]), **GIVEN))  # rows count by their place
    check(Table({name: FRAME[name] for name in FRAME}, **GIVEN))


def test_npz_files(tmp_path):
    complete = FRAME.drop(columns="test").ffill()  # an npz file has no missing texts
    table = Table(written(tmp_path, ".npz", complete), factors=["ill"])
    assert [column.kind for column in table.columns] == [*KINDS, "number"]
    expected = Table(complete, factors=["ill"])
    assert torch.equal(table.batch([2, 0]).x, expected.batch([2, 0]).x)
    assert table.factors([0, 1]).tolist() == expected.factors([0, 1]).tolist()
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, feature_names=np.array(["a", "b"]), c=np.array([0, 1, 2, 1, 0]))
    table = Table(tmp_path / "x.npz", factors=["c"])
    assert table.feature_names == ("a", "b")
    assert table.factor_labels == {"c": ("0", "1", "2")}
    np.testing.assert_allclose(table.batch(range(5)).x, (x - x.mean(0)) / x.std(0), rtol=1e-5, atol=1e-6)
    assert Table(x).feature_names == ("x0", "x1")


def test_arrays_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_module, "BLOCK", 3)
    random = np.random.default_rng(0)
    rows = np.column_stack(
        [
            random.normal(5, 2, 20),
            random.integers(0, 3, 20),
            random.poisson(4, 20),
            random.random(20) < 0.5,
            random.integers(0, 2, 20),
        ]
    )
    rows[:3, 1], rows[:2, 2], rows[:2, 3] = [0, 1, 2], [0, 5], [0, 1]
    rows[4, 0] = np.nan
    np.save(tmp_path / "a.npy", rows[:7].astype(np.float32))
    np.save(tmp_path / "b.npy", rows[7:])
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    given = {"kinds": {"x1": "category"}, "factors": ["x4"], "held_out": [3, 19]}
    table, expected = Table(files, **given), Table(rows.astype(np.float32), **given)
    assert [column.kind for column in table.columns] == ["number", "category", "count", "flag"]
    asked = [19, 0, 7, 6, 0]
    np.testing.assert_allclose(table.batch(asked).x, expected.batch(asked).x, rtol=1e-5, equal_nan=True)
    assert table.factors(asked).tolist() == expected.factors(asked).tolist()
    assert table.columns[1].labels == expected.columns[1].labels == ("0", "1", "2")
    assert table.columns[0].mean == pytest.approx(expected.columns[0].mean, rel=1e-6)
    assert len(Table(files[1])) == 13
    content = pickle.dumps(table)
    assert torch.equal(pickle.loads(content).batch(asked).x.nan_to_num(), table.batch(asked).x.nan_to_num())
    assert rows[7:].tobytes()[:40] not in content  # the files are opened again


def test_statistics_are_those_of_the_training_rows():
    table = Table({"a": np.array([1.0, 2.0, 3.0, 100.0]), "b": np.array([5.0, np.nan, 7.0, 9.0])})
    assert table.columns[0].mean == pytest.approx(26.5)  # nothing is held out yet
    for _ in range(2):  # the last call counts, whatever came before
        table.prepare(torch.tensor([0, 3]))
        table.prepare(torch.tensor([2, 0, 1]))
    assert table.columns[0].mean == pytest.approx(2.0, rel=1e-6)
    assert table.columns[0].scale == pytest.approx((2 / 3) ** 0.5, rel=1e-6)
    assert table.columns[1].mean == pytest.approx(6.0, rel=1e-6)
    np.testing.assert_allclose(table.batch([3]).x, [[98 * 1.5**0.5, 3.0]], rtol=1e-5)
    with pytest.raises(
        ValueError, match="^column 'b' has the standard deviation 0 among the 2 rows that are trained on"
    ):
        table.prepare(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="^column 'b' has the standard deviation nan among the 1 rows"):
        Table({"b": np.array([np.nan, 7.0, 9.0])}).prepare(torch.tensor([0]))


def test_seconds_of_today_are_not_rounded():
    seconds = 1.7e9 + np.arange(10.0)
    table = Table({"a": seconds})
    np.testing.assert_allclose(table.decode(table.batch(range(10)).x)["a"], seconds, atol=1e-5, rtol=0)


def test_new_rows():
    table = Table(FRAME, **GIVEN)
    rows = pd.DataFrame(
        {"city": ["Celle"], "age": [None], "other": [1], "smoker": [0], "seen": ["2024-01-01"], "visits": [9]}
    )
    x = table.encode(rows)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x[0, :4], [np.nan, 9, 0, 2])
    assert x[0, 4].item() == pytest.approx(table.batch([0]).x[0, 4].item(), rel=1e-6)
    assert table.encode(rows[:0]).shape == (0, 5)
    assert table.encode(rows.iloc[[0, 0]]).shape == (2, 5)
    assert Table(np.eye(3)[:, :2] * 3).encode([[3, 0]]).tolist() == [[3, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": ["old"]}, "column 'age' holds 'old' in row 0, expected numbers"),
        ({"city": ["Dresden"]}, "column 'city' has the unknown category 'Dresden' in row 0; known are: 'Aachen', "),
        ({"visits": [-1]}, "column 'visits' has -1 in row 0, expected counts"),
        ({"smoker": [2]}, "column 'smoker' has 2 in row 0, expected flags"),
        ({"seen": ["soon"]}, "column 'seen' holds 'soon' in row 0, expected dates"),
        ({"age": None, "city": None}, "rows have no column 'age', 'city'; expected are 'age', 'visits', 'smoker', "),
    ],
)
def test_new_rows_that_do_not_fit(change, message):
    table = Table(FRAME, **GIVEN)
    rows = {name: FRAME[name][:1].tolist() for name in FRAME} | change
    with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
        table.encode({name: cells for name, cells in rows.items() if cells is not None})
    assert message in str(error.value)


def test_shapes_that_do_not_fit():
    table = Table(FRAME, **GIVEN)
    for rows, message in (([[1, 2]], "int64 [1, 2], expected [B, 5]"), ([1], "int64 [1], expected [B, 5]")):
        with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
            table.encode(rows)
        assert message in str(error.value)
    with pytest.raises(ValueError, match=r"^x is \[5\], expected \[B, 5\]"):
        table.decode(torch.zeros(5))
    with pytest.raises(ValueError, match="^rows have more than one column called 'age'"):
        table.encode(pd.concat([FRAME, FRAME[["age"]]], axis=1))
    with pytest.raises(IndexError, match="^no datum 6: there are 6"):
        table.batch([6])


cells = st.one_of(st.just(np.nan), st.floats(-1e4, 1e4, width=32))


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 3)), elements=cells),
    st.sampled_from([np.float32, np.float64]),
)
def test_encoding_and_decoding_are_inverse(values, dtype):
    spread = np.nanmax(values, 0, initial=-np.inf) - np.nanmin(values, 0, initial=np.inf)
    values = values[:, spread > 1e-3].astype(dtype)  # what never varies is refused
    if not values.shape[1]:
        return
    table = Table(values, kinds="number")
    x = table.batch(range(len(values))).x
    assert (x.shape, x.dtype) == (values.shape, torch.float32)
    np.testing.assert_array_equal(x.isnan(), np.isnan(values))
    decoded = table.decode(x)
    spread = np.abs(np.nan_to_num(values)).max(0) + 1  # rounding of float32 at the largest value
    np.testing.assert_allclose(decoded / spread, values / spread, atol=1e-6)
    np.testing.assert_allclose(table.encode(decoded), x, atol=1e-5)
    one = table.batch([len(values) - 1]).x
    assert torch.equal(one.nan_to_num(), x[-1:].nan_to_num())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0, 1, 5, None])), min_size=1, max_size=5))
def test_categories_and_counts_are_inverse_exactly(rows):
    rows = [("a", 0), ("b", 2), *rows]  # two categories and two counts at least
    frame = pd.DataFrame({"c": [row[0] for row in rows], "n": pd.array([row[1] for row in rows], dtype="Int64")})
    table = Table(frame)
    x = table.batch(range(len(rows))).x
    decoded = table.decode(x)
    assert [None if pd.isna(label) else label for label in decoded["c"]] == [row[0] for row in rows]
    assert [None if pd.isna(count) else count for count in decoded["n"]] == [row[1] for row in rows]
    assert torch.equal(table.encode(decoded).nan_to_num(-1), x.nan_to_num(-1))


GOOD = {"a": np.array([1.5, 2.0, 4.0]), "b": np.array([0, 3, 1])}


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (GOOD | {"c": [np.nan] * 3}, {}, "'c' is missing in all rows; leave out by drop=['c']"),
        (GOOD | {"c": [2, 2, 2], "d": ["u", "u", None]}, {}, "'c', 'd' are constant: the same value in all rows"),
        (GOOD | {"c": [1, 2]}, {}, "c is int64 [2], expected [3], a value for each row"),
        (GOOD | {"c": [1, np.inf, 2]}, {}, "column 'c' has inf in row 1, expected finite numbers"),
        (GOOD | {"c": [1e300, -1e300, 0]}, {}, "column 'c' has values from -1e+300 to 1e+300, too far apart"),
        (GOOD, {"kinds": {"a": "count"}}, "column 'a' has 1.5 in row 0, expected counts"),
        (GOOD, {"kinds": {"a": "whole"}}, "'whole' is no kind of a column; the kinds are number, category, count"),
        (GOOD, {"kinds": "whole"}, "'whole' is no kind of a column"),
        (GOOD, {"kinds": {"c": "count"}}, "there is no column 'c'; the columns are 'a', 'b'"),
        (GOOD, {"drop": ["c"]}, "there is no column 'c'"),
        (GOOD, {"drop": ["a"], "factors": ["a"]}, "column 'a' is named twice among factors, held_out and drop"),
        (GOOD, {"factors": ["a", "b"]}, "no column is left for x"),
        (GOOD, {"factors": ["a"], "kinds": {"a": "number"}}, "kinds names 'a', which is no column of x; kinds"),
        (GOOD, {"factors": ["a"], "factor_kinds": {"b": "ordinal"}}, "factor_kinds names 'b', which is no factor; the"),
        (GOOD, {"factors": ["a"], "factor_kinds": {"a": "ordered"}}, "factor 'a' is of kind 'ordered'; the kinds"),
        (GOOD | {"c": [np.nan] * 3}, {"factors": ["c"]}, "factor 'c' is missing of all data: leave it out"),
        (GOOD, {"held_out": "b"}, "column 'b' has 3 in row 1, expected flags, 0 or 1"),
        (GOOD | {"c": [1, 1, 1]}, {"held_out": "c"}, "column 'c' marks 3 of 3 data as held out, and 0 are neither"),
        (GOOD | {"c": [1, 0, np.nan]}, {"held_out": "c"}, "column 'c' marks 1 of 3 data as held out, and 1 are"),
        (GOOD, {"held_out": [3]}, "held_out has 1 numbers, expected different ones from 0 to 2, some but not all"),
        (GOOD, {"held_out": [1, 1]}, "held_out has 2 numbers, expected different ones"),
        (GOOD, {"held_out": [0.5]}, "held_out must be integers [M], got float64 [1]"),
        (GOOD, {"held_out": [1, 2]}, "column 'a' has the standard deviation 0 among the 1 rows that are trained on"),
        ({"a": [1.0]}, {}, "the table has 1 rows and 1 columns, expected 2 rows or more and a column"),
        (pd.DataFrame(), {}, "the table has 0 rows and 0 columns"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), {}, "the table has more than one column called 'a'"),
        (pd.DataFrame([[1, 2], [3, 4]]), {}, "the table: column 0 has the name 0, expected one that can be printed"),
        (pd.DataFrame({"a": [1, "x"]}), {}, "column 'a' holds values of several types, int in row 0 and str in row 1"),
        (np.ones(3), {}, "the table is float64 [3], expected [N, D], a column for each feature"),
        (np.array([["a", "b"]] * 2), {}, "x is <U1 [2, 2], expected numbers [N, D]; texts go into arrays [N] by name"),
        ({"feature_names": np.array(["a"])}, {}, "feature_names are those of x, [N, D], but there is no such array"),
        ({"x": np.eye(2), "feature_names": np.array(["a"])}, {}, "feature_names is <U1 [1], expected a text for"),
    ],
)  # fmt: skip
def test_what_is_no_table(source, given, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
        Table(source, **given)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "' is empty"),
        ("t.csv", b"\xef\xbb\xbf", "a csv file: No columns to parse from file"),
        ("t.csv", b"\n\n", "a csv file: No columns to parse from file"),
        ("t.csv", b"a,b\n", "' has 0 rows and 2 columns, expected 2 rows or more and a column"),
        ("t.csv", b"a,b\n1,2\n", "' has 1 rows and 2 columns"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "a csv file: line 3 has 3 values, but the first line 2 names"),
        ("t.csv", b"a,b\n1,2\n3\n", "a csv file: line 3 has 1 values, but the first line 2 names"),
        ("t.csv", b"a,a\n1,2\n3,4\n", "' has more than one column called 'a'"),
        ("t.csv", b",a\n0,2\n1,4\n", "': column 0 has the name '', expected one that can be printed; a table that was"),
        (
            "t.csv",
            b"1,2\n3,4\n5,6\n",
            "a csv file: '1' is in its first line, where the names of the columns are expect",
        ),
        ("t.csv", b"a,b\n1,2\nx,4\n5,6\n", "': column 'a' holds numbers, but the text 'x' in row 1: mend it"),
        ("t.csv", b"a,b\n1,2\ninf,4\n5,6\n", "': column 'a' has inf in row 1"),
        ("t.csv", b"a,b\n,2\n,4\n?,6\n", "': 'a' is missing in all rows"),
        ("t.csv", b"a\0b\n1\n2\n", "a csv file: it holds zero bytes, as no text does"),
        ("t.csv", b"\x89PNG\r\n\x1a\n", "a csv file: 'utf-8' codec can't decode byte 0x89"),
        ("t.csv", b'a,b\n"1,2\n3,4\n', "a csv file: unexpected end of data"),
        ("t.parquet", b"PAR1", "cannot be read as a parquet file: "),
        ("t.npz", b"PK", "cannot be read as an npz file of columns: "),
        ("t.npy", b"", "cannot be read as an .npy file with numbers [N, D]: "),
        (
            "t.xls",
            b"x",
            "' is no table that can be read: its name must end in .csv, .tsv, .txt, .parquet, .pq, .npz or",
        ),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / name}'") as error:
        Table(str(tmp_path / name))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        (np.ones(3), {}, "' holds float64 [3], expected numbers [N, D]"),
        (np.array([[1.0, 2], [3, np.inf]]), {}, "': column 'x1' has inf in row 1, expected finite"),
        (np.array([["a"], ["b"]]), {}, "' holds <U1 [2, 1], expected numbers [N, D]"),
        (np.array([[1.5, 2], [2, 3]]), {"kinds": {"x0": "category"}}, "'x0' has values from 1.5 to 2, expected codes"),
        (np.array([[0, 2], [2, 3]]), {"kinds": {"x0": "flag"}}, "column 'x0' has values from 0 to 2, expected flags"),
        (np.array([[-1, 2], [2, 3]]), {"kinds": {"x0": "count"}}, "column 'x0' has values from -1 to 2, expected"),
        (np.array([[1, 2], [1, 3]]), {}, "'x0' is constant: the same value in all rows"),
        (np.array([[np.nan, 2], [np.nan, 3]]), {}, "'x0' is missing in all rows"),
        (np.ones((1, 2)), {}, "' has 1 rows and 2 columns, expected 2 rows or more"),
        (np.array([object(), object()]), {}, "it holds Python objects, which are not unpickled"),
    ],
)  # fmt: skip
def test_arrays_on_the_disk_that_are_no_tables(tmp_path, rows, given, message):
    np.save(tmp_path / "t.npy", rows, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 't.npy'}'") as error:
        Table(str(tmp_path / "t.npy"), **given)
    assert message in str(error.value)


def test_lying_headers_and_other_shards(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 2)))
    np.save(tmp_path / "b.npy", np.ones((4, 3)))
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    with pytest.raises(ValueError, match=rf"^'{files[1]}' has 3 columns, but '{files[0]}' has 2"):
        Table(files)
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes().replace(b"(4, 3)", b"(9, 3)"))
    with pytest.raises(ValueError, match=r"b.npy' cannot be read as an .npy file with numbers \[N, D\]: its header cl"):
        Table(files[1])
    with pytest.raises(ValueError, match="^source is a list of 1 files, expected npy files"):
        Table(["a.csv"])
    np.savez(tmp_path / "c.npz", a=np.array([1, "x"], dtype=object))
    with pytest.raises(ValueError, match="c.npz' cannot be read as an npz file of columns: a: it holds Python objects"):
        Table(tmp_path / "c.npz")


def test_files_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))
    for source in ("t.csv", "t.npy", ["t.npy"]):
        with pytest.raises(FileNotFoundError, match="^no table at 't.[a-z]*' in the current folder, nor '"):
            Table(source)
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    assert len(Table("t.csv", **GIVEN)) == 6  # found in the data root


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    file = written(tmp_path, ".parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow to be read: pip install pyro-hfvae\[tables\]"):
        Table(file)
