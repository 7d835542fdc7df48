"""Tables as users have them (csv, parquet and npz files, pandas frames, arrays), column by column."""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hfvae.data.npz import naming, read_all, reading
from pyro_hfvae.data.root import locate
from pyro_hfvae.files import expanded

__all__ = ["Source", "TableSource", "located", "open_table"]

Source: TypeAlias = str | Path | pd.DataFrame | NDArray[Any] | Mapping[str, Any]
"""A file, a frame, numbers [N, D], or arrays [N] by the names of their columns."""

MISSING = ("?",)
"""What means a missing cell in a csv file, beside what pandas takes for it (nothing, NA, NaN, null, None, ...)."""

SEPARATORS = ",;\t"

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz"}


@dataclass(frozen=True)
class TableSource:
    """A table whose columns are read one after the other.

    Attributes:
        file: that it comes from; None of a table in memory.
        names: of the columns, all different.
        size: N, the number of rows.
        column: the values of a column, [N]; called once for each.
    """

    file: Path | None
    names: tuple[str, ...]
    size: int
    column: Callable[[str], pd.Series]


def located(path: str | Path, what: str) -> Path:
    """A file of the user, here or in the data root.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = locate(path)
    if not file.is_file():
        here = "" if expanded(path) == file else f"'{path}' in the current folder, nor "
        raise FileNotFoundError(f"no {what} at {here}'{file}'")
    return file


def open_table(source: Source) -> TableSource:
    """Opens a table and checks its header.

    Args:
        source: a file that ends in ``.csv`` (values between commas, semicolons or tabs, whichever its first line has
            most of, names in the first line), ``.parquet`` or ``.npz`` (an array [N] for each column, and ``x``,
            numbers [N, D], whose columns are called by ``feature_names``, [D]); a pandas frame; numbers [N, D]; or
            arrays by name as in an npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table; names the file.
    """
    if not isinstance(source, str | Path):
        return _checked(None, _of_memory(source))
    file = located(source, "table")
    form = SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise ValueError(f"'{file}' is no table that can be read: its name must end in {', '.join(SUFFIXES)} or .npy")
    if not file.stat().st_size:
        raise ValueError(f"'{file}' is empty")
    opened = {"csv": _of_csv, "parquet": _of_parquet, "npz": _of_npz}[form](file)
    return _checked(file, opened)


_Opened: TypeAlias = tuple[Sequence[Any], int, Callable[[str], Any]]


def _checked(file: Path | None, opened: _Opened) -> TableSource:
    names, size, column = opened
    where = "the table" if file is None else f"'{file}'"
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            hint = "; a table that was written with its index has such a first column" if not place else ""
            raise ValueError(f"{where}: column {place} has the name {name!r}, expected one that can be printed{hint}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{where} has more than one column called '{twice[0]}'")
    if size < 2 or not names:
        raise ValueError(f"{where} has {size} rows and {len(names)} columns, expected 2 rows or more and a column")
    return TableSource(file, tuple(names), size, lambda name: pd.Series(column(name), name=name).reset_index(drop=True))


def _of_memory(source: pd.DataFrame | NDArray[Any] | Mapping[str, Any]) -> _Opened:
    if isinstance(source, pd.DataFrame):
        # Of two columns with one name, which is refused, the frame would return both.
        return list(source.columns), len(source), lambda name: source[name]
    if isinstance(source, Mapping):
        return _of_arrays({name: np.asarray(array) for name, array in source.items()})
    array = np.asarray(source)
    if array.ndim != 2:
        raise ValueError(f"the table is {array.dtype} {list(array.shape)}, expected [N, D], a column for each feature")
    return _of_arrays({"x": array})


def _of_arrays(arrays: dict[str, NDArray[Any]]) -> _Opened:
    """Columns of arrays [N], and of one called x, [N, D]."""
    x = arrays.get("x")
    if x is None or x.ndim != 2:
        if "feature_names" in arrays:
            raise ValueError("feature_names are those of x, [N, D], but there is no such array")
        x = np.zeros((len(next(iter(arrays.values()), ())), 0))
        features: list[str] = []
    else:
        features = _feature_names(arrays.get("feature_names"), x.shape[1])
    others = {name: array for name, array in arrays.items() if not features or name not in ("x", "feature_names")}
    for name, array in others.items():
        if array.shape != (len(x),):
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected [{len(x)}], a value for each row")
        if array.dtype.kind not in "biufUMO":
            raise ValueError(f"{name} is {array.dtype}, expected numbers, texts, dates or truth values")
    if x.dtype.kind not in "biufO":
        raise ValueError(f"x is {x.dtype} {list(x.shape)}, expected numbers [N, D]; texts go into arrays [N] by name")
    place = {name: index for index, name in enumerate(features)}
    return (
        [*features, *others],
        len(x),
        lambda name: x[:, place[name]] if name in place else others[name],
    )


def _feature_names(given: NDArray[Any] | None, count: int) -> list[str]:
    if given is None:
        return [f"x{place}" for place in range(count)]
    if given.dtype.kind not in "UO" or given.shape != (count,):
        raise ValueError(
            f"feature_names is {given.dtype} {list(given.shape)}, expected a text for each of {count} columns"
        )
    return [str(name) for name in given.tolist()]


def _of_npz(file: Path) -> _Opened:
    with naming(file):
        return _of_arrays(read_all(file, "an npz file of columns"))


def _of_parquet(file: Path) -> _Opened:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"'{file}' needs pyarrow to be read: pip install pyro-hfvae[tables]") from error
    with reading(file, "a parquet file"):
        opened = parquet.ParquetFile(file)
        names, size = opened.schema_arrow.names, opened.metadata.num_rows
    names = [name for name in names if not name.startswith("__index_level_")]  # an index of pandas without a name

    def column(name: str) -> pd.Series:
        with reading(file, "a parquet file"):
            return opened.read(columns=[name]).to_pandas().reset_index()[name]

    return names, size, column


def _of_csv(file: Path) -> _Opened:
    with reading(file, "a csv file"):
        names, size, separator = _scanned(file)
        frame = pd.read_csv(
            file,
            sep=separator,
            index_col=False,
            na_values=list(MISSING),
            skipinitialspace=True,
            low_memory=False,
            encoding="utf-8-sig",
        )
        if len(frame) != size:
            raise ValueError(
                f"{size:,} rows of values are read as {len(frame):,}: a quotation mark that is not closed?"
            )
    frame.columns = pd.Index(names)  # as they stand there: pandas changes names that occur twice
    return names, size, frame.pop


def _scanned(file: Path) -> tuple[list[str], int, str]:
    """The names in the header, the number of rows and the separator of a csv file all of whose rows are complete."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        first = opened.readline()
        if "\0" in first:
            raise ValueError("it holds zero bytes, as no text does")
        separator = max(SEPARATORS, key=first.count)
        opened.seek(0)
        rows = csv.reader(opened, delimiter=separator, skipinitialspace=True, strict=True)
        names = next(rows, [])
        if numbers := [name for name in names if _is_number(name)]:
            raise ValueError(f"{numbers[0]!r} is in its first line, where the names of the columns are expected")
        size = 0
        for row in rows:
            if len(row) != len(names):
                if not row:
                    continue  # an empty line
                raise ValueError(f"line {rows.line_num} has {len(row)} values, but the first line {len(names)} names")
            size += 1
    return names, size, separator


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
