"""Does the model make data like the data: predictive checks of summary statistics, and leave-one-out PIT."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.poutine import Trace
from scipy.stats import binomtest, ks_2samp
from torch import Tensor
from torch.distributions import Bernoulli

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import observed_sites
from pyro_hfvae.posterior.draws import Program, draw_guide, predict, simulate
from pyro_hfvae.posterior.inference_data import psis_loo_pit
from pyro_hfvae.sites import describe

__all__ = [
    "IMAGE_STATISTICS",
    "PLAIN_STATISTICS",
    "LeaveOneOut",
    "PredictiveCheck",
    "Statistics",
    "leave_one_out",
    "predictive_checks",
]

Statistics = Mapping[str, Callable[[Tensor], Tensor]]
"""Name to a function of the data, [B, ...], that gives a number for each datum, [B]."""

TAIL = 0.025


def _centre(dim: int) -> Callable[[Tensor], Tensor]:
    def centre(x: Tensor) -> Tensor:
        places = torch.arange(x.shape[dim], dtype=x.dtype, device=x.device)
        mass = x.sum([other for other in (1, 2, 3) if other != dim % 4])  # [B, H] or [B, W]
        return (mass * places).sum(1) / mass.sum(1).clamp_min(1e-6)

    return centre


IMAGE_STATISTICS: Statistics = {
    "mean brightness": lambda x: x.flatten(1).mean(1),
    "bright pixels": lambda x: (x > 0.5).flatten(1).sum(1).to(x.dtype),
    "centre of mass, row": _centre(-2),
    "centre of mass, column": _centre(-1),
}
"""Of images [B, C, H, W]: the mean, the number of pixels above .5, and where the centre of mass is, in pixels."""

PLAIN_STATISTICS: Statistics = {
    "mean": lambda x: x.flatten(1).mean(1),
    "standard deviation": lambda x: x.flatten(1).std(1, correction=0),
    "smallest": lambda x: x.flatten(1).amin(1),
    "largest": lambda x: x.flatten(1).amax(1),
}
"""Of anything else."""


@dataclass(frozen=True)
class PredictiveCheck:
    """One summary statistic of the data and of what the model draws."""

    statistic: str
    observed: NDArray[np.float64]
    """Of the data, [B]."""
    prior: NDArray[np.float64]
    """Of data drawn from the model, [S, B]."""
    posterior: NDArray[np.float64]
    """Of data drawn given the posterior of each datum, [S, B]."""

    @property
    def distance(self) -> float:
        """The largest distance of the ECDF of the data from that of as many draws of the model, in 0..1."""
        return float(ks_2samp(self.observed, self.prior[0]).statistic)

    @property
    def prior_p_value(self) -> float:
        """Kolmogorov–Smirnov: the data against as many draws of the model, which are independent of them."""
        return float(ks_2samp(self.observed, self.prior[0]).pvalue)

    @property
    def tail_share(self) -> float:
        """Share of the data whose statistic lies in the outer 5 % of its own posterior predictive distribution."""
        return float(self._in_tails().mean())

    @property
    def posterior_p_value(self) -> float:
        """Binomial test of more than 5 % in the tails; conservative, since the posterior has seen the datum."""
        outside = self._in_tails()
        return float(binomtest(int(outside.sum()), len(outside), 2 * TAIL, alternative="greater").pvalue)

    def _in_tails(self) -> NDArray[np.bool_]:
        draws = len(self.posterior)
        limit = TAIL * (draws + 1)
        low = (self.posterior <= self.observed).sum(0) + 1  # rank of the datum from below, ties in its favour
        high = (self.posterior >= self.observed).sum(0) + 1
        return cast(NDArray[np.bool_], np.minimum(low, high) <= limit)


@torch.no_grad()
def predictive_checks(
    model: Program, guide: Program, *args: Any, draws: int = 100, statistics: Statistics | None = None
) -> list[PredictiveCheck]:
    """Draws data from the model, given the prior and given the posterior of each datum, and takes statistics of them.

    Where the likelihood is Bernoulli and the data are grey, grey counts as the probability of white, as it does in the
    likelihood: statistics are then taken of one draw of black and white data.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: S; 39 or more, so that a datum can lie in the outer 5 %.
        statistics: name to function; by default :data:`IMAGE_STATISTICS` where the observed site has data
            [B, C, H, W], else :data:`PLAIN_STATISTICS`. With several observed sites the name of the site stands before
            that of the statistic.

    Raises:
        ValueError: too few draws, or a statistic that is not one finite number for each datum; names it.
    """
    if draws < 39:
        raise ValueError(f"predictive checks need 39 draws or more, got {draws}: with fewer no tail holds 2.5 %")
    observed = _observed(draw_guide(model, guide, *args).model_trace)
    priors, posteriors = [], []
    for _ in range(draws):
        priors.append(_apply(statistics, simulate(model, *args).observed))
        posteriors.append(_apply(statistics, predict(model, draw_guide(model, guide, *args).guide_trace, *args)))
    return [
        PredictiveCheck(
            name, values, np.stack([part[name] for part in priors]), np.stack([part[name] for part in posteriors])
        )
        for name, values in _apply(statistics, observed).items()
    ]


def _observed(trace: Trace) -> dict[str, Tensor]:
    """Observed site to its data, [B, ...]; grey values of a Bernoulli site drawn as black or white."""
    found = {}
    for name, site in observed_sites(trace).items():
        value = cast(Tensor, site["value"])
        grey = isinstance(unwrap(site["fn"]), Bernoulli) and not bool(((value == 0) | (value == 1)).all())
        found[name] = torch.bernoulli(value.clamp(0, 1)) if grey else value
    return found


def _apply(statistics: Statistics | None, data: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    found = {}
    for site, value in data.items():
        x = value.double()
        chosen = statistics or (IMAGE_STATISTICS if x.dim() == 4 else PLAIN_STATISTICS)
        for name, function in chosen.items():
            taken = function(x)
            if taken.shape != x.shape[:1] or not bool(taken.isfinite().all()):
                raise ValueError(
                    f"the statistic '{name}' of site '{site}' must give one finite number for each of the {len(x)} "
                    f"data, got the shape {tuple(taken.shape)}" + ("" if taken.isfinite().all() else ", not all finite")
                )
            found[name if len(data) == 1 else f"{site}: {name}"] = taken.cpu().double().numpy()
    return found


@dataclass(frozen=True)
class LeaveOneOut:
    """One number of each datum, and what the model predicts of it from the datum's other numbers."""

    site: str
    observed: NDArray[np.float64]
    """[B]."""
    predicted: NDArray[np.float64]
    """[K, B]."""
    log_weights: NDArray[np.float64]
    """Of the predictions, [K, B]."""

    def pit(self) -> NDArray[np.float64]:
        """P(x̃ ≤ x), [B]; uniform for a right model."""
        return psis_loo_pit(self.observed, self.predicted, self.log_weights)


