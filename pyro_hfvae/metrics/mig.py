"""The mutual information gap (MIG)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = ["MIG", "discretise", "entropy", "mig", "mutual_information"]

BINS = 20


@dataclass(frozen=True, eq=False)
class MIG:
    """The result of `mig` for ``V`` variables and ``F`` factors.

    Attributes:
        mig: the mean of ``factor_gap``, in ``[0, 1]``.
        factor_gap: the gap of each factor, in ``[0, 1]``, ``[F]``.
        mutual_information: of each discretised variable and factor, in nats ``[V, F]``.
    """

    mig: float
    factor_gap: NDArray[np.float64]
    mutual_information: NDArray[np.float64]


def mig(codes: Codes, factors: Factors, *, seed: int = 0) -> MIG:
    """``MIG = (1/F) Σ_j (I(z_(1); v_j) - I(z_(2); v_j)) / H(v_j)``, with the two variables that tell most of ``v_j``.

    Chen et al., Isolating Sources of Disentanglement in VAEs, NeurIPS 2018, eq. 6; on discretised codes as in Locatello
    et al., Challenging Common Assumptions, ICML 2019: 20 bins of equal width for a variable with one column; the most
    probable category for a discrete one. With a single variable the gap is to 0.

    The mutual information is that of the table of counts, which on few data is too high by about
    ``(bins - 1) (values - 1) / 2n`` nats.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: not used (nothing is drawn); all metrics share one signature.

    Returns:
        The gap, per factor and mean, and the matrix of mutual information.
    """
    check_matched(codes, factors)
    labels = discretise(codes)
    classes = [factors.classes(factor) for factor in range(len(factors.names))]
    information = np.array([[mutual_information(z, v) for v in classes] for z in labels.T])  # [V, F]
    ranked = np.sort(np.vstack([np.zeros(len(classes)), information]), axis=0)  # the row of zeros is there for V = 1
    gap = (ranked[-1] - ranked[-2]) / np.array([entropy(v) for v in classes])
    gap = np.clip(gap, 0.0, 1.0)
    return MIG(mig=float(gap.mean()), factor_gap=gap, mutual_information=information)


def discretise(codes: Codes) -> NDArray[np.int64]:
    """Each variable as an integer ``[n, V]``: its bin of `BINS` between least and greatest, or its arg-max category."""
    labels = np.empty((len(codes.columns), len(codes.variables)), dtype=np.int64)
    for variable in range(len(codes.variables)):
        columns = codes.columns[:, list(codes.columns_of(variable))]
        labels[:, variable] = columns.argmax(axis=1) if columns.shape[1] > 1 else _bins(columns[:, 0])
    return labels


def mutual_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """``I(a; b) = Σ_ab p(a, b) log p(a, b) / (p(a) p(b))`` of the counts of two labels, in nats.

    Args:
        a: labels ``[n]``.
        b: labels ``[n]``.
    """
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    width = int(b.max()) + 1
    counts = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width)
    joint = counts.reshape(-1, width) / len(a)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    seen = joint > 0
    return max(float((joint[seen] * np.log(joint[seen] / independent[seen])).sum()), 0.0)


def entropy(labels: NDArray[np.int64]) -> float:
    """``H(a) = -Σ_a p(a) log p(a)`` of the counts of labels ``[n]``, in nats."""
    p = np.unique(labels, return_counts=True)[1] / len(labels)
    return max(float(-(p * np.log(p)).sum()), 0.0)


def _bins(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the bin of equal width, ``0, ..., BINS - 1`` ``[n]``; 0 everywhere for a constant column."""
    low, high = column.min(), column.max()
    if low == high:
        return np.zeros(len(column), dtype=np.int64)
    bins: NDArray[np.int64] = ((column - low) / (high - low) * BINS).astype(np.int64)
    bins[column == high] = BINS - 1  # the last bin is closed
    return bins
