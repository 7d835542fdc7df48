"""Does the guide agree with long Markov chains: NUTS on the latents of one datum, for small models."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro.infer import MCMC, NUTS

from pyro_hfvae.infer.traces import latent_sites
from pyro_hfvae.posterior.draws import draw_guide
from pyro_hfvae.posterior.inference_data import convergence
from pyro_hfvae.posterior.programs import Program, fix
from pyro_hfvae.sites import describe

__all__ = ["Agreement", "compare_with_nuts"]


@dataclass(frozen=True)
class Agreement:
    """The guide's draws of one datum beside those of NUTS, for each number of a latent site, [V]."""

    shift: NDArray[np.float64]
    """Mean of the guide less mean of NUTS, in standard deviations of NUTS."""
    scale_ratio: NDArray[np.float64]
    """Standard deviation of the guide over that of NUTS."""
    r_hat: float
    """The largest of the numbers; the chains have not met where it is above 1.05."""
    effective_draws: float
    """The smallest bulk effective sample size of the numbers."""


def compare_with_nuts(
    model: Program, guide: Program, *args: Any, draws: int = 500, warmup: int = 300, chains: int = 2, **kwargs: Any
) -> dict[str, Agreement]:
    """Runs NUTS on the model given one datum and compares its draws with as many of the guide.

    Simplex sites (Concrete, Dirichlet) are sampled in Pyro's unconstrained coordinates and compared in their own.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, a batch of one datum.
        draws: of each chain.
        warmup: steps before them.
        chains: number of chains, run one after the other; two or more for r̂.
        kwargs: keyword arguments of both.

    Returns:
        Latent site to agreement.

    Raises:
        ValueError: more than one datum, or fewer than two chains.
        NotImplementedError: a discrete latent site, or a relaxed one that the prior of another site depends on, for
            which there is no gradient; names it.
    """
    if chains < 2:
        raise ValueError(f"r̂ needs two chains or more, got {chains}")
    model, guide = fix(model, guide, *args, **kwargs)
    first = draw_guide(model, guide, *args, **kwargs)
    if len(first.log_q) != 1:
        raise ValueError(f"NUTS is run for one datum at a time, got a batch of {len(first.log_q)}")
    for name, site in latent_sites(first.model_trace).items():
        if site["fn"].support.is_discrete:
            raise NotImplementedError(
                f"NUTS needs continuous latents, and site '{name}' is {describe(site['fn'])}: compare without NUTS"
            )
    found: dict[str, list[NDArray[np.float64]]] = {}
    for _ in range(chains):  # MCMC's own chains are processes, which a program defined in a script cannot enter
        with pyro.validation_enabled(False):  # a step that leaves the support is rejected, not an error
            kernel = NUTS(model, max_tree_depth=8)
            run = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
            run.run(*args, **kwargs)
        for name, values in run.get_samples().items():
            found.setdefault(name, []).append(values.reshape(draws, -1).double().cpu().numpy())
    reference = {name: np.stack(parts) for name, parts in found.items()}  # [chains, draws, V]
    with torch.no_grad():
        drawn = [draw_guide(model, guide, *args, **kwargs).values for _ in range(chains * draws)]
    r_hat, effective = convergence(reference)
    result = {}
    for name, values in reference.items():
        approximate = torch.stack([part[name].flatten() for part in drawn]).double().cpu().numpy()
        exact = values.reshape(-1, values.shape[-1])
        spread = np.maximum(exact.std(0), 1e-12)
        result[name] = Agreement(
            shift=(approximate.mean(0) - exact.mean(0)) / spread,
            scale_ratio=approximate.std(0) / spread,
            r_hat=r_hat[name],
            effective_draws=effective[name],
        )
    return result
