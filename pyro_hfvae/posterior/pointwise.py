"""Pointwise log-likelihoods for ``az.loo``, ``az.compare`` and ``az.plot_loo_pit``, from importance weights."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import observed_sites

__all__ = ["MARGINAL", "marginal", "number_log_probs", "without_number"]

MARGINAL = "marginal"
"""Name of the array of log p(x_n)."""

LOWEST = -100.0
"""Smaller log-weights, relative to the mean weight, change nothing but can overflow once ArviZ inverts them."""

UNEVEN = 1e-5
"""Nats by which the draws are set apart: ArviZ 1.x refuses weights that are all equal, as an exact guide's are."""


def marginal(log_weights: Tensor) -> Tensor:
    r"""log p(x_n), spread over the draws so that ArviZ's leave-one-out estimate is it.

    .. math:: \ell_{sn} = 2 \log \hat p(x_n) - \log w_{sn}, \qquad
        \hat p(x_n) = \frac1S \sum_s w_{sn}, \qquad w_{sn} = \frac{p(x_n, z_s)}{q(z_s|x_n)}

    A latent belongs to one datum, and the parameters are fixed: what is left for a datum that is left out is the
    marginal likelihood with its latents integrated out (Merkle, Furr, Rabe-Hesketh, Bayesian Comparison of Latent
    Variable Models: Conditional versus Marginal Likelihoods, Psychometrika 2019). log p(x_n|z_s) in its place makes
    ArviZ estimate log p(x_n) by the harmonic mean, which is off by hundreds of nats. ArviZ weighs draws by
    :math:`1/e^{\ell}`, so that its estimate is :math:`-\log \frac1S \sum_s e^{-\ell_{sn}} = \log \hat p(x_n)`, and its
    Pareto k̂ that of the importance weights.

    Args:
        log_weights: log w, [S, B].

    Returns:
        [S, B], in nats.

    Raises:
        ValueError: weights of a datum are not a number, or all zero.
    """
    log_mean, relative = _relative(log_weights)
    return log_mean - relative


def without_number(log_weights: Tensor, log_probs: Mapping[str, Tensor], alone: bool) -> dict[str, Tensor]:
    r"""Log-likelihoods that leave out one number of a datum, for the LOO-PIT of each number.

    .. math:: \ell_{snj} = \log \hat p(x_n) - \log \frac{w_{sn}}{p(x_{nj}|z_s)}

    Draws weighted by :math:`1/e^{\ell}` are draws of p(z|x_{-j}), with the error of the guide corrected, and ArviZ's
    estimate is log p(x_j|x_{-j}). Where a datum is one number, that is log p(x_n), and the draws become draws of p(z).

    Args:
        log_weights: log w, [S, B].
        log_probs: observed site to log p(x_nj|z_s), [S, B, ...].
        alone: whether a datum is one number.

    Returns:
        Site to [S, B, ...], in nats.
    """
    log_mean, _ = _relative(log_weights)
    found = {}
    for name, values in log_probs.items():
        inner = (1,) * (values.dim() - 2)
        weights = log_weights.reshape(*log_weights.shape, *inner)
        # A draw of weight zero stays without weight, whichever number it was that made it impossible.
        mean, relative = _relative(torch.where(weights == -math.inf, -math.inf, weights - values.double()))
        evidence = log_mean.reshape(-1, *inner)
        found[name] = (evidence if alone else evidence - mean) - relative  # with all left out, the mean ratio is 1
    return found


def number_log_probs(trace: Trace) -> dict[str, Tensor]:
    """Observed site to log p(x_nj|z) of each of its numbers, [B, ...], of a trace of the model.

    Sites that are masked, or whose numbers have a density only together (a multivariate normal, say), are not there.
    """
    found = {}
    for name, site in observed_sites(trace).items():
        base = unwrap(site["fn"])
        if not base.event_shape and site["mask"] is None:
            value = cast(Tensor, site["value"])
            found[name] = cast(Any, base).log_prob(value).expand(value.shape)
    return found


def _relative(log_ratios: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean ratio, [B, ...], and the ratios relative to it, no two draws alike; from [S, B, ...]."""
    count = len(log_ratios)
    mean = log_ratios.logsumexp(0) - math.log(count)
    if not bool(mean.isfinite().all()):
        wrong = int((~mean.isfinite()).flatten(1).any(1).sum() if mean.dim() > 1 else (~mean.isfinite()).sum())
        raise ValueError(
            f"importance weights of {wrong} of the {log_ratios.shape[1]} data are not finite: the guide draws latents "
            "where a density of the model or of the guide is zero or not a number"
        )
    apart = torch.linspace(-UNEVEN, UNEVEN, count, dtype=log_ratios.dtype, device=log_ratios.device)
    return mean, (log_ratios - mean).clamp_min(LOWEST) + apart.reshape(-1, *(1,) * mean.dim())
