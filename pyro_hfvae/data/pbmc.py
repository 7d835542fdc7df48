"""Blood cells with known types: counts of genes, restored from the logarithms in scanpy's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pyro_hfvae.data.count_source import CountSource, as_counts
from pyro_hfvae.data.counts import Counts
from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.h5ad import read_h5ad
from pyro_hfvae.data.known_file import KnownFile
from pyro_hfvae.data.npz import naming
from pyro_hfvae.data.table_source import located

__all__ = ["PBMC68k"]

_TARGET = 10_000
"""Counts of a cell that the logarithms were scaled to."""

_LARGEST_DISTANCE = 0.25
"""From a restored count to a whole number. Three decimals of the logarithm leave .0005 × count, .12 of the largest."""


class PBMC68k(Counts):
    """700 blood cells of ten types, counts of 765 genes: scanpy's ``10x_pbmc68k_reduced.h5ad``.

    Its X is scaled, and its ``raw`` holds log(1 + 10,000 · count / total of the cell over all genes), with three
    decimals. The total is known for each cell, so that the counts can be restored exactly. The file lies in ``pbmc68k``
    in the data root (:func:`~pyro_hfvae.data.data_root`), and is downloaded where missing.

    Args:
        path: of the file, if it lies elsewhere.
        factors: columns of obs: ``bulk_labels`` (types by correlation with sorted cells), ``louvain`` (clusters),
            ``phase`` (of the cell cycle), ``n_genes``, ``percent_mito``, ``n_counts``, ``S_score``, ``G2M_score``.
        factor_kinds: of factors, by name; by default by content.
        held_out: numbers of cells from 0.

    Raises:
        FileNotFoundError: the file is neither there nor to be had.
        ValueError: it is another file, or anndata is not installed.
    """

    licence = "CC BY 4.0; distributed with scanpy (BSD-3-Clause)"
    citation = (
        "Zheng et al., Massively parallel digital transcriptional profiling of single cells, Nat. Commun. 8, 2017"
    )
    files: ClassVar[tuple[KnownFile, ...]] = (
        KnownFile(
            "pbmc68k/10x_pbmc68k_reduced.h5ad",
            "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
            "https://raw.githubusercontent.com/scverse/scanpy/1.11.5/src/scanpy/datasets/10x_pbmc68k_reduced.h5ad",
        ),
    )

    def __init__(
        self,
        path: str | Path | None = None,
        factors: Sequence[str] = ("bulk_labels",),
        factor_kinds: Mapping[str, FactorKind] | None = None,
        held_out: Sequence[int] | None = None,
    ) -> None:
        if path is None:
            self.files[0].fetch()
        file = self.files[0].file if path is None else located(path, "cells")
        found = read_h5ad(file, "raw")
        known = found.rows
        with naming(file):
            if "n_counts" not in known:
                raise ValueError("obs has no n_counts, the total of each cell, from which counts are restored")
            matrix = _restored(found.matrix, known["n_counts"].to_numpy(dtype=np.float64))
            matrix = as_counts(matrix, found.feature_names, "'raw'")

        def column(name: str) -> pd.Series:
            if name not in known:
                raise ValueError(f"obs has no '{name}'; it has: {', '.join(known)}")
            return known[name].reset_index(drop=True)

        source = CountSource(file, matrix, tuple(found.feature_names), column)
        self._take(source, None, factors, factor_kinds or {}, held_out)


def _restored(logarithms: sparse.csr_array, totals: NDArray[np.float64]) -> sparse.csr_array:
    """Counts, [N, V], of log(1 + 10,000 · count / total); a ValueError if they are not near whole numbers."""
    matrix = logarithms.astype(np.float64)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    counts = np.expm1(matrix.data) * totals[rows] / _TARGET
    distance = np.abs(counts - counts.round())
    if not distance.size or not distance.max() < _LARGEST_DISTANCE:
        raise ValueError(
            "'raw' does not hold log(1 + 10,000 · count / n_counts): no whole counts are restored from it; read counts "
            "as they stand by pyro_hfvae.data.Counts"
        )
    matrix.data = counts.round()
    return matrix
