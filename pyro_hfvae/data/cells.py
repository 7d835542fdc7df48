"""The values of a column as pandas holds them (texts, numbers, dates, truth values) as arrays of one type."""

from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["as_labels", "as_numbers", "as_seconds", "content_of", "refuse_infinities"]

Content: TypeAlias = Literal["text", "number", "time", "flag"]

_CONTENTS: dict[str, Content] = {
    "string": "text",
    "boolean": "flag",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",
    "datetime": "time",
    "datetime64": "time",
    "date": "time",
}
"""What pandas calls the content of a column of objects."""

_DATE = r"\d{4}-\d{2}-\d{2}"


def content_of(name: str, values: pd.Series) -> Content:
    """What a column holds; the numbers of one that is empty.

    Args:
        name: of the column, for the error.
        values: of all rows; missing ones do not count.

    Raises:
        ValueError: values of several types, texts among numbers, or values of another type.
    """
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return "text"
    if pd.api.types.is_bool_dtype(kind):
        return "flag"
    if pd.api.types.is_datetime64_any_dtype(kind):
        return "time"
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        return "number"
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found not in _CONTENTS or not (pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind)):
        raise ValueError(
            f"column '{name}' holds {_types(values)}, expected numbers, texts, dates or truth values alone"
        )
    if found != "string":
        return _CONTENTS[found]
    _refuse_texts_among_numbers(name, values)
    return "time" if _are_dates(values) else "text"


def as_numbers(name: str, values: pd.Series) -> NDArray[np.float64]:
    """Numbers, truth values or texts of numbers as float64, [B]; NaN where missing.

    Raises:
        ValueError: a value is no number; names column, row and value.
    """
    kind = values.dtype
    if pd.api.types.is_bool_dtype(kind) or (
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)
    ):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_datetime64_any_dtype(kind):
        raise ValueError(f"column '{name}' holds dates, expected numbers")
    parsed = pd.to_numeric(values.astype(object).where(values.notna(), np.nan), errors="coerce")
    _refuse_unread(name, values, parsed, "numbers")
    return np.asarray(parsed.to_numpy(dtype=np.float64, na_value=np.nan))


def as_seconds(name: str, values: pd.Series) -> NDArray[np.float64]:
    """Dates, their texts (ISO 8601) or numbers as seconds since 1970 (UTC), float64, [B]; NaN where missing.

    Raises:
        ValueError: a value is no date; names column, row and value.
    """
    if pd.api.types.is_numeric_dtype(values.dtype):
        return as_numbers(name, values)
    parsed = _dates(values)
    _refuse_unread(name, values, parsed, "dates (ISO 8601)")
    return np.asarray(((parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64))


def as_labels(name: str, values: pd.Series) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Values as codes of labels, in the order of the values.

    Returns:
        For each row the place of its label, [B], -1 where missing; and the labels that occur: of a pandas category in
        its order, of others sorted; whole numbers are written without a point.

    Raises:
        ValueError: two different values would be written alike, or they cannot be sorted.
    """
    try:
        codes, found = pd.factorize(values, sort=True)
    except TypeError as error:
        raise ValueError(f"column '{name}' holds {_types(values)}, expected categories of one type") from error
    labels = tuple(_label(value) for value in found)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"column '{name}' has two categories that are written {twice!r}: they must differ as texts")
    return np.asarray(codes, dtype=np.int64), labels


def refuse_infinities(name: str, found: NDArray[np.float64]) -> None:
    """A ValueError for the first infinity of a column."""
    if np.isinf(found).any():
        row = int(np.isinf(found).argmax())
        raise ValueError(
            f"column '{name}' has {found[row]:g} in row {row}, expected finite numbers, or NaN for missing"
        )


def _label(value: Any) -> str:
    """A value as text; 2.0, which is what a missing cell makes of a column of integers, like 2."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _types(values: pd.Series) -> str:
    """The types of a column in words: of its values, or of the first two that differ, with their rows."""
    if not pd.api.types.is_object_dtype(values.dtype):
        return f"values of the type {values.dtype}"
    kinds = [type(value).__name__ for value in values]
    present = np.flatnonzero(values.notna().to_numpy())
    first = int(present[0])
    other = next((int(row) for row in present if kinds[row] != kinds[first]), None)
    if other is None:
        return f"values of the type {kinds[first]}"
    return f"values of several types, {kinds[first]} in row {first} and {kinds[other]} in row {other}"


def _refuse_texts_among_numbers(name: str, values: pd.Series) -> None:
    """A ValueError for a column of numbers in which some cells are texts."""
    counts = values.value_counts()
    numbers = pd.to_numeric(pd.Series(counts.index, dtype=object), errors="coerce").notna().to_numpy()
    among = int(counts.to_numpy()[numbers].sum())
    if numbers.all() or 2 * among < int(counts.sum()):
        return
    texts = counts.index[~numbers]
    row = int(values.isin(texts).to_numpy().argmax())
    raise ValueError(
        f"column '{name}' holds numbers, but the text {values.iloc[row]!r} in row {row}: mend it (an empty cell is "
        f"missing), or take all of them as texts by kinds={{'{name}': 'category'}}"
    )


def _are_dates(values: pd.Series) -> bool:
    present = values[values.notna()]
    return bool(len(present)) and bool(
        pd.Series(present.iloc[:1]).str.match(_DATE).all() and _dates(present).notna().all()
    )


def _dates(values: pd.Series) -> pd.Series:
    """Dates in UTC; NaT where missing or no date."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return pd.to_datetime(values, utc=True)
    return pd.to_datetime(values.astype(object), utc=True, errors="coerce", format="ISO8601")


def _refuse_unread(name: str, values: pd.Series, parsed: pd.Series, expected: str) -> None:
    """A ValueError for the first value that is there and was not read."""
    unread = (values.notna() & parsed.isna()).to_numpy()
    if unread.any():
        row = int(unread.argmax())
        raise ValueError(f"column '{name}' holds {values.iloc[row]!r} in row {row}, expected {expected}")
