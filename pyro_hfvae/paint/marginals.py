"""Runs model and guide for the aggregate posterior and the prior of each variable, as densities or masses.

Shapes: `G` points on a line, `K` categories, `B` data of a batch, `V` variables of a site.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.blocks import Layout, resolve_blocks
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.traces import DataPlate, latent_sites
from pyro_hfvae.plot.marginals import Marginal
from pyro_hfvae.sites import Site, read_site

__all__ = ["read_marginals"]

POINTS = 500
"""G: a posterior of a hundredth of the prior's width still has some points of its own."""


@torch.no_grad()
def read_marginals(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    batches: Iterable[Inputs],
    blocks: Layout | None = None,
) -> dict[str, Marginal]:
    r"""The aggregate posterior and the prior of every variable, exactly for the data given.

    .. math:: q(z_e) = \frac{1}{N} \sum_n q(z_e|x_n), \qquad p(z_e) = E_{p(z_{pa})}[p(z_e|z_{pa})]

    The first is a sum over the data. The second is exact where z_e depends on no other site; else it is a mean over as
    many draws of the others as there are data.

    Args:
        model: the generative program.
        guide: the inference program.
        batches: their arguments, [B, ...], batch by batch.
        blocks: the layout, as for the objective; each site by default.

    Returns:
        Name of a variable to its marginal, block by block. Variables whose marginals have no density in closed form
        (of a simplex, say) are left out.

    Raises:
        ValueError: no batch was given.
    """
    posteriors: list[dict[str, Site]] = []
    priors: list[dict[str, Site]] = []
    for data in batches:
        batch = as_batch(data)
        trace = batch(poutine.trace(guide).get_trace)
        posteriors.append(posterior_sites(trace, None, DataPlate.of(trace)))
        drawn = latent_sites(batch(poutine.trace(model).get_trace))
        priors.append({name: read_site(name, drawn[name]["fn"], drawn[name]["value"]) for name in posteriors[-1]})
    if not posteriors:
        raise ValueError("no batch was given")
    shapes = {name: tuple(site.shape_of(priors[0][name])) for name, site in posteriors[0].items()}
    tree = resolve_blocks(blocks, shapes)
    by_site = {
        name: _of_site([sites[name] for sites in posteriors], [sites[name] for sites in priors])
        for name in dict.fromkeys(variable.site for variable in tree.variables)
    }
    return {v.name: by_site[v.site][v.index] for v in tree.variables if by_site[v.site]}


def _of_site(posteriors: Sequence[Site], priors: Sequence[Site]) -> list[Marginal]:
    """The marginals of the V variables of a site; none where they have no density of one number."""
    first, sizes = posteriors[0], [site.fn.batch_shape.numel() for site in posteriors]
    if first.discrete:
        q, p = (_aggregate_masses(sites, sizes) for sites in (posteriors, priors))  # [V, K]
        return [Marginal(np.arange(float(q.shape[1])), *masses, discrete=True) for masses in zip(q, p, strict=True)]
    if first.shape_of(priors[0]) != first.fn.event_shape:
        return []
    ends = torch.stack([_ends(sites, sizes) for sites in (posteriors, priors)])  # [2, 2, V]
    low, high = ends[:, 0].amin(0), ends[:, 1].amax(0)  # [V]
    points = low + (high - low) * torch.linspace(0, 1, POINTS, dtype=low.dtype, device=low.device)[:, None]  # [G, V]
    q, p = (_aggregate_density(sites, sizes, points) for sites in (posteriors, priors))  # [V, G]
    return [Marginal(*of_one, discrete=False) for of_one in zip(points.T.cpu().numpy(), q, p, strict=True)]


def _ends(sites: Sequence[Site], sizes: Sequence[int]) -> Tensor:
    """Between what values the draws of each variable lie, but for a thousandth at either end, [2, V]."""
    draws = [
        site.value.expand(size, *site.fn.event_shape).reshape(size, -1) for site, size in zip(sites, sizes, strict=True)
    ]
    both = torch.cat(draws).double()  # [N, V]
    return both.quantile(torch.tensor([0.001, 0.999], dtype=both.dtype, device=both.device), 0)


def _aggregate_density(sites: Sequence[Site], sizes: Sequence[int], points: Tensor) -> NDArray[np.float64]:
    """Mean over the data of the density of each variable at its points [G, V]; [V, G]."""
    total = torch.zeros_like(points)
    for site, size in zip(sites, sizes, strict=True):
        event = site.fn.event_shape
        at = points.to(site.value.dtype).reshape(len(points), 1, *event).expand(-1, size, *event)
        densities = site.at(site.fn, at).densities.exp()  # [V, G, B]
        total += densities.expand(-1, len(points), size).sum(-1).T
    return np.asarray((total / sum(sizes)).T.cpu().numpy())


def _aggregate_masses(sites: Sequence[Site], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Mean over the data of the mass of each category of each variable, [V, K]."""
    masses = [site.mean.double().expand(size, -1, -1) for site, size in zip(sites, sizes, strict=True)]  # [B, V, K]
    return np.asarray(torch.cat(masses).mean(0).cpu().numpy())
