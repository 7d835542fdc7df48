"""Explicitness and size, the E and S of DCI-ES."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched
from pyro_hfvae.metrics.regressors import score, split

__all__ = ["DCIES", "dci_es", "loss_capacity_explicitness"]

DEPTHS = (1, 2, 3, 4, 6, 8, 12)
MIN_ROWS_PER_LEAF = 5


@dataclass(frozen=True, eq=False)
class DCIES:
    """The result of `dci_es` for ``F`` factors and ``T`` capacities.

    Attributes:
        explicitness: E, the mean of ``factor_explicitness``.
        size: S = F / V.
        factor_explicitness: in ``[-1, 1]``, ``[F]``; 0 for a factor that is not read at any capacity.
        capacity: the depth of the trees, 0 first ``[T]``.
        loss: 1 - accuracy (categorical) or 1 - R² on the test split; at capacity 0 that of a guess ``[F, T]``.
    """

    explicitness: float
    size: float
    factor_explicitness: NDArray[np.float64]
    capacity: NDArray[np.float64]
    loss: NDArray[np.float64]


def dci_es(codes: Codes, factors: Factors, *, seed: int = 0) -> DCIES:
    """How much capacity a reader needs, ``E = 1 - AULCC / Z``, and how small the code is, ``S = F / V``.

    After Eastwood et al., DCI-ES: An Extended Disentanglement Framework with Connections to Identifiability, ICLR 2023:
    AULCC is the area between a factor's loss-capacity curve and its least loss, up to the capacity that reaches it. The
    probes here are decision trees, of which the paper has forests; their capacity is the depth, the logarithm of the
    number of leaves, from 0 (a guess) to 12. So E measures how few questions of the form ``z_i < t`` the factor takes.
    `loss_capacity_explicitness` has the formula. Values for other probes are on another scale.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: of the split.
    """
    check_matched(codes, factors)
    train, test = split(len(codes.columns), seed=seed)
    capacity = np.array((0, *DEPTHS), dtype=np.float64)
    loss = np.empty((len(factors.names), len(capacity)))
    moving = codes.columns[:, np.ptp(codes.columns[train], axis=0) > 0]  # others must not shift the random draws
    for factor, kind in enumerate(factors.kinds):
        target = factors.target(factor)
        for at, depth in enumerate((0, *DEPTHS)):
            # A tree cannot have depth 0; on a constant column it has one leaf, which is the guess.
            inputs = moving if depth and moving.size else np.zeros((len(target), 1))
            make = DecisionTreeClassifier if kind == "categorical" else DecisionTreeRegressor
            tree = make(max_depth=max(depth, 1), min_samples_leaf=MIN_ROWS_PER_LEAF, random_state=seed)
            prediction = tree.fit(inputs[train], target[train]).predict(inputs[test])
            loss[factor, at] = 1.0 - score(kind, target[test], prediction)
    by_factor = np.array([loss_capacity_explicitness(capacity, curve) for curve in loss])
    return DCIES(float(by_factor.mean()), len(factors.names) / len(codes.variables), by_factor, capacity, loss)


def loss_capacity_explicitness(capacity: NDArray[np.float64], loss: NDArray[np.float64]) -> float:
    """``E = 1 - Σ_{t=1}^{t*} (½ (l_{t-1} + l_t) - l*) (κ_t - κ_{t-1}) / Z`` with ``Z = ½ (κ_T - κ_0) (l_0 - l*)``.

    ``l*`` is the least loss and ``t*`` where it is reached first. 1: at the least capacity; 0: on a straight line down
    to the greatest; below 0: later still. 0 also where no capacity does better than the guess.

    Args:
        capacity: κ, increasing ``[T]``.
        loss: l at each capacity, that of a guess first ``[T]``.
    """
    least, reached = loss.min(), int(loss.argmin())
    gain = loss[0] - least
    if gain <= 0:
        return 0.0
    heights = 0.5 * (loss[:-1] + loss[1:]) - least
    area = float(heights[:reached] @ np.diff(capacity)[:reached])
    return float(np.clip(1.0 - area / (0.5 * (capacity[-1] - capacity[0]) * gain), -1.0, 1.0))
