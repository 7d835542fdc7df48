"""What scores are at chance: metrics of codes whose rows are permuted against the factors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import t

from pyro_hfvae.metrics.codes import Codes, Factors, check_matched

__all__ = ["Chance", "permutation_chance"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Chance:
    """A score of codes without information about the factors.

    Attributes:
        mean: over the permutations.
        low: the lower end of the 95 % interval for the score of one more permutation.
        high: its upper end; a score above it is better than chance.
        permutations: their number.
    """

    mean: float
    low: float
    high: float
    permutations: int


def permutation_chance(
    metric: Callable[[Codes, Factors], Mapping[str, float]],
    codes: Codes,
    factors: Factors,
    *,
    permutations: int = 10,
    seed: int = 0,
) -> dict[str, Chance]:
    """``mean ± t_{.975, P-1} s √(1 + 1/P)`` of each score over ``P`` random orders of the rows of the codes.

    A permutation keeps the codes and the factors each as they are, and takes from them what they know of each other.
    The interval is that in which the score of one more permutation falls in 95 % of cases, if scores are normal; a
    score that cannot be negative may have a negative end. Permutations run in parallel.

    Args:
        metric: codes and factors to named scores, say ``lambda codes, factors: {"mig": mig(codes, factors).mig}``.
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        permutations: P, at least 2.
        seed: of the permutations.
    """
    check_matched(codes, factors)
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, for an interval; got {permutations}")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(codes.columns)) for _ in range(permutations)]
    found = Parallel(n_jobs=-1, prefer="threads")(delayed(metric)(codes.rows(order), factors) for order in orders)
    factor = t.ppf(0.5 + CONFIDENCE / 2, permutations - 1) * np.sqrt(1 + 1 / permutations)
    chances = {}
    for name in found[0]:
        scores = np.array([scores[name] for scores in found])
        reach = factor * scores.std(ddof=1)
        chances[name] = Chance(
            float(scores.mean()), float(scores.mean() - reach), float(scores.mean() + reach), permutations
        )
    return chances
