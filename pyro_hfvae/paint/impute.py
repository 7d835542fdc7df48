"""Missing cells of a table, filled with what the programs expect or draw of them."""

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_hfvae.distributions import ColumnLikelihoods
from pyro_hfvae.infer.traces import observed_sites
from pyro_hfvae.paint.latent_values import Program

__all__ = ["impute"]


@torch.no_grad()
def impute(
    model: Program, guide: Program, x: Tensor, draws: int = 100, sample: bool = False, **covariates: Any
) -> Tensor:
    r"""A table whose missing cells (NaN) are filled from the posterior predictive distribution of each.

    .. math:: p(x_j | x_\mathrm{known}) \approx \frac{1}{S} \sum_s p(x_j | z_s), \qquad z_s \sim q(z | x_\mathrm{known})

    Args:
        model: the generative program, which observes a table by :class:`pyro_hfvae.distributions.ColumnLikelihoods`.
        guide: the inference program, which takes rows with missing cells.
        x: rows of the table, ``[B, D]``; cells that are known stay as they are.
        draws: S, samples of the latents of each row.
        sample: give a draw of the missing cells for each sample of the latents, for multiple imputation.
        covariates: of the rows, by name.

    Returns:
        ``[B, D]``, with the mean of a missing number or count and the most probable value of a category or flag; or,
        with ``sample``, ``[S, B, D]``.

    Raises:
        ValueError: no draws, or a model that observes no table.
    """
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}")
    rows, features = [], torch.zeros((), device=x.device)
    for _ in range(draws):
        latents = poutine.trace(guide).get_trace(x, **covariates)
        trace = poutine.trace(poutine.replay(model, trace=latents)).get_trace(x, **covariates)
        fns = [site["fn"] for site in observed_sites(trace).values() if isinstance(site["fn"], ColumnLikelihoods)]
        if len(fns) != 1:
            raise ValueError("the model observes no table: impute needs one site of ColumnLikelihoods")
        if sample:
            rows.append(fns[0].sample())
        else:
            features = features + fns[0].feature_means / draws
    filled = torch.stack(rows) if sample else fns[0].most_probable(features)
    return torch.where(x.isnan(), filled.to(x), x)
