"""Distributions as trees of tensors: the parameters of each datum, taken out, changed and put back."""

import copy
from collections.abc import Callable, Sequence

import pyro.distributions as dist
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, transforms
from torch.distributions.transforms import Transform
from torch.distributions.utils import lazy_property

__all__ = ["Change", "map_parameters", "parameters", "with_parameters"]

Change = Callable[[Tensor, Size, int], Tensor]
"""From a parameter, the shape that it expands to and the number of its event dimensions to another parameter."""


def map_parameters(
    fn: Distribution, change: Change, batch: Size | None = None, *, variables: bool = False
) -> Distribution:
    """A copy of a distribution with other parameters, made tensor by tensor.

    The constructor is not called: it would normalise or factorise the parameters again, and the last bits of samples
    and densities would differ.

    Args:
        fn: the distribution, of any batch shape.
        change: makes each new parameter.
        batch: the new batch shape; that of fn by default. With one, tensors that the distribution derives from its
            parameters are dropped and made again when they are asked for.
        variables: whether the change differs between the variables of one datum.

    Raises:
        NotImplementedError: fn, or what it is made of, cannot be copied so; the message names it.
    """
    outer = len(fn.batch_shape)
    new = copy.copy(fn)
    if batch is not None:
        new._batch_shape = batch
    done: dict[int, str] = {}  # a tensor under two names stays one, logits and _param of a Categorical for example
    for name, value in vars(fn).items():
        if isinstance(value, Tensor) and done.get(id(value)) in new.__dict__:
            new.__dict__[name] = new.__dict__[done[id(value)]]
        elif isinstance(value, Distribution):
            inner = isinstance(fn, Independent | TransformedDistribution) or value.batch_shape == fn.batch_shape
            if variables and not inner:
                raise NotImplementedError(dependent(fn))
            below = None if batch is None else batch + value.batch_shape[outer:]
            new.__dict__[name] = map_parameters(value, change, below, variables=variables)
        elif isinstance(value, Tensor):
            _replace(fn, new, name, value, change, batch is not None)
            done[id(value)] = name
        elif name == "transforms":
            shape = fn.batch_shape + fn.event_shape
            new.__dict__[name] = [_mapped_transform(part, change, shape, variables) for part in value]
        elif not isinstance(value, bool | int | float | str | Size | None):
            raise NotImplementedError(f"{type(fn).__name__} holds '{name}', which may depend on parameters unseen")
    return new


def parameters(fn: Distribution) -> list[Tensor]:
    """The parameters, each expanded to ``[*batch, ...]``, in an order that depends on the class alone."""
    found: list[Tensor] = []

    def take(tensor: Tensor, shape: Size, _: int) -> Tensor:
        found.append(tensor.expand(shape))
        return tensor

    map_parameters(fn, take, fn.batch_shape)
    return found


def with_parameters(fn: Distribution, tensors: Sequence[Tensor], batch: Size) -> Distribution:
    """A distribution of the same class with the parameters of another one of its class.

    Args:
        fn: the distribution.
        tensors: as :func:`parameters` gives them, ``[*batch, ...]``.
        batch: the batch shape of the new one.
    """
    given = iter(tensors)
    return map_parameters(fn, lambda *_: next(given), batch)


def dependent(fn: Distribution | Transform) -> str:
    """Why the variables of a distribution cannot be treated apart, for messages."""
    return f"the variables of {type(fn).__name__} depend on one another, and only all of them can be gated together"


def _replace(fn: Distribution, new: Distribution, name: str, value: Tensor, change: Change, anew: bool) -> None:
    """Puts the changed parameter into the copy, or drops what the distribution will derive again."""
    derived = isinstance(getattr(type(fn), name, None), lazy_property)
    if anew and derived and value is not vars(fn).get("_param"):
        del new.__dict__[name]
        return
    event_dims = _event_dims(fn, name)
    if event_dims is not None:
        event = value.shape[value.dim() - event_dims :]
        new.__dict__[name] = change(value, fn.batch_shape + event, event_dims)
    elif derived:
        del new.__dict__[name]
    elif value.requires_grad:
        raise NotImplementedError(f"{type(fn).__name__} has a '{name}' that learns and is no parameter per datum")
    elif anew and value.dim():  # a single number, as a temperature, fits any batch
        raise NotImplementedError(f"{type(fn).__name__} has a '{name}' that is no parameter per datum")


def _event_dims(fn: Distribution, name: str) -> int | None:
    """Trailing dimensions of a tensor that belong to one value of the parameter; None if it is no parameter."""
    if isinstance(fn, dist.Delta):  # whose constraints do not show it
        return {"v": fn.event_dim, "log_density": 0}.get(name)
    if name == "_capacitance_tril":  # of a multivariate normal of low rank
        return 2
    name = name.removeprefix("_unbroadcasted_")
    if name in fn.arg_constraints:
        return fn.arg_constraints[name].event_dim
    for cls in type(fn).__mro__:  # a subclass may be made of others, as Chi2 is of the df that a Gamma has not
        known = vars(cls).get("arg_constraints", {})
        if isinstance(known, dict) and name in known:
            return int(known[name].event_dim)
    for public, constraint in fn.arg_constraints.items():
        if vars(fn).get(public) is vars(fn).get(name):
            return constraint.event_dim
    return None


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


def _mapped_transform(transform: Transform, change: Change, shape: Size, variables: bool) -> Transform:
    if variables and (transform.domain.event_dim or transform.codomain.event_dim):
        raise NotImplementedError(dependent(transform))
    if isinstance(transform, _CONSTANT):
        return transform
    if isinstance(transform, transforms.ComposeTransform):
        return transforms.ComposeTransform(
            [_mapped_transform(part, change, shape, variables) for part in transform.parts]
        )
    if isinstance(transform, transforms._InverseTransform):
        return _mapped_transform(transform.inv, change, shape, variables).inv
    if not isinstance(transform, transforms.AffineTransform | transforms.PowerTransform):
        raise NotImplementedError(f"the transform {type(transform).__name__} may have parameters that all data share")
    new = copy.copy(transform)
    new._cached_x_y = None, None
    new._inv = None
    for name, value in vars(transform).items():
        if isinstance(value, Tensor) and name != "_inv":
            # It has the dimensions of a sample, or fewer.
            new.__dict__[name] = change(value, shape, 0)
    return new
