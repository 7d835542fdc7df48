"""Is inference calibrated: simulation-based calibration of a guide on data drawn from its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.traces import DataPlate, log_likelihood
from pyro_hfvae.posterior.arguments import with_observed
from pyro_hfvae.posterior.draws import draw_guide, simulate
from pyro_hfvae.posterior.layout import LatentArrays, read_arrays
from pyro_hfvae.posterior.programs import Program, fix
from pyro_hfvae.posterior.uniformity import uniformity_p_value

__all__ = ["LOG_LIKELIHOOD", "Calibration", "simulation_based_calibration"]

LOG_LIKELIHOOD = "log-likelihood"
"""Name of the quantity log p(x|z)."""


@dataclass(frozen=True)
class Calibration:
    """Ranks of simulated truths among draws of the guide."""

    draws: int
    """L, draws of the guide for each simulated datum."""
    ranks: Mapping[str, NDArray[np.float64]]
    """Quantity to the rank of the truth, [N], scaled to (0, 1)."""

    def p_values(self) -> dict[str, float]:
        """P-value of uniform ranks for each quantity."""
        return {name: uniformity_p_value(values) for name, values in self.ranks.items()}


@torch.no_grad()
def simulation_based_calibration(
    model: Program, guide: Program, *args: Any, draws: int = 99, blocks: Layout | None = None, **kwargs: Any
) -> Calibration:
    r"""Draws z* ~ p(z), x ~ p(x|z*) and L draws of q(z|x), and ranks z* among them.

    .. math:: r = \frac{\#\{l : f(z_l) < f(z^*)\} + U (1 + \#\{l : f(z_l) = f(z^*)\})}{L + 1}, \qquad U \sim U(0, 1)

    is uniform for every quantity f, ties or none, if q(z|x) is the exact posterior of the model (Talts et al.,
    Validating Bayesian Inference Algorithms with Simulation-Based Calibration, arXiv:1804.06788). The quantities are
    every scalar variable; for a categorical variable, relaxed or not, whether its largest coordinate is that of
    category k, for each k, since categories have no order; each coordinate of a point of a Dirichlet; and the
    log-likelihood log p(x|z). The latter is there because a guide that ignores x and draws from the prior has uniform
    ranks in all the others (Modrák et al., Simulation-Based Calibration Checking for Bayesian Computation: The Choice
    of Test Quantities Shapes Sensitivity, Bayesian Analysis 2023).

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch; N is its size, and the data in it are replaced by simulated ones, wherever
            they lie: in lists and dictionaries too.
        draws: L.
        blocks: the layout, as for the objective, which here only checks names and gives the order.
        kwargs: keyword arguments of both.

    Raises:
        ValueError: the simulated data cannot be put in the place of the arguments, or an argument looks computed from
            the data; names the observed site and the argument.
    """
    if draws < 1:
        raise ValueError(f"the number of draws must be 1 or more, got {draws}")
    model, guide = fix(model, guide, *args, **kwargs)
    simulated = simulate(model, *args, **kwargs)
    inputs, named = with_observed(model, guide, simulated.observed, args, kwargs)
    layout = read_arrays(poutine.trace(guide).get_trace(*inputs, **named), blocks)
    scored = poutine.trace(poutine.replay(model, trace=simulated.trace)).get_trace(*inputs, **named)
    size = next(iter(simulated.latents.values())).shape[0]
    plate = DataPlate.of(scored, scored)
    of_truth = log_likelihood(scored, torch.Size([1, size]), plate)[0].double()
    truth = _quantities(layout, simulated.latents, of_truth)
    less = {name: torch.zeros_like(value) for name, value in truth.items()}
    equal = {name: torch.zeros_like(value) for name, value in truth.items()}
    for _ in range(draws):
        drawn = draw_guide(model, guide, *inputs, **named)
        for name, value in _quantities(layout, drawn.values, drawn.log_likelihood).items():
            less[name] += value < truth[name]
            equal[name] += value == truth[name]
    ranks = {}
    for name in truth:
        among_ties = torch.rand_like(less[name]) * (1 + equal[name])
        ranks[name] = ((less[name] + among_ties) / (draws + 1)).cpu().numpy()
    return Calibration(draws, ranks)


def _quantities(layout: LatentArrays, latents: Mapping[str, Tensor], log_likelihood: Tensor) -> dict[str, Tensor]:
    """Quantity to its value, [B], in float64."""
    found: dict[str, Tensor] = {}
    for array, values in zip(layout.arrays, layout.read(latents).values(), strict=True):
        for place, variable in enumerate(array.variables):
            value = values[:, place]
            if array.categories is None:
                found[variable] = value.double()
                continue
            if array.one_hot:
                value = torch.nn.functional.one_hot(value.argmax(-1), array.categories)
            names = [f"{variable} = {k}" if array.one_hot else f"{variable}, {k}" for k in range(array.categories)]
            found |= dict(zip(names, value.double().unbind(-1), strict=True))
    return found | {LOG_LIKELIHOOD: log_likelihood}
