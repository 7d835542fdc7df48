r"""Distributions whose parameters are gated.

.. math:: \mathrm{gate}(v, g) = g\, v + (1 - g)\, \mathrm{stop\_gradient}(v), \qquad g \in \{0, 1\}
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.sites import map_parameters
from pyro_hfvae.sites.parameters import dependent

__all__ = ["gate_distribution", "gate_tensor"]


def gate_tensor(value: Tensor, mask: Tensor, samples: Sequence[Tensor] = ()) -> Tensor:
    """The value, to the bit, whose gradient is exactly 0 where the mask is False; of their broadcast shape.

    Args:
        value: any tensor.
        mask: boolean.
        samples: tensors that the value may be computed from and that get their gradient all the same.
    """
    if not value.requires_grad:
        return value
    mask = mask.to(value.device)
    once, whole = _once(value, mask), torch.broadcast_shapes(value.shape, mask.shape)
    if not samples:
        return torch.where(mask, once, once.detach()).expand(whole)
    gated: Tensor = _GateButSamples.apply(once.expand(torch.broadcast_shapes(once.shape, mask.shape)), mask, *samples)
    return gated.expand(whole)


def _once(value: Tensor, mask: Tensor) -> Tensor:
    """The value with 1 for each dimension along which plates repeat it and the mask is the same."""
    for dim in range(-value.dim(), 0):
        if value.stride(dim) == 0 and (-dim > mask.dim() or mask.shape[dim] == 1):
            value = value.narrow(dim, 0, min(1, value.shape[dim]))
    return value


class _GateButSamples(torch.autograd.Function):
    """Passes the gradient of closed entries on to some tensors that they were computed from, and to no other."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, mask: Tensor, *samples: Tensor) -> Tensor:
        ctx.value, ctx.mask, ctx.samples = value, mask, samples
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        zero = torch.zeros_like(gradient)
        closed = torch.where(ctx.mask, zero, gradient)
        below = torch.autograd.grad(ctx.value, ctx.samples, closed, retain_graph=True, allow_unused=True)
        return torch.where(ctx.mask, gradient, zero), None, *below


def gate_distribution(fn: Any, mask: Tensor, samples: Sequence[Tensor] = ()) -> Any:
    """A distribution of the same class whose samples and densities are the same, with gated parameters.

    A parameter that all data share is expanded to one for each.

    Args:
        fn: the distribution.
        mask: boolean, with one dimension for each of batch and event, [*batch, *event]; of size 1 along the event
            dimensions for a gate of the whole site, and along batch dimensions that share a gate.
        samples: as of :func:`gate_tensor`.

    Raises:
        NotImplementedError: fn, or what it is made of, cannot be copied so; names it.
    """
    variables = any(size > 1 for size in mask.shape[len(fn.batch_shape) :])

    def change(value: Tensor, shape: Size, events: int) -> Tensor:
        count = len(shape) - events  # dimensions of batch and independent variables
        if any(size > 1 for size in mask.shape[count:]):
            raise NotImplementedError(dependent(unwrap(fn)))
        front = mask.shape[:count]
        return gate_tensor(value, mask.reshape(front + (1,) * (len(shape) - len(front))), samples)

    return map_parameters(fn, change, variables=variables)
