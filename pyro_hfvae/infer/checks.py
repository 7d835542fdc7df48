"""What is looked at before and after a step: which sites depend on which, and which site is not finite."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import Dirichlet, Distribution, RelaxedBernoulli, RelaxedOneHotCategorical, Transform

from pyro_hfvae.distributions import ConcreteDensity, nearest_category, unwrap
from pyro_hfvae.infer.ancestors import components
from pyro_hfvae.infer.enumeration import enumerated_sites, with_every_combination
from pyro_hfvae.infer.latents import (
    describe,
    latent_shape,
    latent_sites,
    name_list,
    read_log_likelihood,
    read_posteriors,
)
from pyro_hfvae.infer.rerun import Call, buffers_kept, check_leading_dimensions, conditionals, says_the_same

__all__ = [
    "Dependence",
    "NonFiniteError",
    "check_enumeration",
    "read_dependence",
    "read_guide_dependence",
    "refuse_non_finite",
]

Program = Callable[..., Any]

MUST_KEEP_FOR_CATEGORIES = (
    "is run with leading dimensions before that of the data, which it must keep (write y[..., 0] for y[:, 0], flatten "
    "nothing)"
)
"""What a model must obey, for messages."""


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
            _parents(guide_trace),
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


def read_guide_dependence(guide: Program, *args: Any) -> dict[str, frozenset[str]]:
    """Of every latent site of a guide, in its order, those that its distribution depends on directly."""
    with (
        torch.random.fork_rng(),
        torch.no_grad(),
        pyro.validation_enabled(False),
        buffers_kept(guide),
        TrackProvenance(),
    ):
        return _parents(poutine.trace(guide).get_trace(*args))


def _check_structured_guide(call: Call, parents: Mapping[str, frozenset[str]]) -> None:
    sites, enumerated = latent_sites(call.trace), enumerated_sites(call.trace)
    for name, site in sites.items():
        base = unwrap(site["fn"])
        if name in enumerated:
            raise NotImplementedError(
                f"site '{name}' is {describe(base)} in a guide whose sites depend on one another: what depends on it "
                "cannot be summed over its categories; use Concrete"
            )
        if isinstance(base, Dirichlet | RelaxedBernoulli | ConcreteDensity):
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


def check_enumeration(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Runs the model on all categories of the sites that the guide does not relax: it must say the same of the drawn.

    Networks are in evaluation mode meanwhile: dropout and batch statistics would differ between two runs.

    Raises:
        ValueError: it does not, or there are too many categories; names the sites.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), buffers_kept(model, guide):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        given = with_every_combination(guide_trace)
        if given is guide_trace:
            return
        shape = latent_shape(read_posteriors(guide_trace))
        with _evaluating(model):
            drawn = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
            names = list(enumerated_sites(guide_trace))
            must = f"with the sites {name_list(names)} summed over, the model {MUST_KEEP_FOR_CATEGORIES}"
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
            of_chosen = torch.where(chosen, read_log_likelihood(whole, chosen.shape), 0.0).sum(0)
            fits = torch.allclose(of_chosen, read_log_likelihood(drawn, shape), rtol=1e-3, atol=1e-3)
        except ValueError:  # shapes that do not fit
            fits = False
        if not fits:
            raise ValueError(f"the likelihood changes where the latents get leading dimensions: {must}")


@contextmanager
def _evaluating(program: Program) -> Iterator[None]:
    """A program that is a module is in evaluation mode for a while."""
    modules = list(program.modules()) if isinstance(program, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _parents(trace: Trace) -> dict[str, frozenset[str]]:
    """Of every latent site of a trace with provenance, the latent sites that it depends on directly."""
    latents = latent_sites(trace)
    return {name: _upstream(trace, name) & set(latents) for name in latents}


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
    base = unwrap(site["fn"])
    for parameter in getattr(base, "arg_constraints", {}):
        tensor = getattr(base, parameter, None)
        if isinstance(tensor, Tensor):
            yield parameter, tensor
    yield "value", site["value"]
    if isinstance(base, RelaxedBernoulli | RelaxedOneHotCategorical):
        return  # one-hot, as a straight-through sample is, has no finite density; it is the mass that enters the terms
    with pyro.validation_enabled(False):
        yield "log-probability", site["fn"].log_prob(site["value"])
