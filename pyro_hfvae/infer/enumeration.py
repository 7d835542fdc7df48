"""The likelihood summed over all categories of the discrete sites that the guide does not relax."""

import math
from collections.abc import Mapping
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Size, Tensor

from pyro_hfvae.infer.categories import log_mass_of_combinations, one_hot_combinations
from pyro_hfvae.infer.dependence import evaluating
from pyro_hfvae.infer.programs import Program, buffers_kept
from pyro_hfvae.infer.traces import DataPlate, latent_sites, log_likelihood, name_list
from pyro_hfvae.sites import DiscreteSite, Site, read_site

__all__ = [
    "MAXIMUM_ENUMERATED",
    "check_enumeration",
    "enumerated_sites",
    "expected_log_likelihood",
    "with_every_combination",
]

MAXIMUM_ENUMERATED = 1024
"""Combinations of categories that the model is run on at once: the decoder sees as many times the batch."""

MUST_KEEP = (
    "is run with leading dimensions before that of the data, which it must keep (write y[..., 0] for y[:, 0], flatten "
    "nothing)"
)
"""What a model must obey, for messages."""


def enumerated_sites(guide_trace: Trace, plate: DataPlate) -> dict[str, DiscreteSite]:
    """The discrete local sites that the guide does not relax."""
    sites = {
        name: read_site(name, plate.local(site["fn"]), site["value"])
        for name, site in latent_sites(guide_trace).items()
        if name in plate.locals
    }
    return {name: site for name, site in sites.items() if isinstance(site, DiscreteSite) and not site.relaxed}


def with_every_combination(guide_trace: Trace, plate: DataPlate) -> Trace:
    r"""The guide's trace with every combination of categories in the place of a draw.

    All local latents get the batch shape [Ktot, S, B]: sites of one-hot categoricals and Bernoullis vary along the
    first dimension, the others repeat themselves. A trace without such sites is returned as it is.

    Raises:
        ValueError: more than 1,024 combinations; names the sites.
    """
    sites = enumerated_sites(guide_trace, plate)
    if not sites:
        return guide_trace
    sizes = {name: (site.variables, site.categories) for name, site in sites.items()}
    total = math.prod(categories**count for count, categories in sizes.values())
    if total > MAXIMUM_ENUMERATED:
        raise ValueError(
            f"the sites {name_list(sizes)} of the guide are not relaxed and have {total:,} combinations of categories, "
            f"on each of which the model is run; at most {MAXIMUM_ENUMERATED:,} can be: use Concrete for some of them"
        )
    every = one_hot_combinations(sizes, next(iter(sites.values())).value.device)
    enumerated = guide_trace.copy()
    for name, message in latent_sites(guide_trace).items():
        if name not in plate.locals:
            continue
        value, fn = message["value"], plate.local(message["fn"])
        batch = Size((1,) * (2 - len(fn.batch_shape)) + tuple(fn.batch_shape))
        if name in sites:
            chosen = sites[name].vertex(every[name]).to(value)  # [Ktot, *event]
            value = chosen.reshape(total, 1, 1, *fn.event_shape)
        expanded = value.expand(total, *batch, *fn.event_shape)
        enumerated.nodes[name] = {**guide_trace.nodes[name], "value": expanded}
    return enumerated


def expected_log_likelihood(
    model_trace: Trace, posteriors: Mapping[str, Site], shape: Size, plate: DataPlate
) -> Tensor:
    r"""E[log p(x|z, y)] over the categories y that were enumerated, unscaled, for each particle and datum, [S, B].

    .. math:: \sum_k q(y = k | x^b) \log p(x^b | z^b, y = k)

    Without such sites it is log p(x|z) at the guide's sample.

    Args:
        model_trace: the model's trace, replayed against :func:`with_every_combination`.
        posteriors: of the guide.
        shape: [S, B].
        plate: of the data.

    Raises:
        ValueError: no observed site, or one with more batch dimensions than the data.
    """
    sites = [site for site in posteriors.values() if isinstance(site, DiscreteSite) and not site.relaxed]
    if not sites:
        return log_likelihood(model_trace, shape, plate)
    masses = [mass for site in sites for mass in site.log_mass.expand(*shape, -1, -1).unbind(-2)]
    mass = log_mass_of_combinations(masses).exp()  # [S, B, Ktot]
    found = log_likelihood(model_trace, Size([mass.shape[-1], *shape]), plate)
    return (mass * found.movedim(0, -1)).sum(-1)


def check_enumeration(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Runs the model on all categories of the sites that the guide does not relax: those drawn must give the same.

    Networks are in evaluation mode meanwhile: dropout and batch statistics would differ between two runs.

    Raises:
        ValueError: they do not, or there are too many categories; names the sites.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), buffers_kept(model, guide):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        with evaluating(model):
            drawn = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
            plate = DataPlate.of(guide_trace, drawn)
            given = with_every_combination(guide_trace, plate)
            if given is guide_trace:
                return
            names = list(enumerated_sites(guide_trace, plate))
            must = f"with the sites {name_list(names)} summed over, the model {MUST_KEEP}"
            try:
                whole = poutine.trace(poutine.replay(model, trace=given)).get_trace(*args, **kwargs)
            except (RuntimeError, IndexError, ValueError) as error:
                error.add_note(f"{must[0].upper()}{must[1:]}.")
                raise
        chosen = torch.ones((), dtype=torch.bool)
        for name in names:
            every, one = (cast(Tensor, trace.nodes[name]["value"]) for trace in (given, guide_trace))
            same = every == one  # [Ktot, S, B, *event]
            chosen = chosen.to(same.device) & same.reshape(*same.shape[:3], -1).all(-1)
        try:
            of_chosen = torch.where(chosen, log_likelihood(whole, chosen.shape, plate), 0.0).sum(0)
            fits = torch.allclose(of_chosen, log_likelihood(drawn, chosen.shape[1:], plate), rtol=1e-3, atol=1e-3)
        except ValueError:  # shapes that do not fit
            fits = False
        if not fits:
            raise ValueError(f"the likelihood changes where the latents get leading dimensions: {must}")
