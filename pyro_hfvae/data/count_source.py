"""Tables of counts as users have them (npz and h5ad files) as one sparse matrix, unpickling nothing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pyro_hfvae.data.h5ad import read_h5ad
from pyro_hfvae.data.npz import naming, read_all
from pyro_hfvae.data.table_rows import quoted
from pyro_hfvae.data.table_source import located

__all__ = ["CountSource", "as_counts", "csr_of", "open_counts"]

LARGEST = 2**24
"""Counts below it are exact in float32."""


@dataclass(frozen=True)
class CountSource:
    """Counts, and what is known of each row.

    Attributes:
        file: that they come from.
        matrix: counts, float32, [N, V], in CSR form.
        feature_names: names of the V genes or words.
        column: what is known of each row under a name, [N].
    """

    file: Path
    matrix: sparse.csr_array
    feature_names: tuple[str, ...]
    column: Callable[[str], pd.Series]


def open_counts(path: str | Path, layer: str) -> CountSource:
    """Opens counts.

    Args:
        path: an ``.npz`` or ``.h5ad`` file.
        layer: of an ``.h5ad`` file: ``X``, ``raw``, or the name of a layer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or holds no counts; names it.
    """
    file = located(path, "counts")
    suffix = file.suffix.lower()
    if suffix not in (".npz", ".h5ad"):
        raise ValueError(f"'{file}' is no file of counts that can be read: its name must end in .npz or .h5ad")
    if suffix == ".npz":
        if layer != "X":
            raise ValueError(f"'{file}' has no layers, as .h5ad files have: leave out layer, got '{layer}'")
        return _of_arrays(file, read_all(file, "an npz file of counts"))
    found = read_h5ad(file, layer)
    columns = found.rows
    others = f"; the file has {quoted(found.layers)}" if len(found.layers) > 1 else ""
    with naming(file):
        names = _names(found.feature_names, found.matrix.shape[1])
        matrix = as_counts(found.matrix, names, f"'{layer}'", others)
        return CountSource(file, matrix, names, lambda name: _known(columns, name, len(found.rows)))


def csr_of(arrays: Mapping[str, NDArray[Any]], prefix: str = "", form: str = "csr") -> sparse.csr_array:
    """The matrix whose parts are arrays called data, indices, indptr and shape, as scipy.sparse.save_npz names them.

    Raises:
        ValueError: a part is not there, or they are the parts of no matrix.
    """
    parts = [f"{prefix}{part}" for part in ("data", "indices", "indptr", "shape")]
    if missing := [part for part in parts if part not in arrays]:
        raise ValueError(f"there is no {', '.join(missing)}")
    data, indices, indptr, shape = (arrays[part] for part in parts)
    if (
        data.dtype.kind not in "biuf"
        or any(part.dtype.kind not in "iu" for part in (indices, indptr, shape))
        or any(part.ndim != 1 for part in (data, indices, indptr))
        or shape.shape != (2,)
        or (shape < 0).any()
    ):
        raise ValueError(f"{', '.join(parts)} are no parts of a sparse matrix of numbers, [N, V]")
    try:
        kind = sparse.csr_array if form == "csr" else sparse.csc_array
        wide = np.int64 if max(len(data), *shape.tolist()) >= 2**31 else np.int32
        matrix = kind((data, indices.astype(wide), indptr.astype(wide)), shape=tuple(shape.tolist()))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{', '.join(parts)} are no parts of a sparse matrix: {error}") from error
    return matrix.tocsr()


def as_counts(matrix: sparse.csr_array, names: Sequence[str], where: str, others: str = "") -> sparse.csr_array:
    """The same as float32, without zeros that are kept, if it holds counts.

    Args:
        matrix: [N, V].
        names: of the V features.
        where: it comes from, for the error.
        others: what else could hold counts, for the error.

    Raises:
        ValueError: a value is negative, not whole, missing or too large, or a row has no counts; names row and feature.
    """
    rows, features = matrix.shape
    if rows < 2 or not features:
        raise ValueError(f"{where} is {[rows, features]}, expected counts [N, V] of 2 rows or more")
    matrix.sum_duplicates()
    values = matrix.data.astype(np.uint8) if matrix.dtype == np.bool_ else matrix.data
    wrong = np.flatnonzero(~((values >= 0) & (values < LARGEST) & (values == np.floor(values))))
    if len(wrong):
        place = int(wrong[0])
        row = int(np.searchsorted(matrix.indptr, place, side="right")) - 1
        hint = (
            " (values that were scaled, or their logarithms, are no counts)"
            if 0 <= values[place] < LARGEST or values[place] < 0
            else ""
        )
        raise ValueError(
            f"{where} has {values[place]:g} in row {row}, '{names[matrix.indices[place]]}', expected counts, whole "
            f"numbers from 0{hint}{others}"
        )
    found = matrix.astype(np.float32)
    found.eliminate_zeros()
    empty = np.flatnonzero(np.diff(found.indptr) == 0)
    if len(empty):
        first = ", ".join(str(row) for row in empty[:5])
        raise ValueError(
            f"{where} has no counts in {len(empty):,} rows ({first}{', ...' * (len(empty) > 5)}): leave them out"
        )
    return found


def _of_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> CountSource:
    with naming(file):
        form = str(arrays.pop("format", np.array("csr")).astype(str))
        if "x" in arrays:
            x = arrays.pop("x")
            if x.ndim != 2 or x.dtype.kind not in "biuf":
                raise ValueError(f"x is {x.dtype} {list(x.shape)}, expected counts [N, V]")
            matrix = sparse.csr_array(x)
        elif "data" in arrays:
            if form not in ("csr", "csc"):
                raise ValueError(f"its matrix has the format '{form}', expected csr or csc: save matrix.tocsr()")
            matrix = csr_of(arrays, form=form)
            arrays = {name: array for name, array in arrays.items() if name not in _PARTS}
        else:
            raise ValueError(
                f"there are neither x, [N, V], nor the parts {', '.join(_PARTS)} of a sparse matrix; there is: "
                f"{', '.join(arrays) or 'nothing'}"
            )
        count, features = matrix.shape
        names = _names(arrays.pop("feature_names", np.array([f"x{place}" for place in range(features)])), features)
        for name, array in arrays.items():
            if array.shape != (count,):
                raise ValueError(
                    f"{name} is {array.dtype} {list(array.shape)}, expected [{count}], a value for each row"
                )
        return CountSource(file, as_counts(matrix, names, "x"), names, lambda name: _known(arrays, name, count))


_PARTS = ("data", "indices", "indptr", "shape")


def _names(given: Any, count: int) -> tuple[str, ...]:
    names = tuple(str(name) for name in np.asarray(given).ravel().tolist())
    if np.asarray(given).shape != (count,):
        raise ValueError(f"feature_names has {len(names)} names, expected {count}")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(
            f"{len(twice)} feature names occur more than once, '{twice[0]}' first: make them different "
            "(var_names_make_unique of anndata)"
        )
    if unprintable := [name for name in names if not (name and name.isprintable())]:
        raise ValueError(f"feature_names holds {unprintable[0]!r}, expected names that can be printed")
    return names


def _known(columns: Mapping[str, Any] | pd.DataFrame, name: str, count: int) -> pd.Series:
    if name not in columns:
        raise ValueError(f"there is no '{name}'; of each row are known: {quoted(list(columns)) or 'nothing'}")
    return pd.Series(columns[name]).reset_index(drop=True)
