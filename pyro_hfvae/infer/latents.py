"""What the terms need of one run of guide and model: the latent variables of a batch, read off the two traces."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from torch.nn.functional import logsigmoid

from pyro_hfvae.blocks import Layout, Node, resolve_blocks
from pyro_hfvae.distributions import ConcreteDensity, log_mass, unwrap
from pyro_hfvae.infer.families import Continuous, read_family

__all__ = [
    "Discrete",
    "Gaussian",
    "Latents",
    "Posterior",
    "broadcasts",
    "by_variable",
    "common_scale",
    "concatenate",
    "describe",
    "latent_shape",
    "latent_sites",
    "log_masses",
    "name_list",
    "observed_sites",
    "read_log_likelihood",
    "read_posteriors",
    "tree_of",
    "variables_of",
]

Site = dict[str, Any]


@dataclass(frozen=True)
class Gaussian:
    """q(z|x) of a site of V normal variables, independent given the datum."""

    value: Tensor  # [S, B, V]
    loc: Tensor  # [S, B, V]
    scale: Tensor  # [S, B, V]


@dataclass(frozen=True)
class Discrete:
    """q(y|x) of a site of V categoricals with K categories; what was sampled of it only matters to the decoder.

    A Bernoulli is a categorical with two.
    """

    log_mass: Tensor  # [S, B, V, K]


Posterior = Gaussian | Discrete | Continuous
"""The variables of a site."""

Latents = Mapping[str, Posterior]
"""Site name to its variables."""


def tree_of(latents: Latents, layout: Layout | None) -> Node:
    """The tree of blocks that a layout makes of the latents; each site by default."""
    return resolve_blocks(layout, {name: (variables_of(site),) for name, site in latents.items()})


def variables_of(site: Posterior) -> int:
    """V, the number of variables of a site."""
    if isinstance(site, Continuous):
        return site.variables
    return (site.log_mass if isinstance(site, Discrete) else site.value).shape[2]


def latent_shape(latents: Latents) -> torch.Size:
    """S, B of the latents."""
    site = next(iter(latents.values()))
    return (site.log_mass if isinstance(site, Discrete) else site.value).shape[:2]


def concatenate(parts: Sequence[Latents]) -> Latents:
    """Joins the latents of several batches, in order, along B."""

    def join(sites: Sequence[Posterior]) -> Posterior:
        tensors = {name: torch.cat([vars(site)[name] for site in sites], 1) for name in vars(sites[0])}
        return type(sites[0])(**tensors)

    return {name: join([part[name] for part in parts]) for name in parts[0]}


def read_posteriors(guide_trace: Trace) -> Latents:
    """Reads the latent sites off a trace of the guide.

    Raises:
        ValueError: no latent site, or batch shapes that are not [B] ([S, B] with vectorised particles).
        NotImplementedError: an observed site, or a distribution whose marginals are not known here.
    """
    sites = latent_sites(guide_trace)
    for name in observed_sites(guide_trace):
        raise NotImplementedError(f"the guide observes site '{name}'; observed guide sites are not supported")
    if not sites:
        raise ValueError("the guide samples no latent site")
    shape = _batch_shape(sites)
    return {name: _read_posterior(name, site, shape) for name, site in sites.items()}


def read_log_likelihood(model_trace: Trace, shape: torch.Size) -> Tensor:
    """Σ log p(x|z) over the observed sites, unscaled, for each particle and datum, [S, B]; 0 where they are masked.

    Args:
        model_trace: the model's trace.
        shape: S, B.

    Raises:
        ValueError: no observed site, or one with more batch dimensions than the data.
    """
    sites = observed_sites(model_trace)
    if not sites:
        raise ValueError("the model observes nothing: give one of its sample sites obs=…")
    total = torch.zeros(shape, device=next(iter(sites.values()))["value"].device)
    for name, site in sites.items():
        log_prob = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
        if not broadcasts(log_prob.shape, shape):
            raise ValueError(
                f"the observed site '{name}' has log-probabilities of shape {tuple(log_prob.shape)}, which is not one "
                f"for each of the {shape[-1]} data; declare its other dimensions with .to_event(n)"
            )
        total = total + log_prob
    return total


def common_scale(model_trace: Trace, guide_trace: Trace) -> float | Tensor:
    """The scale that plates or ``poutine.scale`` put on every site.

    Raises:
        NotImplementedError: sites are scaled differently, or latents masked; names the site.
    """
    latents = [*latent_sites(guide_trace).items(), *latent_sites(model_trace).items()]
    for name, site in latents:
        if site["mask"] is not None:
            raise NotImplementedError(
                f"the latent site '{name}' is masked, and has no marginal then; masks are for observed sites"
            )
    sites = [*latents, *observed_sites(model_trace).items()]
    first, scale = sites[0][0], sites[0][1]["scale"]
    for name, site in sites:
        if site["scale"] is not scale and not bool((torch.as_tensor(site["scale"]) == torch.as_tensor(scale)).all()):
            raise NotImplementedError(
                f"site '{name}' and site '{first}' are scaled differently; all sites must have the same scale: "
                "weight the terms instead"
            )
    return scale  # type: ignore[no-any-return]


def latent_sites(trace: Trace) -> dict[str, Site]:
    """The sample sites that are not observed, by name."""
    return {name: site for name, site in _sample_sites(trace) if not site["is_observed"]}


def observed_sites(trace: Trace) -> dict[str, Site]:
    """The sample sites that are observed, by name."""
    return {name: site for name, site in _sample_sites(trace) if site["is_observed"]}


def _sample_sites(trace: Trace) -> list[tuple[str, Site]]:
    return [
        (name, dict(site))
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not (site["infer"] or {}).get("_deterministic")
    ]


def _batch_shape(sites: Mapping[str, Site]) -> torch.Size:
    """[S, B] of all guide sites."""
    first, expected = "", None
    for name, site in sites.items():
        shape = site["fn"].batch_shape
        if not 1 <= len(shape) <= 2:
            raise ValueError(
                f"site '{name}' has the batch shape {tuple(shape)} in the guide; it must be (B,), one entry for each "
                "datum: declare inner dimensions with .to_event(n), and sample the site for each datum"
            )
        if expected is None:
            first, expected = name, shape
        if shape != expected:
            raise ValueError(f"site '{name}' has the batch shape {tuple(shape)}, but site '{first}' {tuple(expected)}")
    assert expected is not None
    vectorized = any(frame.name == "num_particles_vectorized" for frame in sites[first]["cond_indep_stack"])
    if len(expected) == 2 and not vectorized:
        raise ValueError(
            f"site '{first}' has the batch shape {tuple(expected)} in the guide; it must be (B,), one entry for each "
            "datum: declare inner dimensions with .to_event(n)"
        )
    if len(expected) == 1 and vectorized:
        raise ValueError(f"site '{first}' is in no plate over the data, which vectorize_particles needs")
    return torch.Size([1, *expected]) if len(expected) == 1 else expected


def _read_posterior(name: str, site: Site, shape: torch.Size) -> Posterior:
    fn, event = site["fn"], site["fn"].event_shape
    base = unwrap(fn)
    discrete = isinstance(base, RelaxedOneHotCategorical | RelaxedBernoulli | OneHotCategorical | Bernoulli)
    if discrete and not isinstance(base, ConcreteDensity):
        return Discrete(log_masses(base, shape, event))
    if isinstance(base, Normal):
        return Gaussian(*(by_variable(tensor, shape, event) for tensor in (site["value"], base.loc, base.scale)))
    if isinstance(base, dist.MaskedDistribution) or (family := read_family(base, site["value"], shape, event)) is None:
        raise NotImplementedError(
            f"site '{name}' is {describe(fn)} in the guide; its inference marginal is not known: use Normal, "
            "MultivariateNormal, LogNormal, Gamma, Beta, Dirichlet, Concrete (RelaxedOneHotCategorical), "
            "RelaxedBernoulli, OneHotCategorical or Bernoulli, with .to_event(n) for more than one variable"
        )
    if not base.has_rsample:
        raise NotImplementedError(f"site '{name}' is {describe(fn)} in the guide, whose samples have no gradient")
    return family


def describe(fn: Distribution) -> str:
    """What a distribution is called in a message."""
    base = unwrap(fn)
    if isinstance(base, dist.MaskedDistribution):
        return f"a masked {type(unwrap(base.base_dist)).__name__}"
    return type(base).__name__


def by_variable(tensor: Tensor, shape: torch.Size, event: torch.Size) -> Tensor:
    """A tensor of any broadcastable shape as [S, B, V], in float32 at least: densities in bf16 are off by nats."""
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return wide.expand(*shape, *event).reshape(*shape, -1)


def log_masses(base: Distribution, shape: torch.Size, event: torch.Size) -> Tensor:
    """Log-mass of the categories of every categorical, [S, B, V, K]; of a Bernoulli those of 0 and 1."""
    if isinstance(base, RelaxedBernoulli | Bernoulli):
        logits = by_variable(base.logits, shape, event)
        return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
    assert isinstance(base, RelaxedOneHotCategorical | OneHotCategorical)
    return log_mass(base).expand(*shape, *event).reshape(*shape, -1, event[-1])


def name_list(names: Iterable[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Whether a shape expands to another."""
    try:
        return bool(torch.broadcast_shapes(shape, to) == to)
    except RuntimeError:
        return False