@torch.no_grad()
def leave_one_out(model: Program, guide: Program, *args: Any, draws: int = 1000) -> list[LeaveOneOut]:
    r"""Predicts one number of each datum, chosen at random, from the others of the same datum.

    .. math:: p(x_j | x_{-j}) = \int p(x_j|z) \, p(z|x_{-j}) \, dz, \qquad
        w_k = \frac{p(x, z_k)}{q(z_k|x) \, p(x_j|z_k)}, \quad z_k \sim q(z|x)

    A latent belongs to one datum, so that to leave out a whole datum would leave the prior; what can be left out is
    one of its numbers. The weights correct for the guide too: what the check judges is the model. One number of each
    datum keeps the values independent.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: K, 25 or more for PSIS.

    Returns:
        An entry for each observed site.

    Raises:
        NotImplementedError: an observed site whose numbers are discrete, or do not each have a density of their own
            given z (the PIT does not apply), or that is masked; names it.
    """
    chosen: dict[str, Tensor] = {}
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    observed = {}
    for _ in range(draws):
        drawn = draw_guide(model, guide, *args)
        for name, site in observed_sites(drawn.model_trace).items():
            base = unwrap(site["fn"])
            if base.event_shape or cast(Any, base.support).is_discrete or site["mask"] is not None:
                raise NotImplementedError(
                    f"LOO-PIT does not apply to the observed site '{name}' ({describe(site['fn'])}): it needs numbers "
                    "with a density, independent given the latents, and no mask"
                )
            value = cast(Tensor, site["value"])
            numbers = value.reshape(len(value), -1)  # [B, J]
            if name not in chosen:
                chosen[name] = torch.randint(numbers.shape[1], (len(numbers), 1), device=numbers.device)
                observed[name] = numbers.gather(1, chosen[name])[:, 0]
            place = chosen[name]
            log_prob = base.log_prob(value).expand(value.shape).reshape(numbers.shape).gather(1, place)[:, 0].double()
            predicted = base.expand(value.shape).sample().reshape(numbers.shape).gather(1, place)[:, 0].double()
            kept.setdefault(name, []).append((predicted, drawn.log_weight - log_prob))
    return [
        LeaveOneOut(
            name,
            observed[name].double().cpu().numpy(),
            torch.stack([predicted for predicted, _ in parts]).cpu().numpy(),
            torch.stack([log_weight for _, log_weight in parts]).cpu().numpy(),
        )
        for name, parts in kept.items()
    ]
