r"""Distributions whose parameters are gated.

.. math:: \mathrm{gate}(v, g) = g\, v + (1 - g)\, \mathrm{stop\_gradient}(v), \qquad g \in \{0, 1\}
"""

import copy

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, transforms
from torch.distributions.transforms import Transform
from torch.distributions.utils import lazy_property

__all__ = ["gate_distribution", "gate_tensor"]


def gate_tensor(value: Tensor, mask: Tensor) -> Tensor:
    """The value, to the bit, whose gradient is exactly 0 where the mask is False; of their broadcast shape."""
    return torch.where(mask, value, value.detach()) if value.requires_grad else value


def gate_distribution(fn: Distribution, mask: Tensor) -> Distribution:
    """A distribution of the same class whose samples and densities are the same, with gated parameters.

    It is a copy, tensor by tensor: the constructor would normalise or factorise the parameters once more, and the last
    bits would differ. A parameter that all data share is expanded to one for each.

    Args:
        fn: the distribution.
        mask: boolean, with one dimension for each of batch and event, [*batch, *event]; of size 1 along the event
            dimensions for a gate of the whole site.

    Raises:
        NotImplementedError: fn, or what it is made of, cannot be copied so; says what of it.
    """
    sliced = any(size > 1 for size in mask.shape[len(fn.batch_shape) :])
    return _gated(fn, mask, sliced)


def _gated(fn: Distribution, mask: Tensor, sliced: bool) -> Distribution:
    new = copy.copy(fn)
    for name, part in vars(fn).items():
        if isinstance(part, Distribution):
            inner = isinstance(fn, Independent | TransformedDistribution) or part.batch_shape == fn.batch_shape
            if sliced and not inner:
                raise NotImplementedError(_dependent(fn))
            new.__dict__[name] = _gated(part, mask, sliced)
        elif isinstance(part, Tensor):
            if not part.requires_grad:
                continue
            event_dim = _event_dim(fn, name)
            if event_dim is not None:
                new.__dict__[name] = gate_tensor(part, _aligned(mask, fn, event_dim))
            elif isinstance(getattr(type(fn), name, None), lazy_property):
                del new.__dict__[name]  # it will be made again, of the gated parameters
            else:
                raise NotImplementedError(
                    f"{type(fn).__name__} has a '{name}' that learns and is no parameter per datum"
                )
        elif name == "transforms":
            new.__dict__[name] = [_gated_transform(transform, mask, sliced) for transform in part]
        elif not isinstance(part, bool | int | float | str | Size | None):
            raise NotImplementedError(f"{type(fn).__name__} holds '{name}', which may depend on parameters unseen")
    return new


_FACTORS = {"_unbroadcasted_scale_tril": 2, "_unbroadcasted_cov_factor": 2, "_capacitance_tril": 2}
_FACTORS |= {"_unbroadcasted_cov_diag": 1}
"""What multivariate normals keep of their parameters, with event dimensions."""


def _event_dim(fn: Distribution, name: str) -> int | None:
    """Trailing dimensions of a tensor that belong to one value of the parameter; None if it is no parameter."""
    if isinstance(fn, dist.Delta):  # whose constraint does not tell
        return {"v": fn.event_dim, "log_density": 0}.get(name)
    if name in fn.arg_constraints:
        return fn.arg_constraints[name].event_dim
    for public, constraint in fn.arg_constraints.items():
        if vars(fn).get(public) is vars(fn)[name]:
            return constraint.event_dim
    return _FACTORS.get(name)


def _aligned(mask: Tensor, fn: Distribution, event_dim: int) -> Tensor:
    """The mask with the dimensions of a parameter, [*batch, 1, …]."""
    batch_dim = len(fn.batch_shape)
    if any(size > 1 for size in mask.shape[batch_dim:]):
        raise NotImplementedError(_dependent(fn))
    front = mask.shape[:batch_dim]
    return mask.reshape(front + (1,) * (batch_dim - len(front) + event_dim))


def _dependent(part: Distribution | Transform) -> str:
    return f"the variables of {type(part).__name__} depend on one another, and only all of them can be gated together"


_CONSTANT = (
    transforms.AbsTransform,
    transforms.ExpTransform,
    transforms.SigmoidTransform,
    transforms.SoftmaxTransform,
    transforms.SoftplusTransform,
    transforms.StickBreakingTransform,
    transforms.TanhTransform,
)
"""Transforms without parameters."""


def _gated_transform(transform: Transform, mask: Tensor, sliced: bool) -> Transform:
    if sliced and (transform.domain.event_dim or transform.codomain.event_dim):
        raise NotImplementedError(_dependent(transform))
    if isinstance(transform, _CONSTANT):
        return transform
    if isinstance(transform, transforms.ComposeTransform):
        return transforms.ComposeTransform([_gated_transform(part, mask, sliced) for part in transform.parts])
    if not isinstance(transform, transforms.AffineTransform | transforms.PowerTransform):
        raise NotImplementedError(f"the transform {type(transform).__name__} may have parameters that all data share")
    new = copy.copy(transform)
    new._cached_x_y = None, None
    new._inv = None
    for name, part in vars(transform).items():
        if isinstance(part, Tensor) and name != "_inv":
            new.__dict__[name] = gate_tensor(part, mask)  # it has the dimensions of a sample, or fewer
    return new
