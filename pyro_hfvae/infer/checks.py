"""What is looked at before and after a step: which sites depend on which, and which site is not finite."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import Distribution, RelaxedBernoulli, RelaxedOneHotCategorical, Transform

from pyro_hfvae.infer.ancestors import components
from pyro_hfvae.infer.enumeration import enumerated_sites, with_every_combination
from pyro_hfvae.infer.latents import latent_shape, name_list, read_log_likelihood, read_posteriors
from pyro_hfvae.infer.rerun import Call, check_leading_dimensions

__all__ = ["NonFiniteError", "check_enumeration", "read_dependence", "refuse_non_finite"]

Program = Callable[..., Any]

MUST_KEEP_FOR_CATEGORIES = (
    "is run with leading dimensions before that of the data, which it must keep (write y[..., 0] for y[:, 0], flatten "
    "nothing)"
)
"""What a model must obey, for messages."""


class NonFiniteError(FloatingPointError):
    """A site of the guide or the model holds NaN or infinity."""


def read_dependence(
    model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, frozenset[str]]:
    """Which latent sites the prior of each latent site depends on directly, in the model's order.

    Provenance of tensors tells (``pyro.infer.inspect``); what a program does with plain numbers, it does not see.

    A guide in which a latent site depends on another is refused. The marginals pair the sample of one datum with the
    posterior of another. Where q(z|x, y) depends on the sample y, that posterior belongs to the other datum's y, and
    the mixture is the marginal of nothing.

    Raises:
        NotImplementedError: the guide has a site that depends on another; names both.
        ValueError: the model has such a site, but does not keep leading dimensions of the latents; names it.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), _buffers_kept(model, guide):
        with TrackProvenance():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        latents = {name for name, site in guide_trace.nodes.items() if site["type"] == "sample"}
        for name in latents:
            upstream = _upstream(guide_trace, name) & latents
            if upstream:
                raise NotImplementedError(
                    f"site '{name}' of the guide depends on the sample of site '{min(upstream)}'; "
                    "the inference marginal needs latent sites that are independent given the data"
                )
        parents = {name: _upstream(model_trace, name) & latents for name in model_trace.nodes if name in latents}
        if any(parents.values()):
            plain = poutine.trace(guide).get_trace(*args, **kwargs)
            call = Call(
                model, args, kwargs, poutine.trace(poutine.replay(model, trace=plain)).get_trace(*args, **kwargs)
            )
            for component in components(parents):
                check_leading_dimensions(call, component.descendants)
        return parents


def check_enumeration(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Runs the model on all categories of the sites that the guide does not relax: it must say the same of the drawn.

    Networks are in evaluation mode meanwhile: dropout and batch statistics would differ between two runs.

    Raises:
        ValueError: it does not, or there are too many categories; names the sites.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), _buffers_kept(model, guide):
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


@contextmanager
def _buffers_kept(*programs: Program) -> Iterator[None]:
    """Running statistics of normalisation layers do not see the extra run: a resumed run must equal a whole one."""
    buffers = [buffer for program in programs if isinstance(program, nn.Module) for buffer in program.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


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
    if isinstance(base, RelaxedBernoulli | RelaxedOneHotCategorical):
        return  # one-hot, as a straight-through sample is, has no finite density; it is the mass that enters the terms
    with pyro.validation_enabled(False):
        yield "log-probability", site["fn"].log_prob(site["value"])
