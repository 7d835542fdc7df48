"""What metrics measure of a guide: posterior means and category probabilities, or the posteriors themselves."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Size, Tensor

from pyro_hfvae.batch import AnyBatch, as_arguments
from pyro_hfvae.blocks import Blocks, Layout, resolve_blocks
from pyro_hfvae.infer.dependence import read_guide_dependence
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.references import Sites, batch_of
from pyro_hfvae.infer.traces import DataPlate
from pyro_hfvae.metrics.codes import Codes
from pyro_hfvae.metrics.exact import PosteriorParameters
from pyro_hfvae.sites import DiscreteSite, NormalSite, Site

__all__ = ["encode", "encode_posteriors"]


@torch.no_grad()
def encode(guide: Callable[..., Any], batches: Iterable[AnyBatch], blocks: Layout | None = None) -> Codes:
    """Runs the guide over batches of arguments and reads the posterior mean of each variable.

    A continuous variable gives its posterior mean, one column; a categorical with K categories their probabilities, K
    columns; a Dirichlet its K means.

    Args:
        guide: the inference program.
        batches: arguments of the guide, batch by batch: tuples, or named tensors.
        blocks: the layout, as for the objective; each site by default.
    """
    parts = [_posteriors(guide, batch) for batch in batches]
    layout = _blocks(parts[0], blocks)
    variables = [variable for members in layout.values() for variable in members]
    place = {variable: index for index, variable in enumerate(variables)}
    columns = [torch.cat([_columns(part[v.site], v.index) for part in parts]) for v in variables]
    ends = np.cumsum([part.shape[1] for part in columns]).tolist()
    return Codes(
        columns=torch.cat(columns, 1).cpu().double().numpy(),
        variables=tuple(variable.name for variable in variables),
        variable_columns=tuple(slice(end - part.shape[1], end) for end, part in zip(ends, columns, strict=True)),
        blocks={name: tuple(place[variable] for variable in members) for name, members in layout.items()},
    )


@torch.no_grad()
def encode_posteriors(
    guide: Callable[..., Any], batches: Iterable[AnyBatch], blocks: Layout | None = None
) -> PosteriorParameters:
    """Runs the guide over batches of arguments and reads the parameters of its posteriors, in one pass.

    Args:
        guide: the inference program, with normal and categorical sites that do not depend on one another.
        batches: arguments of the guide, batch by batch: tuples, or named tensors.
        blocks: the layout, as for the objective; each site by default.

    Raises:
        ValueError: a site is of another family, or depends on the sample of another site; names it.
    """
    parts: list[Sites] = []
    for batch in batches:
        if not parts:
            _refuse_dependence(guide, batch)
        parts.append(_posteriors(guide, batch))
    layout = _blocks(parts[0], blocks)
    normal, categorical = {}, {}
    for members in layout.values():
        for variable in members:
            sites = [part[variable.site] for part in parts]
            if all(isinstance(site, NormalSite) for site in sites):
                loc, scale = (
                    torch.cat([_first(getattr(site, field), 1) for site in sites]) for field in ("loc", "scale")
                )
                loc, scale = (parameter[:, variable.index].cpu().double() for parameter in (loc, scale))
                normal[variable.name] = (loc.numpy(), scale.numpy())
            elif sites[0].discrete:
                log_mass = torch.cat([_first(site.log_mass, 2) for site in sites if isinstance(site, DiscreteSite)])
                mass = log_mass[:, variable.index].double().softmax(-1)  # rows sum to 1 in float64 too
                categorical[variable.name] = mass.cpu().numpy()
            else:
                raise ValueError(
                    f"site {variable.site!r} is neither normal nor categorical, which are the posteriors that can be "
                    "read as parameters; use encode, which reads means"
                )
    return PosteriorParameters(
        normal, categorical, {name: tuple(v.name for v in members) for name, members in layout.items()}
    )


def _refuse_dependence(guide: Callable[..., Any], batch: AnyBatch) -> None:
    args, kwargs = as_arguments(batch)
    for site, above in read_guide_dependence(guide, *args, **kwargs).items():
        if above:
            raise ValueError(
                f"site {site!r} of the guide depends on {', '.join(map(repr, sorted(above)))}: its parameters at one "
                "sample are not those of its posterior given the datum"
            )


def _posteriors(guide: Callable[..., Any], batch: AnyBatch) -> Sites:
    args, kwargs = as_arguments(batch)
    trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return posterior_sites(trace, None, DataPlate.of(trace))


def _blocks(posteriors: Sites, blocks: Layout | None) -> Blocks:
    return resolve_blocks(blocks, {name: tuple(site.fine) for name, site in posteriors.items()}).blocks


def _first(tensor: Tensor, inner: int) -> Tensor:
    """A tensor [*batch, ...] without particles, [B, ...]."""
    return tensor[0] if tensor.dim() == inner + 2 else tensor


def _columns(site: Site, index: int) -> Tensor:
    """Codes of one variable, [B, 1 or K]."""
    mean = site.mean
    batch = Size([batch_of({site.name: site})[1]])
    mean = mean[0] if len(site.fn.batch_shape) == 2 else mean
    return mean.reshape(*batch, site.variables, -1)[:, index]
