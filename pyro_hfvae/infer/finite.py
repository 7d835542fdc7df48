"""Names the site that is not finite where a term is not."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyro
import torch
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.sites import read_site

__all__ = ["NonFiniteError", "refuse_non_finite"]


class NonFiniteError(FloatingPointError):
    """A site of the guide or the model holds NaN or infinity."""


def refuse_non_finite(values: Mapping[str, Tensor], model_trace: Trace, guide_trace: Trace) -> None:
    """Raises if a value is not finite, naming the first site that is not.

    Raises:
        NonFiniteError: names the site and what of it is not finite.
    """
    if torch.stack([value.detach() for value in values.values()]).isfinite().all():
        return
    for program, trace in (("guide", guide_trace), ("model", model_trace)):
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            for what, value in _tensors(dict(site)):
                wrong = int((~value.isfinite()).sum())
                if wrong:
                    raise NonFiniteError(
                        f"site '{name}' of the {program} has a {what} that is not finite "
                        f"({wrong} of {value.numel()} numbers)"
                    )
    names = ", ".join(name for name, value in values.items() if not value.isfinite())
    raise NonFiniteError(f"not finite: {names}")


def _tensors(site: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    base = unwrap(site["fn"])
    for parameter in getattr(base, "arg_constraints", {}):
        tensor = getattr(base, parameter, None)
        if isinstance(tensor, Tensor):
            yield parameter, tensor
    yield "value", site["value"]
    if read_site(site["name"], site["fn"], site["value"]).relaxed:
        return  # one-hot, as a straight-through sample is, has no finite density; it is the mass that enters the terms
    with pyro.validation_enabled(False):
        yield "log-probability", site["fn"].log_prob(site["value"])
