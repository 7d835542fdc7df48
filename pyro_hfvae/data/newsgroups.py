"""20 Newsgroups as counts of words, with the groups that the documents come from."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pyro_hfvae.data.count_source import CountSource, as_counts, csr_of
from pyro_hfvae.data.counts import Counts
from pyro_hfvae.data.known_file import KnownFile
from pyro_hfvae.data.npz import naming, read_all
from pyro_hfvae.data.root import locate

__all__ = ["Newsgroups"]


class Newsgroups(Counts):
    """20 Newsgroups: 11,214 documents to train on and 7,531 held out, counts of 3,072 words; the factor is the group.

    The bag of words is that of the Embedded Topic Model's code; its 100 validation documents are left out. None comes
    with this library.

    Args:
        path: an ``.npz`` file; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`). It holds ``vocab`` (texts, [V]); for ``train`` and ``test`` the parts
            of a sparse matrix in CSR form, ``train_data``, ``train_indices``, ``train_indptr`` and ``train_shape``;
            and, if the groups are known, ``groups`` (texts, [K]) and ``train_label`` and ``test_label`` (integers).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    licence = "MIT for the counts; the corpus states none"
    citation = "Lang, NewsWeeder, ICML 1995; Dieng, Ruiz, Blei, Topic modeling in embedding spaces, TACL 8, 2020"
    files: ClassVar[tuple[KnownFile, ...]] = (
        KnownFile("newsgroups/20news_etm_bow.npz", "186f16e8373f7cf3ea87a9136e88c20e88ce599cbb4e55a26b00ee4b4ea75a69"),
    )

    def __init__(self, path: str | Path = "newsgroups/20news_etm_bow.npz") -> None:
        file = locate(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"no 20 Newsgroups at '{file}': put an npz file with vocab and, for train and test, the CSR parts "
                "NAME_data, NAME_indices, NAME_indptr and NAME_shape of documents × words there"
            )
        arrays = read_all(file, "an npz file of word counts")
        with naming(file):
            if "vocab" not in arrays:
                raise ValueError("there is no vocab")
            words = arrays["vocab"]
            names, parts = tuple(str(word) for word in words.tolist()), []
            for name in ("train", "test"):
                part = csr_of(arrays, f"{name}_")
                if words.dtype.kind != "U" or words.shape != (part.shape[1],):
                    raise ValueError(f"{name} has {part.shape[1]} words, vocab {len(names)}")
                parts.append(as_counts(part, names, name))
            matrix = sparse.vstack(parts, format="csr")
            known = {}
            if "groups" in arrays:
                known["group"] = _groups(arrays, [part.shape[0] for part in parts])
        source = CountSource(file, matrix, names, known.__getitem__)
        first, count = parts[0].shape[0], matrix.shape[0]
        self._take(source, None, list(known), {}, range(first, count))


def _groups(arrays: dict[str, NDArray[Any]], counts: list[int]) -> pd.Series:
    """The group of each document, its name."""
    groups, found = arrays["groups"], []
    for name, count in zip(("train_label", "test_label"), counts, strict=True):
        labels = arrays.get(name, np.zeros(0))
        if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.max() >= len(groups) or labels.min() < 0:
            raise ValueError(
                f"{name} is {labels.dtype} {list(labels.shape)}, expected a number from 0 to {len(groups) - 1} for "
                f"each of {count} documents"
            )
        found.append(labels.astype(np.int64))
    return pd.Series(groups[np.concatenate(found)])
