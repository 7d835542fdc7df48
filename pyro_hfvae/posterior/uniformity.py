"""Are numbers uniform: simultaneous bands of the ECDF and the test that belongs to them, by simulation."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

__all__ = ["ecdf_band", "uniformity_p_value"]

TRIALS = 20_000
LARGEST_GRID = 100


def uniformity_p_value(values: NDArray[np.float64]) -> float:
    r"""P-value of the hypothesis that independent numbers are uniform on [0, 1].

    The statistic is the smallest pointwise tail probability of the ECDF's counts,

    .. math:: \gamma = \min_i 2 \min\{P(\mathrm{Bin}(N, t_i) \le N F(t_i)), P(\mathrm{Bin}(N, t_i) \ge N F(t_i))\}

    on a grid of G points t_i, and its distribution under the hypothesis comes from 20,000 simulated samples. Where none
    of them has a statistic as small, the p-value is at most Gγ, the bound of Bonferroni, so that hundreds of quantities
    can be tested together. Säilynoja, Bürkner, Vehtari, Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison (Statistics and Computing, 2022).

    Args:
        values: [N], in [0, 1].
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"uniformity is tested of numbers in [0, 1] in one dimension, got shape {values.shape}")
    grid, tails, null = _null(len(values))
    counts = (values[:, None] <= grid).sum(0)
    gamma = tails[np.arange(len(grid)), counts].min()
    # Ties of the discrete statistic differ by rounding at most.
    as_small = int((null <= gamma * (1 + 1e-9)).sum())
    simulated = (1 + as_small) / (1 + TRIALS)
    return simulated if as_small else min(simulated, max(float(len(grid) * gamma), np.finfo(np.float64).tiny))


def ecdf_band(
    count: int, probability: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The band that holds the whole ECDF of N uniform numbers with the given probability.

    Args:
        count: N.
        probability: of the whole ECDF being inside.

    Returns:
        Grid points, lower and upper limit of the ECDF at each.
    """
    grid, tails, null = _null(count)
    allowed = int((1 - probability) * (1 + TRIALS) + 1e-9) - 1  # simulated statistics as small as one that is rejected
    # Where too few were simulated, the bound of Bonferroni, as for p-values.
    least = np.sort(null)[allowed] if allowed >= 0 else np.nextafter((1 - probability) / len(grid), 1)
    inside = tails * (1 + 1e-9) >= least  # [points, N + 1]
    lower = inside.argmax(1)
    upper = count - inside[:, ::-1].argmax(1)
    return grid, lower / count, upper / count


@cache
def _null(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Grid, two-sided tail probability of each count at each point, [points, N + 1], and simulated statistics."""
    cells = max(2, min(count, LARGEST_GRID))
    grid = np.arange(1, cells) / cells
    numbers = np.arange(count + 1)
    below = binom.cdf(numbers, count, grid[:, None])
    above = binom.sf(numbers - 1, count, grid[:, None])
    tails = np.minimum(1.0, 2 * np.minimum(below, above))
    uniform = np.full(cells, 1 / cells)
    counts = np.random.default_rng(0).multinomial(count, uniform, TRIALS)[:, :-1].cumsum(1)
    return grid, tails, tails[np.arange(len(grid)), counts].min(1)
