"""The likelihood summed over all categories of the discrete sites that the guide does not relax."""

import math

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli, OneHotCategorical

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.combinations import log_mass_of_combinations, one_hot_combinations
from pyro_hfvae.infer.latents import (
    Discrete,
    Latents,
    latent_shape,
    latent_sites,
    name_list,
    read_log_likelihood,
)

__all__ = ["MAXIMUM_ENUMERATED", "enumerated_sites", "expected_log_likelihood", "with_every_combination"]

MAXIMUM_ENUMERATED = 1024
"""Combinations of categories that the model is run on at once: the decoder sees as many times the batch."""


def with_every_combination(guide_trace: Trace) -> Trace:
    r"""The guide's trace for the model to be replayed against: every combination of categories, in place of a draw.

    All latent values get the batch shape [Ktot, S, B]: sites of one-hot categoricals and Bernoullis vary along the
    first dimension, the others repeat themselves. A trace without such sites is returned as it is.

    Raises:
        ValueError: more than 1,024 combinations; names the sites.
    """
    latents = latent_sites(guide_trace)
    sizes = enumerated_sites(guide_trace)
    if not sizes:
        return guide_trace
    total = math.prod(categories**count for count, categories in sizes.values())
    if total > MAXIMUM_ENUMERATED:
        raise ValueError(
            f"the sites {name_list(sizes)} of the guide are not relaxed and have {total:,} combinations of categories, "
            f"on each of which the model is run; at most {MAXIMUM_ENUMERATED:,} can be: use Concrete for some of them"
        )
    every = one_hot_combinations(sizes, next(iter(latents.values()))["value"].device)
    enumerated = guide_trace.copy()
    for name, site in latents.items():
        value: Tensor = site["value"]
        batch, event = site["fn"].batch_shape, site["fn"].event_shape
        batch = (1,) * (2 - len(batch)) + tuple(batch)
        if name in sizes:
            one_hot = every[name].to(value)  # [Ktot, V, K]
            chosen = one_hot[..., 1] if isinstance(unwrap(site["fn"]), Bernoulli) else one_hot
            value = chosen.reshape(total, *(1,) * len(batch), *event)
        enumerated.nodes[name] = {**guide_trace.nodes[name], "value": value.expand(total, *batch, *event)}
    return enumerated


def expected_log_likelihood(model_trace: Trace, guide_trace: Trace, latents: Latents) -> Tensor:
    r"""E[log p(x|z, y)] over the categories y that were enumerated, unscaled, for each particle and datum, [S, B].

    .. math:: \sum_k q(y = k | x^b) \log p(x^b | z^b, y = k)

    Without such sites it is log p(x|z) at the guide's sample.

    Args:
        model_trace: the model's trace, replayed against :func:`with_every_combination`.
        guide_trace: the guide's own trace.
        latents: what was read of it.

    Raises:
        ValueError: no observed site, or one with more batch dimensions than the data.
    """
    shape = latent_shape(latents)
    names = enumerated_sites(guide_trace)
    if not names:
        return read_log_likelihood(model_trace, shape)
    masses: list[Tensor] = []
    for name in names:
        site = latents[name]
        assert isinstance(site, Discrete)
        masses += site.log_mass.unbind(2)
    mass = log_mass_of_combinations(masses).exp()  # [S, B, Ktot]
    log_likelihood = read_log_likelihood(model_trace, torch.Size([mass.shape[-1], *shape]))
    return (mass * log_likelihood.movedim(0, -1)).sum(-1)


def enumerated_sites(guide_trace: Trace) -> dict[str, tuple[int, int]]:
    """Number of categoricals V and of categories K of each site that the guide does not relax."""
    sizes = {}
    for name, site in latent_sites(guide_trace).items():
        base, event = unwrap(site["fn"]), site["fn"].event_shape
        if isinstance(base, Bernoulli):
            sizes[name] = (event.numel(), 2)
        elif isinstance(base, OneHotCategorical):
            sizes[name] = (event[:-1].numel(), event[-1])
    return sizes
