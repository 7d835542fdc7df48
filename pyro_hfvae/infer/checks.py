"""What is looked at before and after a step: whether the programs factorise, and which site is not finite."""

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
from torch.distributions import Distribution

__all__ = ["NonFiniteError", "refuse_dependent_sites", "refuse_non_finite"]

Program = Callable[..., Any]


class NonFiniteError(FloatingPointError):
    """A site of the guide or the model holds NaN or infinity."""


def refuse_dependent_sites(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuses programs in which a latent site depends on another latent.

    The marginals pair the sample of one datum with the posterior of another. Where q(z|x, y) depends on the sample y,
    that posterior belongs to the other datum's y, and the mixture is the marginal of nothing; where p(z|y) does, p(z)
    is not what its site says. Provenance of tensors tells (``pyro.infer.inspect``).

    Raises:
        NotImplementedError: names both sites.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), _buffers_kept(model, guide):
        with TrackProvenance():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        latents = {name for name, site in guide_trace.nodes.items() if site["type"] == "sample"}
        for program, trace in (("guide", guide_trace), ("model", model_trace)):
            for name in latents & set(trace.nodes):
                parameters = list(_tensors(trace.nodes[name]["fn"]))
                upstream = frozenset().union(*map(get_provenance, parameters)) & latents - {name}
                if upstream:
                    raise NotImplementedError(_REASONS[program].format(site=name, other=min(upstream)))


_REASONS = {
    "guide": "site '{site}' of the guide depends on the sample of site '{other}'; "
    "the inference marginal needs latent sites that are independent given the data",
    "model": "the prior of site '{site}' depends on site '{other}'; the terms need priors that do not",
}


def _tensors(fn: object) -> Iterator[Tensor]:
    """Every tensor that a distribution holds, those of the distributions that it wraps included."""
    for value in vars(fn).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Distribution):
            yield from _tensors(value)


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
