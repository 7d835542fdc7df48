"""Modularity of variables and explicitness of factors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.information import information_matrix
from pyro_hfvae.metrics.regressors import quiet_libraries, split, standardised

__all__ = ["Explicitness", "Modularity", "explicitness", "modularity", "modularity_from_information"]


@dataclass(frozen=True, eq=False)
class Modularity:
    """The result of `modularity` for ``V`` variables.

    Attributes:
        modularity: the mean of ``code_modularity`` over the variables with information about a factor, else 0.
        code_modularity: of each variable, in ``[0, 1]``, ``[V]``; 0 for one without information.
        live: the variables with information about any factor ``[V]``.
    """

    modularity: float
    code_modularity: NDArray[np.float64]
    live: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Explicitness:
    """The result of `explicitness` for ``F`` factors.

    Attributes:
        explicitness: the mean over all values of all factors, in ``[0, 1]``; chance is .5.
        factor_explicitness: the mean over the values of each factor ``[F]``.
    """

    explicitness: float
    factor_explicitness: NDArray[np.float64]


def modularity(codes: Codes, factors: Factors, *, seed: int = 0) -> Modularity:
    """``1 - Σ_{j ≠ j*} I(z_i; v_j)² / (I(z_i; v_j*)² (F - 1))`` with the best factor ``j*``, mean over ``i``.

    Ridgeway & Mozer, Learning Deep Disentangled Embeddings with the F-Statistic Loss, NeurIPS 2018. The formula is 0/0
    for a dead variable, which is left out of the mean. A variable of pure noise is not: the bias of counting gives it
    information on every factor, in proportion to the factors' sizes. With a single factor a live variable gets 1.

    Args:
        codes: the codes of ``n`` data, discretised as for `pyro_hfvae.metrics.mig`.
        factors: the factors of the same data.
        seed: not used (nothing is drawn); all metrics share one signature.
    """
    return modularity_from_information(information_matrix(codes, factors))


def modularity_from_information(information: NDArray[np.float64]) -> Modularity:
    """Modularity from the matrix ``I(z_i; v_j)`` ``[V, F]``, in any unit."""
    most = information.max(axis=1)
    live = most > 1e-12  # 0 in a dead variable, up to the rounding of other estimates
    relative = information[live] / most[live, None]
    deviation = ((relative**2).sum(axis=1) - 1.0) / max(information.shape[1] - 1, 1)
    code_modularity = np.zeros(len(information))
    code_modularity[live] = np.clip(1.0 - deviation, 0.0, 1.0)
    return Modularity(float(code_modularity[live].mean()) if live.any() else 0.0, code_modularity, live)


@quiet_libraries()
def explicitness(codes: Codes, factors: Factors, *, seed: int = 0) -> Explicitness:
    """The mean area under the ROC curve of one logistic regression for each value of each factor against the others.

    Ridgeway & Mozer 2018 (see `modularity`); fitted on the train split, scored on the test split, on columns that are
    standardised with the train split. The area is not rescaled: .5 is chance. A value that is not in both splits, with
    others beside it, is left out. The regressions are linear, so that a factor which lies along one variable has
    middle values that no line sets apart, however well it is coded; this is the paper's definition, and for ordinal
    and circular factors it asks for a code of each value. A continuous factor has a value for each of its 20 bins.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split.
    """
    check_matched(codes, factors)
    train, test = split(len(codes.columns), seed=seed)
    known, new = standardised(codes.columns[train], codes.columns[test])
    areas, by_factor = [], np.full(len(factors.names), 0.5)
    for factor in range(len(factors.names)):
        classes = factors.classes(factor)
        own = []
        for value in np.unique(classes):
            is_value = classes == value
            if min(np.ptp(is_value[train].astype(int)), np.ptp(is_value[test].astype(int))) == 0:
                continue
            regression = LogisticRegression().fit(known, is_value[train])
            own.append(roc_auc_score(is_value[test], regression.decision_function(new)))
        areas += own
        if own:
            by_factor[factor] = np.mean(own)
    return Explicitness(float(np.mean(areas)) if areas else 0.5, by_factor)
