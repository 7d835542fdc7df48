"""What is looked at before and after a step: which sites depend on which, and which site is not finite."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from pyro_hfvae.infer.ancestors import components
from pyro_hfvae.infer.rerun import Call, check_leading_dimensions

__all__ = ["NonFiniteError", "read_dependence", "refuse_non_finite"]

Program = Callable[..., Any]


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
    with pyro.validation_enabled(False):
        yield "log-probability", site["fn"].log_prob(site["value"])
