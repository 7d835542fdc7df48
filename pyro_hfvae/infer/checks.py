"""What is looked at before and after a step: which sites depend on which, and which site is not finite."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, RelaxedBernoulli, RelaxedOneHotCategorical, Transform

from pyro_hfvae.distributions import nearest_category
from pyro_hfvae.infer.ancestors import components
from pyro_hfvae.infer.latents import describe, latent_sites, unwrap
from pyro_hfvae.infer.rerun import Call, buffers_kept, check_leading_dimensions, conditionals, says_the_same

__all__ = ["Dependence", "NonFiniteError", "read_dependence", "refuse_non_finite"]

Program = Callable[..., Any]


class NonFiniteError(FloatingPointError):
    """A site of the guide or the model holds NaN or infinity."""


@dataclass(frozen=True)
class Dependence:
    """Of every latent site, in the order of the program, those whose samples its distribution depends on directly."""

    model: Mapping[str, frozenset[str]]
    """In the model."""
    guide: Mapping[str, frozenset[str]]
    """In the guide."""

    @property
    def structured_guide(self) -> bool:
        """Whether a site of the guide depends on another."""
        return any(self.guide.values())


def read_dependence(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Dependence:
    """Which latent sites the prior, and the guide's conditional, of each latent site depend on directly.

    Provenance of tensors tells (``pyro.infer.inspect``); what a program does with plain numbers, it does not see.

    Raises:
        ValueError: a program has a site that depends on another, but does not keep leading dimensions of the latents,
            or the guide does not say the same twice; names the site.
        NotImplementedError: a site of the guide depends on the relaxed sample of a discrete one, or is of a kind that
            such a guide cannot have; names the site.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), buffers_kept(model, guide):
        with TrackProvenance():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        latents = latent_sites(guide_trace)
        found = Dependence(
            {name: _upstream(model_trace, name) & set(latents) for name in model_trace.nodes if name in latents},
            {name: _upstream(guide_trace, name) & set(latents) for name in latents},
        )
        if any(found.model.values()) or found.structured_guide:
            plain = poutine.trace(guide).get_trace(*args, **kwargs)
        if found.structured_guide:
            _check_structured_guide(Call(guide, args, kwargs, plain, "guide"), found.guide)
        if any(found.model.values()):
            call = Call(
                model, args, kwargs, poutine.trace(poutine.replay(model, trace=plain)).get_trace(*args, **kwargs)
            )
            for component in components(found.model):
                check_leading_dimensions(call, component.descendants)
        return found


def _check_structured_guide(call: Call, parents: Mapping[str, frozenset[str]]) -> None:
    sites = latent_sites(call.trace)
    for name, site in sites.items():
        base = unwrap(site["fn"])
        if isinstance(base, Dirichlet | RelaxedBernoulli):
            raise NotImplementedError(
                f"site '{name}' is {describe(base)} in a guide whose sites depend on one another: its marginals are "
                "not known there"
            )
    check_leading_dimensions(call, sites)
    discrete = {name for name, site in sites.items() if isinstance(unwrap(site["fn"]), RelaxedOneHotCategorical)}

    def vertex(name: str, _: object = None) -> Tensor:
        value: Tensor = sites[name]["value"]
        return nearest_category(value) if name in discrete else value

    for name, fn in conditionals(call, vertex, sites, sites).items():
        above = sorted(parents[name] & discrete)
        if above and not says_the_same(fn, sites[name]["fn"], sites[name]["value"]):
            raise NotImplementedError(
                f"site '{name}' of the guide depends on the relaxed sample of site '{above[0]}', whose density is not "
                "known; let it read the category, pyro_hfvae.distributions.nearest_category(y), which is one-hot and "
                "lets the gradient through"
            )


def _upstream(trace: Trace, name: str) -> frozenset[str]:
    """The other sites whose samples the parameters of a site come from."""
    parts = [get_provenance(tensor) for tensor in _tensors(trace.nodes[name]["fn"])]
    return frozenset[str]().union(*parts) - {name}


def _tensors(part: object) -> Iterator[Tensor]:
    """Every tensor that a distribution holds, those of the distributions and transforms that it is made of included."""
    for value in vars(part).values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Tensor):
                yield item
            elif isinstance(item, Distribution | Transform):
                yield from _tensors(item)


def refuse_non_finite(terms: Mapping[str, Tensor], model_trace: Trace, guide_trace: Trace) -> None:
    """Raises if a term is not finite, naming the first site that is not.

    Raises:
        NonFiniteError: names the site and what of it is not finite.
    """
    if torch.stack([term.detach() for term in terms.values()]).isfinite().all():
        return
    for program, trace in (("guide", guide_trace), ("model", model_trace)):
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            for what, value in _parts(dict(site)):
                wrong = int((~value.isfinite()).sum())
                if wrong:
                    raise NonFiniteError(
                        f"site '{name}' of the {program} has a {what} that is not finite "
                        f"({wrong} of {value.numel()} numbers)"
                    )
    names = ", ".join(name for name, term in terms.items() if not term.isfinite())
    raise NonFiniteError(f"not finite: {names}")


def _parts(site: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    base: Distribution = site["fn"]
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    for parameter in getattr(base, "arg_constraints", {}):
        tensor = getattr(base, parameter, None)
        if isinstance(tensor, Tensor):
            yield parameter, tensor
    yield "value", site["value"]
    with pyro.validation_enabled(False):
        yield "log-probability", site["fn"].log_prob(site["value"])
