"""Columns of a table: kinds by content, values as numbers, and back."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.data import Column, kind_of
from pyro_hfvae.data.columns import column_of

S = pd.Series
DAY = datetime.date(2024, 1, 1)
HOURS = pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (S([1, 2, 3]), "number"),
        (S([0.5, None]), "number"),
        (S([-1, 0, 2]), "number"),
        (S([0, 2, 2**24]), "number"),
        (S([Decimal("1.5"), None]), "number"),
        (S([2**70, 1], dtype=object), "number"),
        (S([0, 2, 5]), "count"),
        (S([0.0, None, 7.0]), "count"),
        (S([0, 3, None], dtype="Int64"), "count"),
        (S([0, 1, 1]), "flag"),
        (S([1.0, None, 0.0]), "flag"),
        (S([True, False]), "flag"),
        (S([True, None, False], dtype=object), "flag"),
        (S([True, None], dtype="boolean"), "flag"),
        (S(["a", None, "b"]), "category"),
        (S(["1", "2"]), "category"),
        (S(["a", "1", "b"]), "category"),
        (S(["2024-01-01", "soon"]), "category"),
        (S(["a", "b"], dtype="category"), "category"),
        (S(["2024-01-01", None, "2024-01-02T10:00:00"]), "time"),
        (S([DAY, None]), "time"),
        (S(HOURS), "time"),
    ],
)
def test_kinds_by_content(values, kind):
    assert kind_of("a", values) == kind


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (S(["1", "2", "x", None]), "column 'a' holds numbers, but the text 'x' in row 2: mend it"),
        (S([None, 1, "b"], dtype=object), "column 'a' holds values of several types, int in row 1 and str in row 2"),
        (S([[1], [2]]), "column 'a' holds values of the type list, expected numbers, texts, dates or truth values"),
        (S([1j, 2]), "column 'a' holds values of the type complex128"),
        (S(pd.to_timedelta([1, 2])), "column 'a' holds values of the type timedelta64[ns]"),
        (S([1.0, -np.inf]), "column 'a' has -inf in row 1, expected finite numbers, or NaN for missing"),
    ],
)
def test_what_is_no_column(values, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
        kind_of("a", values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (Column("a", "number"), S(["1", "x"]), "column 'a' holds 'x' in row 1, expected numbers"),
        (Column("a", "number"), S(HOURS), "column 'a' holds dates, expected numbers"),
        (Column("a", "number"), S([np.nan, np.inf]), "column 'a' has inf in row 1, expected finite"),
        (Column("a", "time"), S(["2024-01-01", "x"]), "column 'a' holds 'x' in row 1, expected dates (ISO 8601)"),
        (Column("a", "count"), S([1, -1]), "column 'a' has -1 in row 1, expected counts, whole numbers from 0"),
        (Column("a", "count"), S([0.5]), "column 'a' has 0.5 in row 0, expected counts"),
        (
            Column("a", "count"),
            S([2**24]),
            "column 'a' has 1.67772e+07 in row 0, expected counts, whole numbers from 0",
        ),
        (Column("a", "flag"), S([0, 1, 2]), "column 'a' has 2 in row 2, expected flags, 0 or 1"),
        (
            Column("a", "category", 2, ("f", "m")),
            S(["m", None, "x"]),
            "column 'a' has the unknown category 'x' in row 2; known are: 'f', 'm'",
        ),
    ],
)
def test_cells_of_another_kind(column, values, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the text is compared
        column.numbers(values)
    assert message in str(error.value)


def test_labels_of_categories():
    assert column_of("a", S([10.0, None, 9.0]), "category").labels == ("9", "10")  # sorted as numbers
    assert column_of("a", S([True, False]), "category").labels == ("False", "True")
    ordered = pd.Categorical(["high", "low"], categories=["low", "mid", "high"])
    assert column_of("a", S(ordered)).labels == ("low", "high")  # those that occur, in their order
    assert Column("a", "category", 2, ("1", "2")).numbers(S([2, 1.0, None]))[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="^column 'a' has two categories that are written '1'"):
        column_of("a", S([1, "1"], dtype=object), "category")


def test_texts_that_are_names_of_rows():
    names = S([f"patient {n}" for n in range(101)])
    with pytest.raises(ValueError, match="^column 'a' has 101 different texts in 101 rows, as names of rows have"):
        column_of("a", names)
    assert column_of("a", names, "category").size == 101


def test_codes_that_no_category_has():
    column = Column("a", "category", 2, ("f", "m"))
    for code in (-1, 2, 0.5):
        with pytest.raises(ValueError, match=f"^column 'a' has {code} in row 1, expected codes of categories, whole"):
            column.decoded(np.array([np.nan, code]))


def test_times_are_seconds_in_utc():
    column = Column("a", "time", mean=1_704_063_600.0, scale=3600.0)
    assert column.encoded(S(HOURS)).tolist() == [0, 24, 48]
    assert column.decoded(np.array([1.0, np.nan])).tolist() == [pd.Timestamp("2024-01-01"), pd.NaT]


missing = st.none()
finite = st.floats(-1e6, 1e6)


@given(
    st.lists(st.one_of(finite, missing), min_size=1, max_size=9),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_numbers_go_there_and_back(cells, mean, scale):
    column = Column("a", "number", mean=mean, scale=scale)
    x = column.encoded(S(cells, dtype=float))
    np.testing.assert_allclose(column.decoded(x), np.array(cells, dtype=float), rtol=1e-9, atol=1e-9)
    # z = (value - mean) / scale, cell by cell
    expected = [np.nan if cell is None else (cell - mean) / scale for cell in cells]
    np.testing.assert_array_equal(x, np.array(expected, dtype=float))


@given(st.lists(st.one_of(st.text("abcdé ", min_size=1, max_size=3), missing), min_size=1, max_size=9))
def test_categories_go_there_and_back(cells):
    values = S(cells, dtype=object)
    column = column_of("a", values, "category")
    x = column.encoded(values)
    assert list(column.labels) == sorted({cell for cell in cells if cell is not None})
    assert np.isnan(x).tolist() == [cell is None for cell in cells]
    decoded = column.decoded(x)
    assert [None if pd.isna(cell) else cell for cell in decoded] == cells
    if column.size:
        np.testing.assert_array_equal(column.encoded(decoded), x)


@given(st.lists(st.one_of(st.integers(0, 2**24 - 1), missing), min_size=1, max_size=9))
def test_counts_stay_what_they_are_in_float32(cells):
    column = Column("a", "count")
    x = column.encoded(S(cells, dtype="Int64")).astype(np.float32)
    assert [None if np.isnan(value) else int(value) for value in column.decoded(x)] == cells


@given(st.lists(st.one_of(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)), missing)))
def test_times_go_there_and_back(cells):
    cells = [cell and cell.replace(microsecond=0) for cell in cells]
    column = Column("a", "time", mean=1e9, scale=1e7)
    decoded = column.decoded(column.encoded(S(cells, dtype="datetime64[s]")))
    assert [None if pd.isna(cell) else cell.to_pydatetime() for cell in decoded] == cells
