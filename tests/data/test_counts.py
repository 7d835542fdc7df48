"""Counts: sparse and dense files, cells of anndata, what batches have, and what is refused."""

import sys
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from pyro_hfvae.data import Counts

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string'")

X = np.array([[3, 0, 1, 0], [0, 0, 2, 5], [1, 1, 0, 0], [0, 7, 0, 0], [2, 0, 0, 300]])
WORDS = np.array(["star", "goal", "the", "a"])
GROUP = np.array(["space", "sport", "space", "sport", "space"])
TEST = np.array([0, 0, 1, 0, 1])
BESIDE = {"feature_names": WORDS, "group": GROUP, "test": TEST}
GIVEN = {"factors": ["group"], "held_out": "test"}


def dense(path, x=X, **beside):
    np.savez(path / "c.npz", x=x, **{name: array for name, array in (BESIDE | beside).items() if array is not None})
    return path / "c.npz"


def parts(path, form=sparse.csr_array, **changes):
    matrix = form(X.astype(np.uint16))
    content = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": np.array(X.shape)}
    content |= {"format": np.array(matrix.format.encode())} | BESIDE | changes
    np.savez_compressed(path / "c.npz", **{name: array for name, array in content.items() if array is not None})
    return path / "c.npz"


def cells(path, x=X, raw=None, **layers):
    with pd.option_context("future.infer_string", False):  # anndata does not write the texts of pandas 3
        rows = [f"cell {n}" for n in range(5)]
        obs = pd.DataFrame(
            {"group": pd.Categorical(GROUP.tolist()), "test": TEST == 1, "depth": [0.5, None, 2, 3, 4]}, rows
        )
        x = x if sparse.issparse(x) else np.asarray(x, dtype=np.float32)
        found = anndata.AnnData(x, obs, pd.DataFrame(index=WORDS.tolist()), layers=layers)
        if raw is not None:
            genes = pd.DataFrame(index=[f"gene {v}" for v in range(raw.shape[1])])
            found.raw = anndata.AnnData(raw, obs, genes)
        found.write_h5ad(path / "c.h5ad")
    return path / "c.h5ad"


def h5ad(path):
    return cells(path, sparse.csr_matrix(X.astype(np.float32)))


def columns(path):
    return parts(path, sparse.csc_array, format=np.array(b"csc"))


@pytest.mark.parametrize("source", [dense, parts, columns, h5ad, cells])
def test_files(tmp_path, source):
    data = Counts(str(source(tmp_path)), batch="group", **GIVEN)
    assert (len(data), data.shape, data.feature_names) == (5, (4,), tuple(WORDS))
    asked = [4, 0, 0]
    batch = data.batch(torch.tensor(asked))
    assert list(batch) == ["x", "library", "batch"]
    assert {tensor.dtype for tensor in batch.values()} == {torch.float32}
    assert batch.x.tolist() == X[asked].tolist()
    assert batch["library"].tolist() == X.sum(1)[asked].tolist()
    assert batch["batch"].tolist() == [[1, 0]] * 3
    assert data.batch([1])["batch"].tolist() == [[0, 1]]
    assert data.batch_labels == ("space", "sport")
    assert data.factor_labels == {"group": ("space", "sport")}
    assert data.factors(asked).tolist() == [[0], [0], [0]]
    assert data.held_out.tolist() == [2, 4]
    assert sparse.issparse(data.matrix)
    assert data.matrix.nnz == (X > 0).sum()
    with pytest.raises(IndexError, match="^no datum 5"):
        data.batch([5])


def test_without_anything_beside(tmp_path):
    data = Counts(dense(tmp_path, feature_names=None, group=None, test=None))
    assert list(data.batch([0])) == ["x", "library"]
    assert data.feature_names == ("x0", "x1", "x2", "x3")
    assert data.factors([0, 1]).shape == (2, 0)
    assert data.held_out is None


def test_what_scipy_saves(tmp_path):
    sparse.save_npz(tmp_path / "c.npz", sparse.csr_matrix(X))
    assert Counts(tmp_path / "c.npz").batch(range(5)).x.tolist() == X.tolist()


