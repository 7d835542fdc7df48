"""The separated attribute predictability (SAP)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.regressors import r2, split

__all__ = ["SAP", "sap"]


@dataclass(frozen=True, eq=False)
class SAP:
    """The result of `sap` for ``V`` variables and ``F`` factors.

    Attributes:
        sap: the mean of ``factor_gap``, in ``[0, 1]``.
        factor_gap: the gap of each factor, in ``[0, 1]``, ``[F]``.
        score: how well each variable alone predicts each factor, in ``[0, 1]``, ``[V, F]``; 0 for a dead variable.
    """

    sap: float
    factor_gap: NDArray[np.float64]
    score: NDArray[np.float64]


def sap(codes: Codes, factors: Factors, *, seed: int = 0) -> SAP:
    """``SAP = (1/F) Σ_j (S_(1)j - S_(2)j)``, with the two variables that alone predict factor ``j`` best.

    Kumar, Sattigeri, Balakrishnan, Variational Inference of Disentangled Latent Concepts from Unlabeled Observations,
    ICLR 2018, § 3. ``S_ij`` is, on a test split,

    - for an ordinal or continuous factor, R² of a line fitted to the variable (there: the squared correlation, which on
      the rows of the fit is the same); for a circular one, R² of the cosine and sine together;
    - for a categorical factor, the balanced accuracy of thresholds on the variable: a tree with as many leaves as
      classes, each class weighted alike.

    A negative R² counts as 0, and so does a dead variable, as in the paper. A discrete variable predicts with all its
    columns.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split.

    Returns:
        The gap, per factor and mean, and the matrix of scores.
    """
    check_matched(codes, factors)
    train, test = split(len(codes.columns), seed=seed)
    score = np.zeros((len(codes.variables), len(factors.names)))
    for factor, kind in enumerate(factors.kinds):
        target = factors.target(factor)
        for variable in range(len(codes.variables)):
            columns = codes.columns[:, list(codes.columns_of(variable))]
            if (np.ptp(columns[train], axis=0) == 0).all():
                continue
            by = _by_thresholds if kind == "categorical" else _by_line
            score[variable, factor] = by(columns[train], target[train], columns[test], target[test])
    ranked = np.sort(np.vstack([np.zeros(score.shape[1]), score]), axis=0)  # the row of zeros is there for V = 1
    gap = ranked[-1] - ranked[-2]
    return SAP(sap=float(gap.mean()), factor_gap=gap, score=score)


def _by_line(
    inputs: NDArray[np.float64], target: NDArray[np.float64], new: NDArray[np.float64], truth: NDArray[np.float64]
) -> float:
    """R² of least squares on rows that it has not seen."""
    centre, middle = inputs.mean(axis=0), target.mean(axis=0)
    slope = np.linalg.lstsq(inputs - centre, target - middle, rcond=None)[0]
    return max(r2(truth, middle + (new - centre) @ slope), 0.0)


def _by_thresholds(
    inputs: NDArray[np.float64], target: NDArray[np.int64], new: NDArray[np.float64], truth: NDArray[np.int64]
) -> float:
    leaves = max(len(np.unique(target)), 2)
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0).fit(inputs, target)
    prediction = tree.predict(new)
    return float(np.mean([(prediction[truth == k] == k).mean() for k in np.unique(truth)]))
