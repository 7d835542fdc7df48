"""Does the model make data like the data: predictive checks of summary statistics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.poutine import Trace
from scipy.stats import binomtest, ks_2samp
from torch import Tensor
from torch.distributions import constraints

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import observed_sites, where_known
from pyro_hfvae.posterior.draws import draw_guide, predict, simulate
from pyro_hfvae.posterior.programs import Program, fix

__all__ = [
    "IMAGE_STATISTICS",
    "PLAIN_STATISTICS",
    "SCALAR_STATISTICS",
    "PredictiveCheck",
    "Statistics",
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
    "mean": lambda x: x.flatten(1).nanmean(1),
    "standard deviation": lambda x: (x.flatten(1) - x.flatten(1).nanmean(1, keepdim=True)).square().nanmean(1).sqrt(),
    "smallest": lambda x: x.flatten(1).nan_to_num(nan=torch.inf).amin(1),
    "largest": lambda x: x.flatten(1).nan_to_num(nan=-torch.inf).amax(1),
}
"""Of anything else, of what is not missing."""

SCALAR_STATISTICS: Statistics = {"value": lambda x: x.reshape(len(x))}
"""Of data of one number each."""


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
        """The largest distance of the ECDF of the data from that of all draws of the model, in 0..1."""
        return float(self._kolmogorov_smirnov().statistic)

    @property
    def prior_p_value(self) -> float:
        """Kolmogorov–Smirnov: the data against all draws of the model, which are independent of them."""
        return float(self._kolmogorov_smirnov().pvalue)

    @property
    def tail_share(self) -> float:
        """Share of the data whose statistic lies in the outer 5 % of its own posterior predictive distribution."""
        return float(self._in_tails().mean())

    @property
    def posterior_p_value(self) -> float:
        """Binomial test of more than 5 % in the tails; conservative, since the posterior has seen the datum."""
        outside = self._in_tails()
        return float(binomtest(int(outside.sum()), len(outside), 2 * TAIL, alternative="greater").pvalue)

    def _kolmogorov_smirnov(self) -> Any:
        # Not "auto", which is exact for small samples and warns where it cannot be.
        return ks_2samp(self.observed, self.prior.ravel(), method="asymp")

    def _in_tails(self) -> NDArray[np.bool_]:
        draws = len(self.posterior)
        limit = TAIL * (draws + 1)
        low = (self.posterior <= self.observed).sum(0) + 1  # rank of the datum from below, ties in its favour
        high = (self.posterior >= self.observed).sum(0) + 1
        return cast(NDArray[np.bool_], np.minimum(low, high) <= limit)


@torch.no_grad()
def predictive_checks(
    model: Program, guide: Program, *args: Any, draws: int = 100, statistics: Statistics | None = None, **kwargs: Any
) -> list[PredictiveCheck]:
    """Draws data from the model, given the prior and given the posterior of each datum, and takes statistics of them.

    Where the likelihood is Bernoulli and the data are grey, grey counts as the probability of white, as it does in the
    likelihood: statistics are then taken of one draw of black and white data. What is missing in the data (NaN, or
    masked) is NaN in the draws too.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: S; 39 or more, so that a datum can lie in the outer 5 %.
        statistics: name to function; by default :data:`IMAGE_STATISTICS` where the observed site has data
            [B, C, H, W], :data:`SCALAR_STATISTICS` where it has one number for each datum, else
            :data:`PLAIN_STATISTICS`. With several observed sites the name of the site stands before that of the
            statistic.
        kwargs: keyword arguments of both.

    Raises:
        ValueError: too few draws, or a statistic that is not one finite number for each datum; names it.
    """
    if draws < 39:
        raise ValueError(f"predictive checks need 39 draws or more, got {draws}: with fewer no tail holds 2.5 %")
    model, guide = fix(model, guide, *args, **kwargs)
    trace = draw_guide(model, guide, *args, **kwargs).model_trace
    observed = _observed(trace)
    known = {name: where_known(site) for name, site in observed_sites(trace).items()}

    def of(data: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
        return _apply(statistics, {name: _alike(value, known[name]) for name, value in data.items()})

    priors, posteriors = [], []
    for _ in range(draws):
        priors.append(of(simulate(model, *args, **kwargs).observed))
        latents = draw_guide(model, guide, *args, **kwargs).guide_trace
        posteriors.append(of(predict(model, latents, *args, **kwargs)))
    return [
        PredictiveCheck(
            name, values, np.stack([part[name] for part in priors]), np.stack([part[name] for part in posteriors])
        )
        for name, values in of(observed).items()
    ]


def _alike(value: Tensor, known: Tensor) -> Tensor:
    """Data or draws with NaN where the data are missing, so that statistics are of as many numbers."""
    return value if bool(known.all()) else torch.where(known, value.double(), torch.nan)


def _observed(trace: Trace) -> dict[str, Tensor]:
    """Observed site to its data, [B, ...]; grey values of a Bernoulli site drawn as black or white."""
    found = {}
    for name, site in observed_sites(trace).items():
        value = cast(Tensor, site["value"])
        grey = unwrap(site["fn"]).support is constraints.boolean and not bool(((value == 0) | (value == 1)).all())
        found[name] = torch.bernoulli(value.clamp(0, 1)) if grey else value
    return found


def _apply(statistics: Statistics | None, data: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    found = {}
    for site, value in data.items():
        x = value.double()
        chosen = statistics or _statistics(x)
        for name, function in chosen.items():
            taken = function(x)
            if taken.shape != x.shape[:1] or not bool(taken.isfinite().all()):
                raise ValueError(
                    f"the statistic '{name}' of site '{site}' must give one finite number for each of the {len(x)} "
                    f"data, got the shape {tuple(taken.shape)}" + ("" if taken.isfinite().all() else ", not all finite")
                )
            found[name if len(data) == 1 else f"{site}: {name}"] = taken.cpu().double().numpy()
    return found


def _statistics(x: Tensor) -> Statistics:
    """Those that suit data of a shape, [B, ...]."""
    if x.numel() == len(x):
        return SCALAR_STATISTICS
    return IMAGE_STATISTICS if x.dim() == 4 else PLAIN_STATISTICS