def test_layers_and_raw(tmp_path):
    file = cells(tmp_path, np.log1p(X), raw=sparse.csr_matrix(np.hstack([X, X]).astype(np.float32)), counts=2 * X)
    assert Counts(file, layer="counts").batch([1]).x.tolist() == [[0, 0, 4, 10]]
    raw = Counts(file, layer="raw", factors=["depth"])
    assert raw.batch([1]).x.tolist() == [[0, 0, 2, 5, 0, 0, 2, 5]]
    assert raw.feature_names[7] == "gene 7"
    assert torch.isnan(raw.factors([1])).item()
    with pytest.raises(
        ValueError, match=r"'X' has 1.38629 in row 0, 'star', expected counts, whole numbers from 0 \(va"
    ):
        Counts(file)
    with pytest.raises(ValueError, match="the file has 'X', 'raw', 'counts'$"):
        Counts(file)
    with pytest.raises(
        ValueError, match="cannot be read as an h5ad file: it has no matrix 'spliced'; it has: 'X', 'raw'"
    ):
        Counts(file, layer="spliced")
    with pytest.raises(
        ValueError, match="c.h5ad': there is no 'kind'; of each row are known: 'group', 'test', 'depth'$"
    ):
        Counts(file, layer="raw", factors=["kind"])


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.int64, st.tuples(st.integers(2, 5), st.integers(1, 4)), elements=st.integers(0, 9)),
    st.sampled_from([np.uint8, np.int32, np.float64]),
)
def test_any_counts(tmp_path_factory, x, dtype):
    x[:, 0] += 1  # no row is empty
    file = tmp_path_factory.mktemp("counts") / "c.npz"
    matrix = sparse.csr_array(x.astype(dtype))
    np.savez(file, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape)
    data = Counts(file)
    batch = data.batch(range(len(x)))
    assert batch.x.tolist() == x.tolist()
    assert batch["library"].tolist() == x.sum(1).tolist()
    one = data.batch([1])
    assert (one.x.shape, one["library"].shape) == ((1, x.shape[1]), (1,))


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (
            dense,
            {"x": X - 1},
            "x has -1 in row 0, 'goal', expected counts, whole numbers from 0 (values that were scaled",
        ),
        (dense, {"x": X + 0.5}, "x has 3.5 in row 0, 'star', expected counts, whole numbers from 0 (values that were"),
        (dense, {"x": np.where(X == 5, np.nan, X)}, "x has nan in row 1, 'a', expected counts, whole numbers from 0"),
        (dense, {"x": np.where(X == 7, np.inf, X)}, "x has inf in row 3, 'goal', expected counts"),
        (dense, {"x": np.where(X == 7, 2.0**24, X)}, "x has 1.67772e+07 in row 3, 'goal', expected counts"),
        (dense, {"x": X * (np.arange(5)[:, None] > 1)}, "x has no counts in 2 rows (0, 1): leave them out"),
        (dense, {"x": X[0]}, "x is int64 [4], expected counts [N, V]"),
        (dense, {"x": X.astype(str)}, "x is <U21 [5, 4], expected counts [N, V]"),
        (dense, {"x": X[:1], "group": None, "test": None}, "x is [1, 4], expected counts [N, V] of 2 rows or more"),
        (dense, {"group": GROUP[:4]}, "group is <U5 [4], expected [5], a value for each row"),
        (dense, {"feature_names": WORDS[:3]}, "feature_names has 3 names, expected 4"),
        (dense, {"feature_names": WORDS[[0, 1, 2, 2]]}, "1 feature names occur more than once, 'the' first: make them"),
        (
            dense,
            {"feature_names": np.array(["a", "b", "c", "\n"])},
            "feature_names holds '\\n', expected names that can",
        ),
        (
            dense,
            {"group": GROUP.astype(object)},
            "cannot be read as an npz file of counts: group: it holds Python object",
        ),
        (
            parts,
            {"format": np.array("coo")},
            "its matrix has the format 'coo', expected csr or csc: save matrix.tocsr()",
        ),
        (parts, {"indptr": None}, "there is no indptr"),
        (
            parts,
            {"data": None},
            "there are neither x, [N, V], nor the parts data, indices, indptr, shape of a sparse mat",
        ),
        (
            parts,
            {"shape": np.array([5])},
            "data, indices, indptr, shape are no parts of a sparse matrix of numbers, [N",
        ),
        (parts, {"shape": np.array([5, 3])}, "data, indices, indptr, shape are no parts of a sparse matrix: "),
        (parts, {"shape": np.array([10**9, 4])}, "data, indices, indptr, shape are no parts of a sparse matrix: "),
        (parts, {"indices": np.zeros(2, int)}, "data, indices, indptr, shape are no parts of a sparse matrix: "),
        (parts, {"data": np.array(["a"])}, "data, indices, indptr, shape are no parts of a sparse matrix of numbers"),
    ],
)
def test_what_are_no_counts(tmp_path, source, changes, message):
    file = source(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"^'{file}'") as error:
        Counts(file, **GIVEN)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"factors": ["kind"]}, "there is no 'kind'; of each row are known: 'group', 'test'"),
        ({"batch": "kind"}, "there is no 'kind'"),
        ({"held_out": "group"}, "column 'group' holds 'space' in row 0, expected numbers"),
        ({"held_out": [5]}, "held_out has 1 numbers, expected different ones from 0 to 4"),
        ({"layer": "counts"}, "has no layers, as .h5ad files have: leave out layer, got 'counts'"),
    ],
)
def test_names_that_are_not_there(tmp_path, given, message):
    file = dense(tmp_path)
    with pytest.raises(ValueError, match=rf"^'{file}'") as error:
        Counts(file, **given)
    assert message in str(error.value)


