"""One continuous site given what it depends on: densities of some of its variables, and draws."""

import math
from collections.abc import Sequence
from functools import reduce

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

from pyro_hfvae.distributions import log_mass, unwrap
from pyro_hfvae.infer.mixture import gaussian_features, gaussian_parameters

__all__ = ["PairedNormal", "SiteDensity", "correlated", "draw", "draw_given", "varies"]

Indices = Sequence[int]


def correlated(fn: Distribution) -> bool:
    """Whether a site is one multivariate normal, whose variables have a covariance."""
    return isinstance(fn, MultivariateNormal | LowRankMultivariateNormal)


class SiteDensity:
    r"""log p(z_G) of variables G of a site, in nats, [..., S, B].

    .. math:: \sum_{e \in G} \log p(z_e) \qquad\text{or}\qquad \log N(z_G; \mu_G, \Sigma_{GG})

    Args:
        fn: independent univariate distributions or one multivariate normal, of batch shape [..., S or 1, B or 1].
        value: all V variables, [S, B, V].
    """

    def __init__(self, fn: Distribution, value: Tensor) -> None:
        self._fn = fn
        self._value = value
        # One density for each variable serves every group.
        self._parts = None if correlated(fn) else _log_prob_of_variables(fn, value)

    def __call__(self, indices: Indices) -> Tensor:
        """Log-density of the variables at some indices, in C order."""
        if self._parts is not None:
            return reduce(torch.add, (self._parts[index] for index in indices))
        if len(indices) == self._value.shape[-1]:
            return self._fn.log_prob(self._value)
        loc, covariance = _moments(self._fn)
        some = list(indices)
        if len(some) == 1:
            scale = covariance[..., some[0], some[0]].sqrt()
            one: Distribution = Normal(loc[..., some[0]], scale, validate_args=False)
            return one.log_prob(self._value[..., some[0]])
        part: Distribution = MultivariateNormal(
            loc[..., some], covariance[..., some, :][..., some], validate_args=False
        )
        return part.log_prob(self._value[..., some])


class PairedNormal:
    r"""log N(z_G^b; μ^m, σ^m) of variables G of a normal site, for every pair of a sample and a reference.

    One matrix product for each group, in float64, where :class:`SiteDensity` makes a number for each pair and variable.

    Args:
        fn: of independent normal variables, of batch shape [..., 1, M] or [M].
        value: of R samples, the same for all M references, [R, M, V].
    """

    def __init__(self, fn: Distribution, value: Tensor) -> None:
        base, batch = unwrap(fn), len(fn.batch_shape)
        assert isinstance(base, Normal)
        loc, scale = (part.double().reshape(*fn.batch_shape, -1) for part in (base.loc, base.scale))  # [..., M, V]
        self._parameters = gaussian_parameters(loc, scale)  # [..., M, V, 3]
        if batch > 1:
            self._parameters = self._parameters.squeeze(batch - 2)  # the samples' dimension comes of the product
        self._features = gaussian_features(value[:, 0].double())  # [R, V, 3]

    @staticmethod
    def fits(fn: Distribution) -> bool:
        """Whether a site's distribution is normal, and the same for all samples, on a device that has float64."""
        base, batch = unwrap(fn), fn.batch_shape
        if not isinstance(base, Normal) or base.loc.device.type == "mps":
            return False
        return len(batch) == 1 or (len(batch) > 1 and batch[-2] == 1)

    def __call__(self, indices: Indices) -> Tensor:
        """Log-density of the variables at some indices, [..., R, M]."""
        some = list(indices)
        return self._features[:, some].flatten(-2) @ self._parameters[..., some, :].flatten(-2).mT


def _log_prob_of_variables(fn: Distribution, value: Tensor) -> tuple[Tensor, ...]:
    """log p of every independent variable, each [..., S, B]."""
    base, batch = unwrap(fn), len(fn.batch_shape)
    if isinstance(base, Normal):
        # The usual case, where memory counts: variables first, and what plates repeat taken once.
        loc, scale = (_variables_first(_once(part, batch), batch) for part in (base.loc, base.scale))
        variables = _variables_first(value, 2, loc.dim() - 1)
        of_all: Distribution = Normal(loc, scale, validate_args=False)
        return of_all.log_prob(variables).unbind()
    log_prob = base.log_prob(value.reshape(*value.shape[:2], *fn.event_shape))
    return log_prob.reshape(*log_prob.shape[: log_prob.dim() - len(fn.event_shape)], -1).unbind(-1)


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
            # Products in bfloat16 would move the sample.
            with torch.autocast(value.device.type, enabled=False):
                _, covariance = _moments(fn)
                gain = torch.linalg.solve(covariance[..., some, :][..., some], covariance[..., some, :]).mT
                free = free + (gain @ (given - free)[..., some, None])[..., 0]  # gain: [..., V, |G|]
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


def _variables_first(tensor: Tensor, batch: int, lead: int = 2) -> Tensor:
    """[*batch, *event] as [V, *batch], with 1s in front of the batch to make ``lead`` dimensions of it at least."""
    shape = tensor.shape[:batch]
    return tensor.reshape(*(1,) * (lead - batch), *shape, -1).movedim(-1, 0)


def _moments(fn: Distribution) -> tuple[Tensor, Tensor]:
    """Mean [..., V] and covariance [..., V, V], the latter once where plates repeat it."""
    assert isinstance(fn, MultivariateNormal | LowRankMultivariateNormal)
    return fn.loc, _once(fn.covariance_matrix, fn.covariance_matrix.dim() - 2)


def _once(tensor: Tensor, batch: int) -> Tensor:
    """The tensor with 1 for each of its first dimensions along which it only repeats itself."""
    for dim in range(batch):
        if tensor.stride(dim) == 0:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
