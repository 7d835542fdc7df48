"""Reads the traces of guide and model: which plate holds the data, which sites are local, and what is observed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Size, Tensor
from torch.distributions import Distribution

from pyro_hfvae.distributions import is_factor
from pyro_hfvae.sites.observed import masks_of

__all__ = [
    "DataPlate",
    "global_observed",
    "is_auxiliary",
    "latent_sites",
    "log_likelihood",
    "name_list",
    "observed_sites",
    "where_known",
]

PARTICLES = "num_particles_vectorized"
"""The plate that Pyro puts around vectorised particles."""

Message = dict[str, Any]


def latent_sites(trace: Trace) -> dict[str, Message]:
    """The sample sites that are not observed, by name."""
    return {name: site for name, site in _sample_sites(trace) if not site["is_observed"]}


def observed_sites(trace: Trace) -> dict[str, Message]:
    """The sample sites that are observed, by name."""
    return {name: site for name, site in _sample_sites(trace) if site["is_observed"]}


def where_known(site: Message) -> Tensor:
    """Where an observed site has values that count: neither missing (NaN) nor masked; in the shape of its values."""
    fn, value = site["fn"], torch.as_tensor(site["value"])
    known, whole = ~value.isnan(), len(fn.batch_shape) + len(fn.event_shape)
    masks = [] if site.get("mask") is None else [torch.as_tensor(site["mask"]).expand(fn.batch_shape)]
    for mask in [*masks, *masks_of(fn)]:
        known = known & mask.reshape(mask.shape + (1,) * (whole - mask.dim())).to(known.device)
    return known


def is_auxiliary(site: Message) -> bool:
    """Whether a guide's site is one that an autoguide makes another of, which the model lacks."""
    return bool((site["infer"] or {}).get("is_auxiliary"))


