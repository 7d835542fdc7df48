"""20 Newsgroups: training and test documents in one set, with their groups."""

import numpy as np
import pytest
from scipy import sparse

from pyro_hfvae.data import Newsgroups

TRAIN = np.array([[3, 0, 1], [0, 2, 0], [1, 1, 1]])
TEST = np.array([[0, 5, 0], [4, 0, 0]])


def content():
    found = {"vocab": np.array(["star", "goal", "the"]), "groups": np.array(["sport", "space"])}
    for name, table in (("train", TRAIN), ("valid", TRAIN), ("test", TEST)):
        matrix = sparse.csr_array(table.astype(np.uint16))
        found |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
        found |= {f"{name}_shape": np.array(table.shape), f"{name}_label": (table[:, 0] > 0).astype(np.uint8)}
    return found


def read(path, **changes):
    np.savez(path / "n.npz", **{name: array for name, array in (content() | changes).items() if array is not None})
    return Newsgroups(path / "n.npz")


def test_training_documents_come_first(tmp_path):
    data = read(tmp_path)
    assert data.batch(range(5)).x.tolist() == [*TRAIN.tolist(), *TEST.tolist()]
    assert data.batch([3])["library"].tolist() == [5]
    assert data.held_out.tolist() == [3, 4]
    assert data.feature_names == ("star", "goal", "the")
    assert data.factor_names == ("group",)
    assert data.factor_labels == {"group": ("space", "sport")}
    assert data.factors(range(5)).squeeze(1).tolist() == [0, 1, 0, 1, 0]
    assert read(tmp_path, groups=None).factor_names == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": None}, "there is no vocab"),
        ({"vocab": np.array(["a"])}, "train has 3 words, vocab 1"),
        ({"test_shape": None}, "there is no test_shape"),
        ({"train_label": None}, "train_label is float64 [0], expected a number from 0 to 1 for each of 3 documents"),
        ({"test_label": np.array([2, 0])}, "test_label is int64 [2], expected a number from 0 to 1 for each of 2"),
        ({"train_data": np.array([1.5] * 6)}, "train has 1.5 in row 0, 'star', expected counts"),
    ],
)
def test_what_is_no_such_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 'n.npz'}': ") as error:
        read(tmp_path, **changes)
    assert message in str(error.value)


def test_the_real_file(shared_data):
    data = Newsgroups(shared_data / "newsgroups" / "20news_etm_bow.npz")
    assert (len(data), data.shape, len(data.held_out), data.factor_sizes) == (18745, (3072,), 7531, (20,))
    batch = data.batch([0, 18744])
    assert batch["library"].tolist() == batch.x.sum(1).tolist()
