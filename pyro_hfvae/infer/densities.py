"""The prior of one continuous site given what it depends on: densities of some of its variables, and draws."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    RelaxedOneHotCategorical,
)

from pyro_hfvae.distributions import log_mass
from pyro_hfvae.infer.latents import unwrap

__all__ = ["correlated", "draw", "draw_given", "log_density", "varies"]

Indices = Sequence[int]


def correlated(fn: Distribution) -> bool:
    """Whether a site is one multivariate normal, whose variables have a covariance."""
    return isinstance(fn, MultivariateNormal | LowRankMultivariateNormal)


def log_density(fn: Distribution, indices: Indices, value: Tensor) -> Tensor:
    r"""log p(z_G) of some variables G of a site, in nats, [..., S, B].

    .. math:: \sum_{e \in G} \log p(z_e) \qquad\text{or}\qquad \log N(z_G; \mu_G, \Sigma_{GG})

    Args:
        fn: independent univariate distributions or one multivariate normal, of batch shape [..., S or 1, B or 1].
        indices: of the variables of G, in C order.
        value: all V variables, [S, B, V].
    """
    if not correlated(fn):
        # One density for each variable, whatever G is: cheap beside the trace that it was read from.
        log_prob = unwrap(fn).log_prob(value.reshape(*value.shape[:2], *fn.event_shape))
        log_prob = log_prob.reshape(*log_prob.shape[: log_prob.dim() - len(fn.event_shape)], -1)  # [..., S, B, V]
        return log_prob[..., list(indices)].sum(-1)
    if len(indices) == value.shape[-1]:
        return fn.log_prob(value)
    loc, covariance = _moments(fn)
    some = list(indices)
    if len(some) == 1:
        scale = covariance[..., some[0], some[0]].sqrt()
        one: Distribution = Normal(loc[..., some[0]], scale, validate_args=False)
        return one.log_prob(value[..., some[0]])
    part: Distribution = MultivariateNormal(loc[..., some], covariance[..., some, :][..., some], validate_args=False)
    return part.log_prob(value[..., some])


def draw(fn: Distribution, shape: torch.Size) -> Tensor:
    """A reparameterised sample of a site, [*shape, *event], where the last entry of the shape is B or 1.

    With 1, it is one for all data: right where the site's distribution is the same for all (:func:`varies`).
    """
    sample = fn.rsample if fn.has_rsample else fn.sample
    if shape[-1] == 1 and len(fn.batch_shape) <= 1:
        # The data's own independent draws stand in for further ones.
        count, size = shape.numel(), fn.batch_shape.numel()
        draws = sample(torch.Size([math.ceil(count / size)])).reshape(-1, *fn.event_shape)
        return draws[:count].reshape(*shape, *fn.event_shape)
    whole = torch.broadcast_shapes(fn.batch_shape, shape)
    expanded = fn.expand(whole)
    value: Tensor = expanded.rsample() if fn.has_rsample else expanded.sample()
    return value.narrow(len(shape) - 1, 0, shape[-1])


def draw_given(fn: Distribution, indices: Indices, value: Tensor, shape: torch.Size) -> Tensor:
    r"""A sample of a site given some of its variables G, [*shape, *event].

    .. math:: z = z' + \Sigma_{\cdot G} \Sigma_{GG}^{-1} (z_G - z'_G), \qquad z' \sim p

    for a multivariate normal (Matheron's rule); independent variables are drawn as if nothing were given.

    Args:
        fn: the distribution of the site.
        indices: of the variables of G.
        value: all V variables, [S, B, V]; those of G are read.
        shape: [..., S, B].
    """
    some, size = list(indices), value.shape[-1]
    given = value.expand(*shape, size)  # [*shape, V]
    if len(some) < size:
        free = draw(fn, shape).reshape(*shape, size)
        if correlated(fn):
            _, covariance = _moments(fn)
            # A product in bfloat16 would move the sample.
            with torch.autocast(value.device.type, enabled=False):
                gain = torch.linalg.solve(
                    covariance[..., some, :][..., some], covariance[..., some, :]
                ).mT  # [..., V, |G|]
                free = free + (gain @ (given - free)[..., some, None])[..., 0]
        fixed = torch.zeros(size, dtype=torch.bool, device=value.device)
        fixed[some] = True
        given = torch.where(fixed, given, free)
    return given.reshape(*shape, *fn.event_shape)


def varies(fn: Distribution) -> bool:
    """Whether the distribution differs between the data (the last batch dimension); True where that is not known."""
    if not fn.batch_shape:
        return False
    base = unwrap(fn)
    inner = len(base.batch_shape) - len(fn.batch_shape)
    if isinstance(base, RelaxedOneHotCategorical | OneHotCategorical):
        parameters = [(log_mass(base), 1)]
    else:
        # Those that it was made of: a multivariate normal derives its other matrices when asked.
        held = [(vars(base).get(name), constraint.event_dim) for name, constraint in base.arg_constraints.items()]
        parameters = [(tensor, dims) for tensor, dims in held if isinstance(tensor, Tensor)]
    return not parameters or any(_differs(tensor, tensor.dim() - 1 - inner - dims) for tensor, dims in parameters)


def _differs(tensor: Tensor, dim: int) -> bool:
    if dim < 0 or tensor.shape[dim] == 1 or tensor.stride(dim) == 0:
        return False
    return not bool((tensor == tensor.narrow(dim, 0, 1)).all())


def _moments(fn: Distribution) -> tuple[Tensor, Tensor]:
    """Mean [..., V] and covariance [..., V, V], the latter once where plates repeat it."""
    assert isinstance(fn, MultivariateNormal | LowRankMultivariateNormal)
    covariance = fn.covariance_matrix
    for dim in range(covariance.dim() - 2):
        if covariance.stride(dim) == 0:
            covariance = covariance.narrow(dim, 0, 1)
    return fn.loc, covariance
