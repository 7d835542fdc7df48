"""The local latents of guide and model as sites, and what is refused of them."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Size, Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import identity_transform

from pyro_hfvae.infer.traces import PARTICLES, DataPlate, Message, is_auxiliary, latent_sites, name_list, observed_sites
from pyro_hfvae.sites import DiscreteSite, Site, describe, entering_as, map_parameters, read_site, transformed

__all__ = ["posterior_sites", "prior_sites"]


def posterior_sites(guide_trace: Trace, model_trace: Trace | None, plate: DataPlate) -> dict[str, Site]:
    """The local latent sites of the guide, with their samples.

    Raises:
        ValueError: no latent site, or batch shapes that are not [B] ([S, B] with vectorised particles).
        NotImplementedError: an observed site, or a distribution that cannot be a posterior; names the site.
    """
    for name in observed_sites(guide_trace):
        raise NotImplementedError(
            f"the guide observes site '{name}'; observed guide sites are not supported: use "
            "pyro_hfvae.poutine.observe_labels for labels of some of the data"
        )
    sites = {name: site for name, site in latent_sites(guide_trace).items() if name in plate.locals}
    if not sites:
        raise ValueError("the guide samples no latent site for each datum")
    first, expected = "", Size()
    found = {}
    for name, site in sites.items():
        fn = plate.local(_posterior(name, site, guide_trace, model_trace))
        _check_batch(name, site, fn, plate)
        if not first:
            first, expected = name, fn.batch_shape
        if fn.batch_shape != expected:
            raise ValueError(
                f"site '{name}' has the batch shape {tuple(fn.batch_shape)}, but site '{first}' {tuple(expected)}; "
                "sites that all data share belong outside the plate of the data"
            )
        found[name] = _checked_posterior(name, _site(name, fn, site["value"]))
    return found


def _site(name: str, fn: Distribution, value: Tensor) -> Site:
    """The site, in float32 at least: densities in bfloat16 are off by nats."""
    site = read_site(name, fn, value)
    if value.dtype in (torch.bfloat16, torch.float16):
        wide = site.double()
        return wide if wide is site else wide.at(_cast(wide.fn, torch.float32), value.float())
    return site


def _cast(fn: Distribution, dtype: torch.dtype) -> Distribution:
    return map_parameters(fn, lambda tensor, *_: tensor.to(dtype), fn.batch_shape)


def _posterior(name: str, site: Message, guide_trace: Trace, model_trace: Trace | None) -> Distribution:
    """The distribution of a site; that behind the two sites of an autoguide."""
    fn: Distribution = site["fn"]
    if not read_site(name, fn, site["value"]).point:
        return fn
    auxiliary = latent_sites(guide_trace).get(f"{name}_unconstrained")
    if auxiliary is None or model_trace is None or not is_auxiliary(auxiliary):
        raise NotImplementedError(
            f"site '{name}' is Delta in the guide, a point estimate, which has no density: its information about the "
            "data is unbounded; give it a distribution (of autoguides AutoNormal has one for each site)"
        )
    transform = biject_to(latent_sites(model_trace)[name]["fn"].support)
    base: Any = auxiliary["fn"]
    if transform == identity_transform or transform.domain is transform.codomain:
        return base  # type: ignore[no-any-return]
    return transformed(base, transform)


def _check_batch(name: str, site: Message, fn: Distribution, plate: DataPlate) -> None:
    shape = fn.batch_shape
    vectorized = any(frame.name == PARTICLES for frame in site["cond_indep_stack"])
    if not 1 <= len(shape) <= 2 or (len(shape) == 2 and not vectorized):
        left = [f for f in site["cond_indep_stack"] if f.vectorized and f.dim < plate.dim and f.name != PARTICLES]
        hint = "declare inner dimensions with .to_event(n), and sample the site for each datum"
        if left and plate.name is not None:
            hint = (
                f"plate '{left[0].name}' is to the left of the plate of the data, '{plate.name}'; give the latter the "
                f"dimension to its left, dim={left[0].dim - 1}, or declare the other's with .to_event(n)"
            )
        raise ValueError(
            f"site '{name}' has the batch shape {tuple(site['fn'].batch_shape)} in the guide; it must be (B,), one "
            f"entry for each datum: {hint}"
        )
    if len(shape) == 1 and vectorized:
        raise ValueError(f"site '{name}' is in no plate over the data, which vectorize_particles needs")


def _checked_posterior(name: str, site: Site) -> Site:
    fn = site.fn
    if site.masked:
        raise NotImplementedError(
            f"site '{name}' is {describe(fn)} in the guide: masked latents have no marginal; masks are supported on "
            "observed sites only"
        )
    if not site.discrete and not fn.has_rsample:
        raise NotImplementedError(
            f"site '{name}' is {describe(fn)} in the guide, whose samples have no gradient; use a distribution with "
            "reparameterised samples (has_rsample), or a categorical, which is summed over"
        )
    return site


_CURVED = ("Simplex", "CorrCholesky", "LowerCholesky", "PositiveDefinite", "Sphere", "OneHot", "Symmetric")
"""Supports on which a value has fewer free numbers than entries: densities on them and on others do not compare."""


def _surface(fn: Distribution) -> str | None:
    try:
        support = type(getattr(fn.support, "base_constraint", fn.support)).__name__
    except NotImplementedError:
        return None
    return next((name for name in _CURVED if name.lower() in support.lower().replace("_", "")), None)


def prior_sites(
    model_trace: Trace, posteriors: Mapping[str, Site], guide_trace: Trace, plate: DataPlate
) -> dict[str, Site]:
    """The model's distributions of the local latents, at the guide's samples.

    Raises:
        ValueError: sites that model and guide do not share, or whose event shapes differ; names the site.
        NotImplementedError: a prior that does not fit the posterior; names the site.
    """
    sites, guide_sites = latent_sites(model_trace), latent_sites(guide_trace)
    guide_names = [name for name in guide_sites if not is_auxiliary(guide_sites[name])]
    for name in guide_names:
        if name not in sites:
            raise ValueError(f"the guide samples site '{name}', which the model lacks; its latents: {name_list(sites)}")
    for name in sites:
        if name not in guide_sites:
            raise ValueError(f"the guide lacks the model's latent site '{name}'; it samples: {name_list(guide_names)}")
    found = {}
    for name, posterior in posteriors.items():
        fn = plate.local(sites[name]["fn"])
        if fn.event_shape != posterior.fn.event_shape:
            raise ValueError(
                f"site '{name}' has the event shape {tuple(posterior.fn.event_shape)} in the guide but "
                f"{tuple(fn.event_shape)} in the model"
            )
        prior = entering_as(posterior, _site(name, fn, guide_sites[name]["value"]))
        _check_prior(name, posterior, prior)
        found[name] = prior
    return found


def _check_prior(name: str, posterior: Site, prior: Site) -> None:
    one, other = describe(posterior.fn), describe(prior.fn)
    if prior.masked:
        raise NotImplementedError(
            f"site '{name}' is {other} in the model: masked latents have no marginal; masks are supported on observed "
            "sites only"
        )
    if prior.point:
        raise NotImplementedError(f"site '{name}' is Delta in the model, which has no density; use a narrow Normal")
    if isinstance(posterior, DiscreteSite) or isinstance(prior, DiscreteSite):
        same = isinstance(posterior, DiscreteSite) and isinstance(prior, DiscreteSite)
        if not same or posterior.categories != prior.categories or posterior.binary != prior.binary:  # type: ignore[attr-defined]
            kind = (
                "Bernoulli or RelaxedBernoulli"
                if getattr(posterior, "binary", False)
                else "OneHotCategorical or Concrete"
            )
            must = (
                f"its prior must be {kind}" if isinstance(posterior, DiscreteSite) else "make both discrete, or neither"
            )
            raise NotImplementedError(f"site '{name}' is {one} in the guide but {other} in the model; {must}")
    elif _surface(posterior.fn) != _surface(prior.fn):
        raise NotImplementedError(
            f"site '{name}' is {one} in the guide but {other} in the model, whose values lie on another surface: their "
            "densities do not compare; use one family, or distributions of the same support, for both"
        )