def name_list(names: Iterable[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def _sample_sites(trace: Trace) -> list[tuple[str, Message]]:
    return [
        (name, cast(Message, site))
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not (site["infer"] or {}).get("_deterministic")
    ]


@dataclass(frozen=True)
class DataPlate:
    """The plate that holds one entry for each datum: the outermost one around the observed sites.

    What is in it is local to a datum; latents outside are global, one for the data set. In programs without plates
    every site is local.
    """

    name: str | None
    dim: int
    """Of the batch shape, from the right."""
    size: int
    """B; 0 where there is no plate."""
    full_size: int
    """The size of the data set that the plate takes a subsample of, or B."""
    locals: frozenset[str]
    """Names of the latent sites that are in it, in guide or model."""

    @property
    def inner(self) -> int:
        """Batch dimensions to the right of the data, which count as event dimensions."""
        return -self.dim - 1

    def holds(self, site: Message) -> bool:
        """Whether a site is in the plate."""
        return self.name is None or any(frame.name == self.name for frame in site["cond_indep_stack"])

    def local(self, fn: Distribution) -> Distribution:
        """The distribution of a local site with the plates to the right of the data as event dimensions."""
        made: Any = fn
        return made.to_event(self.inner) if self.inner else fn

    @staticmethod
    def of(guide_trace: Trace, model_trace: Trace | None = None) -> "DataPlate":
        """The data plate of a guide and a model, or of a guide alone.

        Raises:
            ValueError: several plates may be that of the data; names them.
        """
        latents = {n: site for n, site in latent_sites(guide_trace).items() if not is_auxiliary(site)}
        priors = {} if model_trace is None else latent_sites(model_trace)
        observed = {} if model_trace is None else observed_sites(model_trace)
        outermost = [_outermost(sites.values()) for sites in (observed, latents, priors)]
        found = outermost[0]
        for more in outermost[1:]:
            found = {name: found[name] for name in found if name in more} or found or more
        if len(found) > 1:
            found = {name: frame for name, frame in found.items() if name == "data"} or found
        if len(found) > 1:
            raise ValueError(
                f"the plates {name_list(found)} could each hold the data; put one around the observed sites, or name "
                "one 'data'"
            )
        if not found:
            return DataPlate(None, -1, 0, 0, frozenset(latents))
        (frame,) = found.values()
        plate = DataPlate(frame.name, frame.dim, frame.size, frame.full_size or frame.size, frozenset())
        names = [name for name in latents if plate.holds(latents[name]) or plate.holds(priors.get(name, latents[name]))]
        return DataPlate(plate.name, plate.dim, plate.size, plate.full_size, frozenset(names))


def _outermost(sites: Iterable[Message]) -> dict[str, Any]:
    """The outermost plates of some sites, by name."""
    stacks = ([f for f in site["cond_indep_stack"] if f.vectorized and f.name != PARTICLES] for site in sites)
    return {stack[0].name: stack[0] for stack in stacks if stack}


def log_likelihood(model_trace: Trace, shape: Size, plate: DataPlate) -> Tensor:
    """Σ log p(x|z) over the observed sites of the data, unscaled, for each particle and datum; 0 where masked.

    Args:
        model_trace: the model's trace.
        shape: [S, B], or more dimensions in front.
        plate: of the data.

    Raises:
        ValueError: no observed site, an observation of another shape than its distribution, or more batch dimensions
            than the data have; names the site.
    """
    sites = observed_sites(model_trace)
    if not sites:
        raise ValueError("the model observes nothing: give one of its sample sites obs=…")
    local = {name: site for name, site in sites.items() if plate.holds(site)}
    total = torch.zeros(shape, device=next(iter(sites.values()))["value"].device)
    for name, site in local.items():
        _check_observation(name, site, plate)
        log_prob = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
        if plate.inner:
            log_prob = log_prob.sum(tuple(range(-plate.inner, 0)))
        fits = log_prob.dim() > 0 and log_prob.shape[-1] == shape[-1] and broadcasts(log_prob.shape, shape)
        if not fits:
            raise ValueError(
                f"the observed site '{name}' has log-probabilities of shape {tuple(log_prob.shape)}, which is not one "
                f"for each of the {shape[-1]} data; sample it in the plate of the data and declare its other "
                "dimensions with .to_event(n)"
            )
        total = total + log_prob
    return total


def _check_observation(name: str, site: Message, plate: DataPlate) -> None:
    """Refuses a value that only fits its distribution by broadcasting."""
    fn, value = site["fn"], site["value"]
    if is_factor(fn):
        return
    event = len(fn.event_shape)
    batch = value.shape[: value.dim() - event]
    trailing = plate.inner + 1
    wanted = fn.batch_shape[max(0, len(fn.batch_shape) - trailing) :]
    if value.shape[value.dim() - event :] != fn.event_shape or batch[max(0, len(batch) - trailing) :] != wanted:
        raise ValueError(
            f"the observed site '{name}' is given a value of shape {tuple(value.shape)}, but its distribution has the "
            f"batch shape {tuple(fn.batch_shape)} and the event shape {tuple(fn.event_shape)}: they must be the same, "
            "not only broadcast"
        )


def global_observed(model_trace: Trace, plate: DataPlate) -> dict[str, Tensor]:
    """log-probabilities of the observed sites outside the plate of the data, summed, by name."""
    sites = {name: site for name, site in observed_sites(model_trace).items() if not plate.holds(site)}
    return {name: total_log_prob(site) for name, site in sites.items()}


def total_log_prob(site: Message) -> Tensor:
    """The log-probability of a site, unscaled, summed over its batch and averaged over vectorised particles."""
    log_prob: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"]).sum()
    particles = [frame.size for frame in site["cond_indep_stack"] if frame.name == PARTICLES]
    return log_prob / particles[0] if particles else log_prob


def common_scale(guide_trace: Trace, model_trace: Trace, plate: DataPlate) -> float | Tensor:
    """The scale that plates or ``poutine.scale`` put on every site of the data.

    Raises:
        NotImplementedError: sites are scaled differently, or latents masked; names the site.
    """
    latents = [*latent_sites(guide_trace).items(), *latent_sites(model_trace).items()]
    for name, site in latents:
        if site["mask"] is not None:
            raise NotImplementedError(f"latent site '{name}' is masked; masks are supported on observed sites only")
    sites = [*latents, *observed_sites(model_trace).items()]
    inside = [(name, site) for name, site in sites if name in plate.locals or (plate.holds(site))]
    first, scale = inside[0][0], inside[0][1]["scale"]
    share = plate.size / plate.full_size if plate.full_size else 1.0
    for name, site in sites:
        local = name in plate.locals or plate.holds(site)
        if site["scale"] is scale or _equal(site["scale"], scale):
            continue
        if not local and _equal(site["scale"], scale * share):
            continue
        raise NotImplementedError(
            f"site '{name}' and site '{first}' are scaled differently; all sites must have the same scale: "
            "weight the terms instead"
        )
    return scale  # type: ignore[no-any-return]


def _equal(one: float | Tensor, other: float | Tensor) -> bool:
    if not isinstance(one, Tensor) and not isinstance(other, Tensor):
        return math.isclose(one, other, rel_tol=1e-5)
    return bool(
        torch.isclose(torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(other, dtype=torch.float64)).all()
    )


def broadcasts(shape: Size, to: Size) -> bool:
    """Whether a shape expands to another."""
    try:
        return bool(torch.broadcast_shapes(shape, to) == to)
    except RuntimeError:
        return False
