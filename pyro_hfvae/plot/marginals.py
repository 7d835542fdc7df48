"""The aggregate posterior and the prior of one latent variable: densities on a line, or masses of categories.

Shapes: `G` points on a line, `K` categories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Marginal"]


@dataclass(frozen=True, eq=False)
class Marginal:
    """q(z_e) and p(z_e) of one variable on the same points.

    Attributes:
        points: `[G]`, increasing; or the numbers of the `K` categories, `[K]`.
        posterior: density of the aggregate posterior at the points, or mass of the categories.
        prior: the same of the prior.
        discrete: whether the points are categories.
    """

    points: NDArray[np.float64]
    posterior: NDArray[np.float64]
    prior: NDArray[np.float64]
    discrete: bool

    def __post_init__(self) -> None:
        shapes = {np.shape(part) for part in (self.points, self.posterior, self.prior)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or len(self.points) < 2:
            raise ValueError(f"points, posterior and prior must be [G] of 2 or more, got {sorted(shapes)}")

    def divergence(self) -> float:
        r"""How far the aggregate is from the prior, in nats: a variable's share of the dimension-wise KL.

        .. math:: KL(q(z_e) \| p(z_e)) = \int q \log (q / p)

        by trapezoids between the points, or summed over the categories.
        """
        q, p = np.asarray(self.posterior, float), np.asarray(self.prior, float)
        tiny = np.finfo(float).tiny
        cost = np.where(q > 0, q * (np.log(np.maximum(q, tiny)) - np.log(np.maximum(p, tiny))), 0.0)
        return float(cost.sum() if self.discrete else np.trapezoid(cost, self.points))
