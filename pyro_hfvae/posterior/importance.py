"""How good a guide is, by importance weights: bounds on log p(x), their gap to the ELBO, and PSIS k̂ for each datum."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.infer.traces import latent_sites
from pyro_hfvae.posterior.draws import draw_guide
from pyro_hfvae.posterior.inference_data import SMALLEST_TAIL, pareto_k
from pyro_hfvae.posterior.programs import Program, fix

__all__ = ["GuideQuality", "guide_quality", "importance_bounds"]


def importance_bounds(log_weights: Iterable[Tensor], counts: Sequence[int]) -> Tensor:
    r"""Importance-weighted bounds on log p(x) for each datum, in nats.

    .. math:: L_K = E_{z_{1:K} \sim q} \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k|x)}, \qquad
        \mathrm{ELBO} = L_1 \le L_K \le L_{K+1} \le \log p(x)

    Burda, Grosse, Salakhutdinov, Importance Weighted Autoencoders (ICLR 2016). The T draws are split into groups of K
    in order, and the estimate is the mean over the ⌊T/K⌋ full groups; it is unbiased for L_K. One running logsumexp for
    each K is kept, and no draw.

    Args:
        log_weights: log p(x, z) - log q(z|x), [B], draw by draw.
        counts: the numbers K.

    Returns:
        The bounds, [len(counts), B].

    Raises:
        ValueError: a K below 1, or fewer draws than the largest K.
    """
    if not counts or min(counts) < 1:
        raise ValueError(f"the numbers of draws K must be 1 or more, got {list(counts)}")
    running: list[Tensor | None] = [None] * len(counts)
    totals: list[Tensor | float] = [0.0] * len(counts)
    drawn = 0
    for log_weight in log_weights:
        drawn += 1
        for place, count in enumerate(counts):
            before = running[place]
            now = log_weight.double() if before is None else torch.logaddexp(before, log_weight.double())
            if drawn % count == 0:
                totals[place] = totals[place] + (now - math.log(count))
                running[place] = None
            else:
                running[place] = now
    if drawn < max(counts):
        raise ValueError(f"a bound with K = {max(counts)} needs as many draws, got {drawn}")
    return torch.stack([torch.as_tensor(total) / (drawn // count) for total, count in zip(totals, counts, strict=True)])


@dataclass(frozen=True)
class GuideQuality:
    """What importance weights measure of a guide, for each of B data."""

    draws: int
    """K of the largest bound."""
    elbo: NDArray[np.float64]
    """Mean log-weight, the estimate of the ELBO, [B], in nats."""
    counts: tuple[int, ...]
    """The numbers K of the bounds."""
    bounds: NDArray[np.float64]
    """Importance-weighted bounds on log p(x), [len(counts), B], in nats."""
    pareto_k: NDArray[np.float64]
    """k̂ of each datum, [B]; NaN where there is none: all latents are discrete, or the largest weights tie because some
    are. Whether the guide misses a category that it never draws, no weight can show."""

    @property
    def gap(self) -> NDArray[np.float64]:
        """The largest bound less the ELBO, [B], in nats: a lower estimate of KL(q(z|x) || p(z|x))."""
        return np.asarray(self.bounds[-1] - self.elbo)


def guide_quality(model: Program, guide: Program, *args: Any, draws: int = 1000, **kwargs: Any) -> GuideQuality:
    """Draws importance weights and measures the guide of each datum by them.

    The weights are those of the relaxed program where a site is Concrete; :func:`draw_guide` says how.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: K of the largest bound, 25 or more for PSIS.
        kwargs: keyword arguments of both.

    Raises:
        ValueError: weights that are not finite.
        NotImplementedError: the guide has a point estimate (Delta) of a site; names it.
    """
    if draws < SMALLEST_TAIL:
        raise ValueError(f"PSIS needs {SMALLEST_TAIL} draws or more, got {draws}")
    model, guide = fix(model, guide, *args, **kwargs)
    parts, discrete = [], False
    for _ in range(draws):
        drawn = draw_guide(model, guide, *args, **kwargs)
        parts.append(drawn.log_weight)
        discrete = all(site["fn"].support.is_discrete for site in latent_sites(drawn.guide_trace).values())
    log_weights = torch.stack(parts)  # [K, B]
    counts = tuple(dict.fromkeys([*(count for count in (1, 10, 100, 1000) if count < draws), draws]))
    weights = log_weights.cpu().numpy()
    if not np.isfinite(weights).all():
        count = int((~np.isfinite(weights)).any(0).sum())
        raise ValueError(
            f"importance weights of {count} of the {weights.shape[1]} data are not finite: the guide draws latents "
            "where a density of the model or of the guide is zero or not a number"
        )
    shape = pareto_k(weights)
    return GuideQuality(
        draws=draws,
        elbo=weights.mean(0),
        counts=counts,
        bounds=importance_bounds(log_weights, counts).cpu().numpy(),
        pareto_k=np.full_like(shape, np.nan) if discrete else shape,
    )
