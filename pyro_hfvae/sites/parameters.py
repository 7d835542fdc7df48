"""Distributions as trees of tensors: the parameters of each datum, taken out, changed and put back."""

import copy
from collections.abc import Callable, Iterator, Sequence
from types import MethodType

import pyro.distributions as dist
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, TransformedDistribution, transforms
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform
from torch.distributions.utils import lazy_property

__all__ = ["Change", "map_parameters", "parameters", "with_parameters"]

Change = Callable[[Tensor, Size, int], Tensor]
"""From a parameter, the shape that it expands to and the number of its event dimensions to another parameter."""


def map_parameters(
    fn: Distribution, change: Change, batch: Size | None = None, *, variables: bool = False, shared: bool = False
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
        shared: whether transforms that learn and that all data share stay as they are; else they are refused.

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
            new.__dict__[name] = map_parameters(value, change, below, variables=variables, shared=shared)
        elif isinstance(value, Tensor):
            _replace(fn, new, name, value, change, batch is not None)
            done[id(value)] = name
        elif name == "transforms":
            shape = fn.batch_shape + fn.event_shape
            new.__dict__[name] = [_mapped_transform(part, change, shape, variables, shared) for part in value]
        elif not _is_plain(value):
            raise NotImplementedError(f"{type(fn).__name__} holds '{name}', which may depend on parameters unseen")
    return new


def parameters(fn: Distribution) -> list[Tensor]:
    """The parameters, each expanded to ``[*batch, ...]``, in an order that depends on the class alone.

    Those of flows that all data share are not among them.
    """
    found: list[Tensor] = []

    def take(tensor: Tensor, shape: Size, _: int) -> Tensor:
        found.append(tensor.expand(shape))
        return tensor

    map_parameters(fn, take, fn.batch_shape, shared=True)
    return found


def with_parameters(fn: Distribution, tensors: Sequence[Tensor], batch: Size) -> Distribution:
    """A distribution of the same class with the parameters of another one of its class.

    Args:
        fn: the distribution.
        tensors: as :func:`parameters` gives them, ``[*batch, ...]``.
        batch: the batch shape of the new one.
    """
    given = iter(tensors)
    return map_parameters(fn, lambda *_: next(given), batch, shared=True)


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
        batch = len(fn.batch_shape)
        if value.dim() - event_dims > batch:  # its constraint does not count all dimensions of one value
            if value.shape[:batch] != fn.batch_shape:
                raise NotImplementedError(f"{type(fn).__name__} has a '{name}' of more dimensions than its batch has")
            event_dims = value.dim() - batch
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


def _mapped_transform(transform: Transform, change: Change, shape: Size, variables: bool, shared: bool) -> Transform:
    if variables and (transform.domain.event_dim or transform.codomain.event_dim):
        raise NotImplementedError(dependent(transform))

    def mapped(part: Transform) -> Transform:
        return _mapped_transform(part, change, shape, variables, shared)

    if isinstance(transform, transforms.ComposeTransform):
        return transforms.ComposeTransform([mapped(part) for part in transform.parts])
    if isinstance(transform, transforms._InverseTransform):
        return mapped(transform.inv).inv
    if isinstance(transform, transforms.IndependentTransform):
        return transforms.IndependentTransform(mapped(transform.base_transform), transform.reinterpreted_batch_ndims)
    if isinstance(transform, nn.Module):
        if shared and all(_is_plain(value) for part in transform.modules() for value in _attributes(part)):
            return transform
    elif all(_is_plain(value) for value in _attributes(transform)):
        return transform  # it has no parameters
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


def _is_plain(value: object) -> bool:
    """Whether it holds no tensor."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, Transform) and not isinstance(value, nn.Module):
        return all(_is_plain(item) for item in _attributes(value))
    return isinstance(value, bool | int | float | str | slice | Constraint | type | None)


_OF_MODULES = frozenset(vars(nn.Module()))
_CONSTANT = ("_cach", "mask")
"""How names begin of what a transform remembers of a call, and of the masks of Pyro's autoregressive networks."""


def _attributes(holder: object) -> Iterator[object]:
    """What a transform, or a module inside of it, holds besides its parameters and what is the same for every call."""
    for name, value in vars(holder).items():
        own = isinstance(value, MethodType) and value.__self__ is holder
        if name not in _OF_MODULES and name != "_inv" and not name.startswith(_CONSTANT) and not own:
            yield value
