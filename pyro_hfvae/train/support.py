"""Whether data lie where their likelihood is defined: outside of it a program raises nothing and trains on nonsense."""

from typing import Any

from pyro.distributions import constraints
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.sites import describe, read_site

__all__ = ["refuse_outside_support"]


def refuse_outside_support(of_model: Trace) -> None:
    """Refuses data outside of the support of their distribution, and pixels that were not divided by 255.

    Grey values from 0 to 1 under a Bernoulli are taken as its mean. What is masked may be anything.

    Raises:
        ValueError: names the site, the range of the data and what is expected.
    """
    for name, site in of_model.nodes.items():
        if site["type"] != "sample" or not site["is_observed"]:
            continue
        fn: Any = site["fn"]
        value = site["value"]
        support = _support(fn)
        if support is None or not isinstance(value, Tensor) or not value.numel():
            continue
        if site["mask"] is not None or read_site(name, fn, value).masked:
            continue
        if getattr(support, "base_constraint", support) is constraints.boolean:
            inside, expected = ((value >= 0) & (value <= 1)).all(), "values from 0 to 1"
        else:
            inside, expected = support.check(value).all(), str(support).removeprefix("IndependentConstraint")
        if not inside:
            raise ValueError(
                f"the data of the observed site '{name}' go from {value.min():g} to {value.max():g}, outside of the "
                f"support of its distribution, {describe(fn)}: expected {expected}"
            )
        if value.ndim == 4 and not support.is_discrete and 1 < value.max() <= 255 and _whole(value):
            raise ValueError(
                f"the images of the observed site '{name}' are whole numbers from {value.min():g} to {value.max():g}, "
                f"but its distribution, {describe(fn)}, is continuous: divide pixels by 255"
            )


def _support(fn: Any) -> Any:
    try:
        support = fn.support
    except (AttributeError, NotImplementedError):  # a distribution of the user's own need not have one
        return None
    return None if constraints.is_dependent(support) else support


def _whole(value: Tensor) -> bool:
    """Whether all are whole numbers not below 0, to the rounding of a division and a product."""
    return bool(value.min() >= 0 and (value - value.round()).abs().max() < 1e-3)
