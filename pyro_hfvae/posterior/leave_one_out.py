"""Leave-one-out PIT: one number of each datum, predicted from the others."""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import observed_sites
from pyro_hfvae.posterior.draws import draw_guide, simulate
from pyro_hfvae.posterior.inference_data import SMALLEST_TAIL, psis
from pyro_hfvae.posterior.programs import FixedProgram, Program, fix
from pyro_hfvae.sites import describe

__all__ = ["LeaveOneOut", "leave_one_out"]


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
        """P(x̃ ≤ x), [B], by Pareto smoothed weights; uniform for a right model."""
        weights = np.exp(psis(self.log_weights)[0])  # [K, B]
        return np.asarray(np.minimum((weights * (self.predicted <= self.observed)).sum(0), 1.0))


@torch.no_grad()
def leave_one_out(model: Program, guide: Program, *args: Any, draws: int = 1000, **kwargs: Any) -> list[LeaveOneOut]:
    r"""Predicts one number of each datum, chosen at random, from the others of the same datum.

    .. math:: p(x_j | x_{-j}) = \int p(x_j|z) \, p(z|x_{-j}) \, dz, \qquad
        w_k = \frac{p(z_k) \, p(x|z_k)}{p(x_j|z_k) \, \frac12 (q(z_k|x) + p(z_k))}

    Half of the z are drawn from q(z|x), half from p(z). Without a number that is informative of z the posterior is
    wider by far, and draws of q(z|x) alone cannot stand for it; without one that is not, draws of the prior have little
    weight. Hesterberg, Weighted Average Importance Sampling and Defensive Mixture Distributions (Technometrics 1995).

    A latent belongs to one datum, so that to leave out a whole datum would leave the prior; what can be left out is
    one of its numbers. The weights correct for the guide too: what the check judges is the model. One number of each
    datum keeps the values independent. Where a datum is one number, it is predicted from the prior.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: K, 25 or more for PSIS.
        kwargs: keyword arguments of both.

    Returns:
        An entry for each observed site.

    Raises:
        ValueError: too few draws.
        NotImplementedError: an observed site whose numbers are discrete, or do not each have a density of their own
            given z (the PIT does not apply), or that is masked; names it.
    """
    if draws < SMALLEST_TAIL:
        raise ValueError(f"PSIS needs {SMALLEST_TAIL} draws or more, got {draws}")
    model, guide = fix(model, guide, *args, **kwargs)
    chosen: dict[str, Tensor] = {}
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    observed = {}
    for place in range(draws):
        drawn = draw_guide(model, guide if place % 2 else _from_prior(model, guide, args, kwargs), *args, **kwargs)
        log_proposal = torch.logaddexp(drawn.log_q, drawn.log_prior) - math.log(2)
        log_weight = drawn.log_prior + drawn.log_likelihood - log_proposal
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
            column = chosen[name]
            log_prob = base.log_prob(value).expand(value.shape).reshape(numbers.shape).gather(1, column)[:, 0].double()
            predicted = base.expand(value.shape).sample().reshape(numbers.shape).gather(1, column)[:, 0].double()
            kept.setdefault(name, []).append((predicted, log_weight - log_prob))
    return [
        LeaveOneOut(
            name,
            observed[name].double().cpu().numpy(),
            torch.stack([predicted for predicted, _ in parts]).cpu().numpy(),
            torch.stack([log_weight for _, log_weight in parts]).cpu().numpy(),
        )
        for name, parts in kept.items()
    ]


def _from_prior(model: FixedProgram, guide: FixedProgram, args: tuple[Any, ...], kwargs: Any) -> FixedProgram:
    """The guide with the latents that one run of the model has drawn from the prior."""
    return replace(guide, program=poutine.replay(guide.program, trace=simulate(model, *args, **kwargs).trace))