def test_a_row_without_a_batch(tmp_path):
    file = cells(tmp_path)
    with pytest.raises(ValueError, match="c.h5ad': column 'depth' has no batch in row 1$"):
        Counts(file, batch="depth")


def test_files_of_another_kind(tmp_path, monkeypatch):
    for name, content, message in (
        ("c.csv", b"a", "is no file of counts that can be read: its name must end in .npz or .h5ad"),
        ("c.npz", b"", "cannot be read as an npz file of counts: "),
        ("c.h5ad", b"no HDF5", "cannot be read as an h5ad file: "),
        ("c.h5ad", b"", "cannot be read as an h5ad file: "),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"^'{tmp_path / name}' ") as error:
            Counts(tmp_path / name)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="^no counts at "):
        Counts(tmp_path / "d.h5ad")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ValueError, match=r"needs anndata to be read: pip install pyro-hfvae\[cells\]"):
        Counts(tmp_path / "c.h5ad")


def test_claims_are_not_believed(tmp_path):
    file = cells(tmp_path)
    with h5py.File(file, "r+") as opened:
        del opened["X"]
        opened.create_dataset("X", (10**6, 10**6), "f4", chunks=(1000, 1000)).attrs.update(
            {"encoding-type": "array", "encoding-version": "0.2.0"}
        )
    with pytest.raises(
        ValueError, match=r"X claims float32 \[1000000, 1000000\], 4,000,000,000,000 bytes, but 0 are the"
    ):
        Counts(file)
    with h5py.File(file, "r+") as opened:
        del opened["X"]
        opened["X"] = np.zeros((3, 3))
        opened["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    with pytest.raises(ValueError, match=r"'X' is float64 \[3, 3\], expected numbers \[5, 4\], cells by genes"):
        Counts(file)


def test_objects_are_not_unpickled(tmp_path):
    with zipfile.ZipFile(parts(tmp_path), "a") as archive:
        archive.writestr(
            "evil.npy",
            b"\x93NUMPY\x01\x00"
            + b"\x76\x00"
            + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
            + b"\n",
        )
    with pytest.raises(ValueError, match="evil: it holds Python objects, which are not unpickled"):
        Counts(tmp_path / "c.npz")
