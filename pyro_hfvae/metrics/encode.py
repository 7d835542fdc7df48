"""What metrics measure of a guide: posterior means and category probabilities, or the posteriors themselves."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.checks import read_guide_dependence
from pyro_hfvae.infer.families import Simplex
from pyro_hfvae.infer.latents import Discrete, Gaussian, Latents, concatenate, read_posteriors, tree_of
from pyro_hfvae.metrics.codes import Codes
from pyro_hfvae.metrics.exact import PosteriorParameters

__all__ = ["encode", "encode_posteriors"]


@torch.no_grad()
def encode(guide: Callable[..., Any], batches: Iterable[tuple[Any, ...]], blocks: Layout | None = None) -> Codes:
    """Runs the guide over batches of arguments and reads what it says of each datum.

    A continuous variable gives its posterior mean, one column; a categorical with K categories their probabilities, K
    columns; a Dirichlet its K means.

    Args:
        guide: the inference program.
        batches: arguments of the guide, batch by batch.
        blocks: the layout, as for the objective; each site by default.
    """
    latents = concatenate([read_posteriors(poutine.trace(guide).get_trace(*batch)) for batch in batches])
    layout = tree_of(latents, blocks).blocks
    variables = [variable for members in layout.values() for variable in members]
    place = {variable: index for index, variable in enumerate(variables)}
    columns = [_columns(latents, variable.site, variable.index) for variable in variables]
    ends = np.cumsum([part.shape[1] for part in columns]).tolist()
    return Codes(
        columns=torch.cat(columns, 1).cpu().double().numpy(),
        variables=tuple(variable.name for variable in variables),
        variable_columns=tuple(slice(end - part.shape[1], end) for end, part in zip(ends, columns, strict=True)),
        blocks={name: tuple(place[variable] for variable in members) for name, members in layout.items()},
    )


@torch.no_grad()
def encode_posteriors(
    guide: Callable[..., Any], batches: Iterable[tuple[Any, ...]], blocks: Layout | None = None
) -> PosteriorParameters:
    """Runs the guide over batches of arguments and reads the parameters of its posteriors, in one pass.

    Args:
        guide: the inference program, with normal and categorical sites that do not depend on one another.
        batches: arguments of the guide, batch by batch.
        blocks: the layout, as for the objective; each site by default.

    Raises:
        ValueError: a site is of another family, or depends on the sample of another site; names it.
    """
    parts: list[Latents] = []
    for batch in batches:
        if not parts:
            _refuse_dependence(guide, batch)
        parts.append(read_posteriors(poutine.trace(guide).get_trace(*batch)))
    latents = concatenate(parts)
    layout = tree_of(latents, blocks).blocks
    normal, categorical = {}, {}
    for members in layout.values():
        for variable in members:
            part = latents[variable.site]
            if isinstance(part, Gaussian):
                loc, scale = (parameter[0, :, variable.index] for parameter in (part.loc, part.scale))
                normal[variable.name] = (loc.cpu().double().numpy(), scale.cpu().double().numpy())
            elif isinstance(part, Discrete):
                mass = part.log_mass[0, :, variable.index].double().softmax(-1)  # rows sum to 1 in float64 too
                categorical[variable.name] = mass.cpu().numpy()
            else:
                raise ValueError(
                    f"site {variable.site!r} is neither normal nor categorical, which are the posteriors that can be "
                    "read as parameters; use encode, which reads means"
                )
    return PosteriorParameters(
        normal, categorical, {name: tuple(v.name for v in members) for name, members in layout.items()}
    )


def _refuse_dependence(guide: Callable[..., Any], batch: tuple[Any, ...]) -> None:
    for site, above in read_guide_dependence(guide, *batch).items():
        if above:
            raise ValueError(
                f"site {site!r} of the guide depends on {', '.join(map(repr, sorted(above)))}: its parameters at one "
                "sample are not those of its posterior given the datum"
            )


def _columns(latents: Latents, site: str, index: int) -> Tensor:
    """Codes of one variable, [n, 1 or K]."""
    part = latents[site]
    if isinstance(part, Discrete):
        return part.log_mass[0, :, index].exp()
    if isinstance(part, Simplex):
        return part.mean[0]
    return (part.loc if isinstance(part, Gaussian) else part.mean)[0, :, index : index + 1]
