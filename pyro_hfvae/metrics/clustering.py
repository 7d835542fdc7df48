"""How well discrete blocks cluster the data: accuracy, normalised mutual information, adjusted Rand index."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = ["Clustering", "clustering", "clustering_accuracy"]


@dataclass(frozen=True, eq=False)
class Clustering:
    """The result of `clustering` for ``D`` discrete blocks and ``F`` factors.

    Attributes:
        blocks: the names of the rows: the blocks all of whose variables are discrete.
        factors: the names of the columns.
        accuracy: with the best assignment of clusters to values ``[D, F]``.
        normalised_mutual_information: in ``[0, 1]``, ``[D, F]``.
        adjusted_rand_index: 0 is chance, 1 the same partition ``[D, F]``.
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    accuracy: NDArray[np.float64]
    normalised_mutual_information: NDArray[np.float64]
    adjusted_rand_index: NDArray[np.float64]


def clustering(codes: Codes, factors: Factors, *, seed: int = 0) -> Clustering:
    """Each datum in the cluster of the most probable category of a block, against the values of each factor.

    The accuracy is that of `clustering_accuracy`; ``NMI = 2 I(a; b) / (H(a) + H(b))``; the adjusted Rand index is that
    of Hubert & Arabie (1985). A block of several discrete variables has a cluster for every combination that occurs.
    Blocks with a continuous variable are left out. A continuous factor has 20 bins for values.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: not used (nothing is drawn); all metrics share one signature.

    Returns:
        The tables, without rows where no block is discrete.
    """
    check_matched(codes, factors)
    blocks = tuple(
        block
        for block, variables in codes.blocks.items()
        if all(len(codes.columns_of(variable)) > 1 for variable in variables)
    )
    found = np.zeros((3, len(blocks), len(factors.names)))
    for row, block in enumerate(blocks):
        categories = [codes.columns[:, list(codes.columns_of(v))].argmax(axis=1) for v in codes.blocks[block]]
        clusters = np.unique(np.stack(categories, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        for column in range(len(factors.names)):
            values = factors.classes(column)
            found[:, row, column] = (
                clustering_accuracy(clusters, values),
                normalized_mutual_info_score(values, clusters),
                adjusted_rand_score(values, clusters),
            )
    return Clustering(blocks, factors.names, *found)


def clustering_accuracy(clusters: NDArray[np.int64], values: NDArray[np.int64]) -> float:
    """``max_m (1/n) Σ_n [m(cluster_n) = value_n]`` over one-to-one assignments ``m`` (Hungarian algorithm).

    Clusters beyond the number of values are left without one.

    Args:
        clusters: labels ``[n]``, any integers.
        values: labels ``[n]``, any integers.
    """
    _, clusters = np.unique(clusters, return_inverse=True)
    _, values = np.unique(values, return_inverse=True)
    counts = np.zeros((int(clusters.max()) + 1, int(values.max()) + 1), dtype=np.int64)
    np.add.at(counts, (clusters, values), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(clusters))
