"""Entropy and mutual information of discretised codes and factors, by counting."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from pyro_hfvae.metrics.codes import Codes, Factors, bins_of_equal_width, check_matched

__all__ = [
    "discretise",
    "entropy",
    "factor_entropies",
    "information_matrix",
    "mutual_information",
    "nearest_neighbour_information",
]

NEIGHBOURS = 10


def information_matrix(codes: Codes, factors: Factors) -> NDArray[np.float64]:
    """``I(z_i; v_j)`` of each discretised variable and each factor, in nats ``[V, F]``.

    The table of counts makes it too high, by about ``(bins - 1) (values - 1) / 2n`` nats.
    """
    check_matched(codes, factors)
    classes = [factors.classes(factor) for factor in range(len(factors.names))]
    return np.array([[mutual_information(z, v) for v in classes] for z in discretise(codes).T])


def factor_entropies(factors: Factors) -> NDArray[np.float64]:
    """``H(v_j)`` of each factor, in nats ``[F]``."""
    return np.array([entropy(factors.classes(factor)) for factor in range(len(factors.names))])


def discretise(codes: Codes) -> NDArray[np.int64]:
    """Each variable as an integer ``[n, V]``: its bin of `BINS` between least and greatest, or its arg-max category."""
    labels = np.empty((len(codes.columns), len(codes.variables)), dtype=np.int64)
    for variable in range(len(codes.variables)):
        columns = codes.columns[:, list(codes.columns_of(variable))]
        labels[:, variable] = columns.argmax(axis=1) if columns.shape[1] > 1 else bins_of_equal_width(columns[:, 0])
    return labels


def mutual_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """``I(a; b) = Σ_ab p(a, b) log p(a, b) / (p(a) p(b))`` of the counts of two labels, in nats.

    Exactly 0 where the counts are those of independent labels, as where one of them is constant, and
    ``I(a; a) = H(a)``: the ratio is one of whole numbers.

    Args:
        a: labels ``[n]``.
        b: labels ``[n]``.
    """
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    width = int(b.max()) + 1
    counts = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width)
    joint = counts.reshape(-1, width)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    ratio = joint[seen] * len(a) / independent[seen]
    return max(float((joint[seen] / len(a) * np.log(ratio)).sum()), 0.0)


def entropy(labels: NDArray[np.int64]) -> float:
    """``H(a) = Σ_a p(a) log 1 / p(a)`` of the counts of labels ``[n]``, in nats."""
    counts = np.unique(labels, return_counts=True)[1]
    return float((counts / len(labels) * np.log(len(labels) / counts)).sum())


def nearest_neighbour_information(column: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """``I(z; v) = ψ(n) + E[ψ(k_i) - ψ(n_i) - ψ(m_i)]`` of a continuous ``z`` and a label ``v``, in nats, at least 0.

    Ross, Mutual Information between Discrete and Continuous Data Sets, PLoS ONE 2014: ``n_i`` data have the label of
    datum ``i``, ``m_i`` are nearer to it than the ``k_i``-th of those, itself included, with ``k_i`` = 10 or
    ``n_i - 1`` if that is less. A datum that is alone with its label is left out. In one dimension sorting does what
    scikit-learn's `mutual_info_classif` needs a tree for, with the same result up to rounding.

    Values that occur often break the estimate; then count them (`mutual_information`).

    Args:
        column: z ``[n]``.
        labels: v ``[n]``.
    """
    _, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shared = sizes[labels] > 1
    column, labels = column[shared], labels[shared]
    if not column.size:
        return 0.0
    radius, neighbours, alike = np.empty(len(column)), np.empty(len(column)), np.empty(len(column))
    for label in np.unique(labels):
        which = np.flatnonzero(labels == label)
        which = which[np.argsort(column[which], kind="stable")]
        k = min(NEIGHBOURS, len(which) - 1)
        radius[which] = _distance_to_neighbour(column[which], k)
        neighbours[which], alike[which] = k, len(which)
    ordered = np.sort(column)
    # The neighbour itself must not count, whichever way its place is rounded.
    inside = np.maximum(radius - 4 * np.spacing(np.abs(column) + radius), 0.0)
    nearer = np.searchsorted(ordered, column + inside, "right") - np.searchsorted(ordered, column - inside, "left")
    terms = digamma(neighbours) - digamma(alike) - digamma(np.maximum(nearer, 1))
    return max(float(digamma(len(column)) + terms.mean()), 0.0)


def _distance_to_neighbour(ordered: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """How far the k-th nearest other is from each of some increasing numbers ``[n]``."""
    padded = np.concatenate([np.full(k, -np.inf), ordered, np.full(k, np.inf)])
    n = len(ordered)
    # The k nearest and the number itself are k + 1 in a row: j of them below, k - j above.
    reaches = [
        np.maximum(ordered - padded[k - j : k - j + n], padded[2 * k - j : 2 * k - j + n] - ordered)
        for j in range(k + 1)
    ]
    return np.asarray(np.min(reaches, axis=0))
