"""Counts of genes in cells, of words in documents: sparse in memory, dense in batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.cells import as_labels
from pyro_hfvae.data.count_source import CountSource, open_counts
from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.factored import FactoredData
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.npz import naming

__all__ = ["Counts"]


class Counts(FactoredData):
    """Counts: x is ``[B, V]``, float32, with ``library``, ``[B]``, the sum of each row.

    The matrix stays sparse; the rows of a batch become dense.

    Args:
        source: an ``.h5ad`` file of anndata (needs the extra ``cells``), or an ``.npz`` file with ``x`` (counts,
            [N, V]) or the parts ``data``, ``indices``, ``indptr`` and ``shape`` of a sparse matrix, as
            scipy.sparse.save_npz names them, and, as far as they are known, ``feature_names`` ([V]) and arrays [N] of
            factors. One that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        layer: which matrix of an ``.h5ad`` file has the counts: ``X``, ``raw``, or the name of a layer.
        batch: array, or column of obs, with the batch of each row: programs get ``batch``, one-hot ``[B, K]``, float32.
        factors: arrays, or columns of obs, that are known factors.
        factor_kinds: of factors, by name; by default texts, flags and few whole numbers are ``categorical``, all others
            ``continuous``.
        held_out: the data's own test set: an array or column of 0 and 1, or numbers of rows from 0.

    Attributes:
        matrix: all counts, [N, V], in CSR form, float32; not to be changed.
        batch_labels: names of the K batches.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, a value is no count (negative, not whole, missing), a row has none, or what is
            named is not there; names the file, row and feature.
    """

    matrix: sparse.csr_array
    batch_labels: tuple[str, ...] = ()

    def __init__(
        self,
        source: str | Path,
        layer: str = "X",
        batch: str | None = None,
        factors: Sequence[str] = (),
        factor_kinds: Mapping[str, FactorKind] | None = None,
        held_out: str | Sequence[int] | None = None,
    ) -> None:
        self._take(open_counts(source, layer), batch, factors, factor_kinds or {}, held_out)

    def _take(
        self,
        found: CountSource,
        batch: str | None,
        factors: Sequence[str],
        factor_kinds: Mapping[str, FactorKind],
        held_out: str | Sequence[int] | None,
    ) -> None:
        self.matrix = found.matrix
        self.feature_names = found.feature_names
        self._library = torch.from_numpy(np.asarray(found.matrix.sum(axis=1, dtype=np.float64)).astype(np.float32))
        self._batch: Tensor | None = None
        with naming(found.file):
            if batch is not None:
                codes, self.batch_labels = as_labels(batch, found.column(batch))
                if (codes < 0).any():
                    raise ValueError(f"column '{batch}' has no batch in row {int((codes < 0).argmax())}")
                self._batch = torch.from_numpy(codes)
            self._set_factors({name: found.column(name) for name in factors}, factor_kinds)
            self._set_held_out(held_out, found.column)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def batch(self, indices: Integers) -> Batch:
        """The rows at ``indices`` [B]: x, float32 [B, V]; library, float32 [B]; and batch, if known, [B, K]."""
        indices = self._checked(indices)
        found = Batch(x=torch.from_numpy(self.matrix[indices.numpy()].toarray()), library=self._library[indices])
        if self._batch is not None:
            found["batch"] = torch.nn.functional.one_hot(self._batch[indices], len(self.batch_labels)).float()
        return found
