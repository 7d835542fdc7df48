"""Cells in h5ad files (anndata): the one matrix that is asked for, and what is known of cells and genes."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.table_rows import quoted

__all__ = ["Cells", "read_h5ad"]

LARGE, COMPRESSION = 2**30, 4096
"""Bytes that a file may claim for an array without a question, and how many times as large as what is stored more."""


@dataclass(frozen=True)
class Cells:
    """A matrix of a file.

    Attributes:
        matrix: [N, V], in CSR form.
        feature_names: names of the V genes.
        rows: what is known of each cell.
        layers: names of all matrices of the file.
    """

    matrix: sparse.csr_array
    feature_names: list[str]
    rows: pd.DataFrame
    layers: tuple[str, ...]


def read_h5ad(file: Path, layer: str) -> Cells:
    """Reads a matrix and what is known of its rows and columns; of files as anndata has written them since 0.7 no more.

    HDF5 holds numbers and texts, and nothing is unpickled.

    Args:
        file: which is there.
        layer: ``X``, ``raw``, or the name of a layer.

    Raises:
        ValueError: it is no such file, lacks the matrix, or anndata is not installed.
    """
    try:
        import anndata
        import h5py
    except ImportError as error:
        raise ValueError(f"'{file}' needs anndata to be read: pip install pyro-hfvae[cells]") from error
    with reading(file, "an h5ad file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats of old
        with h5py.File(file) as opened:
            for name, stored in _stored(opened):
                claimed = stored.size * stored.dtype.itemsize
                if claimed > max(LARGE, COMPRESSION * stored.id.get_storage_size()):
                    raise ValueError(
                        f"{name} claims {stored.dtype} {list(stored.shape)}, {claimed:,} bytes, but "
                        f"{stored.id.get_storage_size():,} are there"
                    )
            if "encoding-type" in opened.attrs:
                layers = _layers("X" in opened, "raw" in opened, list(opened.get("layers", ())))
                place = _place(layer, layers)
                matrix = anndata.io.read_elem(opened[f"{place}/X" if layer == "raw" else place])
                rows = anndata.io.read_elem(opened["obs"])
                genes = anndata.io.read_elem(opened["raw/var" if layer == "raw" else "var"]).index
            else:  # of before 0.7: only anndata as a whole knows
                whole = anndata.read_h5ad(file)
                layers = _layers(whole.X is not None, whole.raw is not None, list(whole.layers))
                _place(layer, layers)
                matrix = whole.raw.X if layer == "raw" else whole.X if layer == "X" else whole.layers[layer]
                rows, genes = whole.obs, (whole.raw.var_names if layer == "raw" else whole.var_names)
        found = sparse.csr_array(matrix)
        found.check_format(full_check=True)
        if found.ndim != 2 or found.shape != (len(rows), len(genes)) or found.dtype.kind not in "biuf":
            raise ValueError(
                f"'{layer}' is {found.dtype} {list(found.shape)}, expected numbers {[len(rows), len(genes)]}, cells by "
                "genes"
            )
    return Cells(found, [str(gene) for gene in genes], rows, layers)


def _layers(x: bool, raw: bool, others: list[str]) -> tuple[str, ...]:
    return (*["X"] * x, *["raw"] * raw, *others)


def _place(layer: str, layers: tuple[str, ...]) -> str:
    """Where a matrix is; a ValueError if it is not there."""
    if layer not in layers:
        raise ValueError(f"it has no matrix '{layer}'; it has: {quoted(layers) or 'none'}")
    return layer if layer in ("X", "raw") else f"layers/{layer}"


def _stored(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All arrays of numbers below a group, with their names."""
    import h5py

    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from _stored(item, f"{prefix}{name}/")
        elif (
            isinstance(item.dtype, np.dtype) and item.shape is not None and h5py.check_string_dtype(item.dtype) is None
        ):
            yield f"{prefix}{name}", item
