"""The parameters of posteriors that data share or swap, and distributions made of other ones."""

from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import Distribution, Normal, OneHotCategorical, RelaxedOneHotCategorical

from pyro_hfvae.distributions import log_mass, unwrap

__all__ = ["posterior_parameters", "with_parameters"]


def posterior_parameters(name: str, fn: Any) -> list[Tensor]:
    """loc and scale, [*batch, *event]; or the log-mass of the categories, [*batch, *event]."""
    base, shape = cast(Any, unwrap(fn)), fn.batch_shape + fn.event_shape
    if isinstance(base, Normal):
        return [base.loc.expand(shape), base.scale.expand(shape)]
    if isinstance(base, OneHotCategorical | RelaxedOneHotCategorical):
        return [log_mass(base).expand(shape)]
    raise NotImplementedError(
        f"site '{name}' is {type(base).__name__}, whose posteriors are not combined here: share or swap normal and "
        "categorical sites"
    )


def with_parameters(fn: Any, parameters: Sequence[Tensor]) -> Distribution:
    """A distribution of the same class with other parameters."""
    base, event = cast(Any, unwrap(fn)), len(fn.event_shape)
    if len(parameters) == 2:
        loc, scale = parameters
        return dist.Normal(loc, scale, validate_args=False).to_event(event)  # type: ignore[no-any-return]
    temperature = [base.temperature] if isinstance(base, RelaxedOneHotCategorical) else []
    return type(base)(*temperature, logits=parameters[0], validate_args=False).to_event(event - 1)  # type: ignore[no-any-return]
