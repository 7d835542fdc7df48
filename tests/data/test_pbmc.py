"""Cells whose counts are restored from logarithms."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_hfvae.data import PBMC68k

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string'")

COUNTS = np.random.default_rng(0).poisson(0.7, (30, 8))
COUNTS[:, 0] += 1
COUNTS[0, 0] = 250
TOTALS = COUNTS.sum(1) + 2000.0  # there were more genes
LOGARITHMS = np.log1p(10_000 * COUNTS / TOTALS[:, None]).round(3)
TYPES = ["B" if n % 2 else "T" for n in range(30)]


def written(path, raw=LOGARITHMS, **obs):
    with pd.option_context("future.infer_string", False):  # anndata does not write the texts of pandas 3
        known = {"bulk_labels": pd.Categorical(TYPES), "n_counts": TOTALS} | obs
        known = pd.DataFrame({name: values for name, values in known.items() if values is not None})
        known.index = known.index.astype(str)
        found = anndata.AnnData(np.zeros((30, 8), dtype=np.float32), known)
        genes = pd.DataFrame(index=[f"gene {v}" for v in range(8)])
        found.raw = anndata.AnnData(sparse.csr_matrix(raw.astype(np.float32)), known, genes)
        found.write_h5ad(path / "p.h5ad")
    return path / "p.h5ad"


def test_counts_are_restored_exactly(tmp_path):
    data = PBMC68k(written(tmp_path), held_out=[3])
    batch = data.batch(range(30))
    assert batch.x.tolist() == COUNTS.tolist()
    assert batch["library"].tolist() == COUNTS.sum(1).tolist()
    assert data.factor_labels == {"bulk_labels": ("B", "T")}
    assert data.feature_names[7] == "gene 7"
    assert data.held_out.tolist() == [3]


def test_other_files_are_refused(tmp_path):
    for changes, message in (
        ({"raw": LOGARITHMS * 1.1}, "'raw' does not hold log(1 + 10,000 · count / n_counts): no whole counts are"),
        ({"raw": 0 * LOGARITHMS}, "'raw' does not hold log(1 + 10,000 · count / n_counts)"),
        ({"n_counts": None}, "obs has no n_counts, the total of each cell, from which counts are restored"),
        ({"bulk_labels": None}, "obs has no 'bulk_labels'; it has: n_counts"),
    ):
        file = written(tmp_path, **changes)
        with pytest.raises(ValueError, match=rf"^'{file}': ") as error:
            PBMC68k(file)
        assert message in str(error.value)
