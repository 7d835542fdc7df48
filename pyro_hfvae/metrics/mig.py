"""The mutual information gap, between variables for each factor (MIG) and between factors for each variable."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Codes, Factors
from pyro_hfvae.metrics.information import factor_entropies, information_matrix

__all__ = ["MIG", "MIGSup", "mig", "mig_from_information", "mig_sup", "mig_sup_from_information"]


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


@dataclass(frozen=True, eq=False)
class MIGSup:
    """The result of `mig_sup` for ``V`` variables.

    Attributes:
        mig_sup: the mean of ``code_gap`` over the live variables, in ``[0, 1]``; 0 where none is alive.
        code_gap: the gap of each variable, in ``[0, 1]``, ``[V]``; 0 for a dead one.
        live: the variables that are not constant ``[V]``.
    """

    mig_sup: float
    code_gap: NDArray[np.float64]
    live: NDArray[np.bool_]


def mig(codes: Codes, factors: Factors, *, seed: int = 0) -> MIG:
    """``MIG = (1/F) Σ_j (I(z_(1); v_j) - I(z_(2); v_j)) / H(v_j)``, with the two variables most
    informative of ``v_j``.

    Chen et al., Isolating Sources of Disentanglement in VAEs, NeurIPS 2018; on discretised codes as in Locatello
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
    return mig_from_information(information_matrix(codes, factors), factors)


def mig_from_information(information: NDArray[np.float64], factors: Factors) -> MIG:
    """MIG from the matrix ``I(z_i; v_j)`` ``[V, F]`` in nats, however it was estimated."""
    gap = np.clip(_gap(information) / factor_entropies(factors), 0.0, 1.0)
    return MIG(mig=float(gap.mean()), factor_gap=gap, mutual_information=information)


def mig_sup(codes: Codes, factors: Factors, *, seed: int = 0) -> MIGSup:
    """``MIG-sup = (1/V) Σ_i (I(z_i; v_(1)) / H(v_(1)) - I(z_i; v_(2)) / H(v_(2)))``, with the two
    factors that it informs most of.

    Li et al., Progressive Learning and Disentanglement of Hierarchical Representations, ICLR 2020: MIG asks whether one
    variable holds a factor, MIG-sup whether a variable holds one factor. A dead variable is left out of the mean; one
    that varies without information stays in, with a gap close to 0. With a single factor the gap is to 0. Codes are
    discretised as for `mig`.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        seed: not used (nothing is drawn); all metrics share one signature.

    Returns:
        The gap, per variable and mean.
    """
    return mig_sup_from_information(information_matrix(codes, factors), codes, factors)


def mig_sup_from_information(information: NDArray[np.float64], codes: Codes, factors: Factors) -> MIGSup:
    """MIG-sup from the matrix ``I(z_i; v_j)`` ``[V, F]`` in nats, however it was estimated."""
    live = codes.variances() > 0
    gap = np.where(live, np.clip(_gap((information / factor_entropies(factors)).T), 0.0, 1.0), 0.0)
    return MIGSup(mig_sup=float(gap[live].mean()) if live.any() else 0.0, code_gap=gap, live=live)


def _gap(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest less the second of each column; the greatest itself where there is one row."""
    ranked = np.sort(np.vstack([np.zeros(values.shape[1]), values]), axis=0)
    return np.asarray(ranked[-1] - ranked[-2])
