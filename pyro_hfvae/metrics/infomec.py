"""InfoMEC: modularity, compactness and explicitness by information."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.information import entropy, factor_entropies, mutual_information, nearest_neighbour_information
from pyro_hfvae.metrics.regressors import quiet_libraries, read_factors, split, standardised

__all__ = ["InfoMEC", "concentration", "infomec"]

RANGE = 1 / 20


@dataclass(frozen=True, eq=False)
class InfoMEC:
    """The result of `infomec` for ``V`` variables and ``F`` factors.

    Attributes:
        modularity: InfoM in ``[0, 1]``: does each active variable encode one factor only?
        compactness: InfoC in ``[0, 1]``: is each factor encoded by one active variable only?
        explicitness: InfoE in ``[0, 1]``: the mean of ``factor_explicitness``.
        code_modularity: the share of each variable, rescaled so that 0 is equal parts ``[V]``; 0 for inactive ones.
        factor_compactness: the same for each factor ``[F]``.
        factor_explicitness: what share of each factor a line reads off all variables ``[F]``.
        normalised_information: ``I(z_i; v_j) / H(v_j)`` ``[V, F]``.
        active: the variables that are not left out ``[V]``.
    """

    modularity: float
    compactness: float
    explicitness: float
    code_modularity: NDArray[np.float64]
    factor_compactness: NDArray[np.float64]
    factor_explicitness: NDArray[np.float64]
    normalised_information: NDArray[np.float64]
    active: NDArray[np.bool_]


@quiet_libraries()
def infomec(codes: Codes, factors: Factors, *, seed: int = 0) -> InfoMEC:
    """InfoM, InfoC, InfoE (Hsu, Dorrell, Whittington, Wu, Finn, Disentanglement via Latent Quantization, NeurIPS 2023).

    With ``N_ij = I(z_i; v_j) / H(v_j)`` of active variables:

    - InfoM: the mean over ``i`` of ``max_j N_ij / Σ_j N_ij``, rescaled from ``[1/F, 1]`` to ``[0, 1]``;
    - InfoC: the mean over ``j`` of ``max_i N_ij / Σ_i N_ij``, rescaled from ``[1/V, 1]`` to ``[0, 1]``;
    - InfoE: the mean over ``j`` of ``(H(v_j) - H(v_j|z)) / H(v_j)``, with the loss of a linear predictor for ``H``.

    ``I`` is the 10-nearest-neighbour estimate for variables with one column, and by counting for discrete ones. As in
    the authors' program, a variable is active if its range is more than 1/20 of the greatest; a discrete one if its
    category ever changes. For InfoE a categorical factor is predicted by logistic regression (log-loss), any other by
    least squares, where the share is R²: the authors predict the values of ordinal factors as classes. Unlike in the
    authors' program, the predictor is scored on rows that it has not seen, and a negative share counts as 0.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split, and of the noise of 1e-10 that breaks ties between neighbours.
    """
    check_matched(codes, factors)
    active = _active(codes)
    information = np.zeros((len(codes.variables), len(factors.names)))
    # As in scikit-learn: where values occur often, noise makes the distances between them positive.
    first = codes.columns[:, [codes.columns_of(variable)[0] for variable in range(len(active))]]
    noisy = first + 1e-10 * first.std(axis=0) * np.random.default_rng(seed).normal(size=first.shape)  # [n, V]
    for factor in range(len(factors.names)):
        classes = factors.classes(factor)
        for variable in np.flatnonzero(active).tolist():
            columns = codes.columns[:, list(codes.columns_of(variable))]
            if columns.shape[1] > 1:
                information[variable, factor] = mutual_information(columns.argmax(axis=1), classes)
            else:
                information[variable, factor] = nearest_neighbour_information(noisy[:, variable], classes)
    normalised = information / factor_entropies(factors)
    code_modularity = np.zeros(len(active))
    code_modularity[active] = concentration(normalised[active])
    factor_compactness = concentration(normalised[active].T) if active.any() else np.zeros(len(factors.names))
    factor_explicitness = _explicitness(codes, factors, seed=seed)
    return InfoMEC(
        modularity=float(code_modularity[active].mean()) if active.any() else 0.0,
        compactness=float(factor_compactness.mean()),
        explicitness=float(factor_explicitness.mean()),
        code_modularity=code_modularity,
        factor_compactness=factor_compactness,
        factor_explicitness=factor_explicitness,
        normalised_information=normalised,
        active=active,
    )


def concentration(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(max_j N_ij / Σ_j N_ij - 1/K) / (1 - 1/K)`` of rows of length ``K`` ``[rows]``.

    0 for a row of zeros, which is equal parts of nothing; 1 for any other row of length 1.

    Args:
        rows: N, non-negative ``[rows, K]``.
    """
    sums, equal = rows.sum(axis=1), 1.0 / rows.shape[1]
    share = np.divide(rows.max(axis=1), sums, out=np.full(len(rows), equal), where=sums > 0)
    return np.where(sums > 0, 1.0, 0.0) if equal == 1.0 else np.clip((share - equal) / (1.0 - equal), 0.0, 1.0)


def _active(codes: Codes) -> NDArray[np.bool_]:
    ranges = np.ptp(codes.columns, axis=0)
    single = [len(codes.columns_of(variable)) == 1 for variable in range(len(codes.variables))]
    greatest = max((ranges[codes.columns_of(v)[0]] for v in range(len(single)) if single[v]), default=0.0)
    active = np.zeros(len(single), dtype=np.bool_)
    for variable, alone in enumerate(single):
        columns = list(codes.columns_of(variable))
        categories = codes.columns[:, columns].argmax(axis=1)
        active[variable] = ranges[columns[0]] > RANGE * greatest if alone else np.ptp(categories) > 0
    return active


def _explicitness(codes: Codes, factors: Factors, *, seed: int) -> NDArray[np.float64]:
    """The share of each factor that a linear predictor reads, on the test split ``[F]``."""
    train, test = split(len(codes.columns), seed=seed)
    known, new = standardised(codes.columns[train], codes.columns[test])
    alive = np.ptp(known, axis=0).any()
    shares = np.zeros(len(factors.names))
    linear = read_factors(codes, factors, reader="linear", seed=seed)
    for factor, kind in enumerate(factors.kinds):
        if kind != "categorical":
            shares[factor] = max(linear[factor].score, 0.0)
            continue
        classes = factors.classes(factor)
        seen = np.unique(classes[train])
        test_seen = np.isin(classes[test], seen)  # a class that was never seen has no probability
        if not alive or len(seen) < 2 or entropy(classes[test][test_seen]) == 0.0:
            continue
        truth = classes[test][test_seen]
        prior = np.bincount(classes[train])[seen] / len(train)
        without = log_loss(truth, np.tile(prior, (len(truth), 1)), labels=seen)
        regression = LogisticRegression(C=1e4, max_iter=1000).fit(known, classes[train])  # all but unpenalised
        with_codes = log_loss(truth, regression.predict_proba(new[test_seen]), labels=seen)
        shares[factor] = max((without - with_codes) / without, 0.0)
    return shares
