r"""Sites whose log-densities are products, so that all pairs of a sample and a posterior are one matrix product.

.. math:: \log q(z|x) = f(z) \cdot g(x) + c(x) + h(z)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import ComposeTransform, Transform

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.sites.site import Indices, Site, register_site, wide

__all__ = ["DirichletSite", "NormalSite", "Univariate", "gaussian_coefficients", "gaussian_features", "transformed"]


class Univariate(Site):
    """Variables that are independent given the datum, each of a one-dimensional exponential family.

    Of P = 2 features each. A normal variable behind transforms of single numbers that are the same for all data
    (LogNormal, a logistic normal) is a normal one with the derivative of the transforms as h(z).
    """

    def __init__(self, name: str, fn: Distribution, value: Tensor) -> None:
        super().__init__(name, fn, value)
        self._product: tuple[Tensor, Tensor] | None = None
        self._posterior: Tensor | None = None

    def features(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """f and h of the variables, ``[*batch, 2 n]`` and ``[*batch]``."""
        features, base = self.features_of_each
        which = self._which(indices)
        return features[..., :-1, which].flatten(-2), base[..., which].sum(-1)

    def coefficients(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """g and c of the variables, ``[*batch, 2 n]`` and ``[*batch]``."""
        some = self.coefficients_of_each[..., self._which(indices)]
        return some[..., :-1, :].flatten(-2), some[..., -1, :].sum(-1)

    @property
    def features_of_each(self) -> tuple[Tensor, Tensor]:
        """f of each variable with a 1 for the constant, and h, ``[*batch, 3, V]`` and ``[*batch, V]``; made once."""
        if self._product is None:
            value, base, family = self.value, torch.zeros_like(self.value), self.base
            if isinstance(family, TransformedDistribution):
                for transform in reversed(family.transforms):
                    before = transform.inv(value)
                    base = base - transform.log_abs_det_jacobian(before, value)
                    value = before
                family = unwrap(family.base_dist)
            batch = value.shape[: value.dim() - len(self.fn.event_shape)]
            value, base = value.reshape(*batch, -1), base.reshape(*batch, -1)
            self._product = torch.stack([*_family(family)[1](value), torch.ones_like(value)], -2), base
        return self._product

    @property
    def coefficients_of_each(self) -> Tensor:
        """g and c of each variable, ``[*batch, 3, V]``; made once."""
        if self._posterior is None:
            family = self.base
            if isinstance(family, TransformedDistribution):
                family = unwrap(family.base_dist)
            names, _, coefficients = _family(family)
            batch, event = self.fn.batch_shape, self.fn.event_shape
            spread = [getattr(family, name).expand(*batch, *event).reshape(*batch, -1) for name in names]
            self._posterior = torch.stack(list(coefficients(*spread)), -2)
        return self._posterior

    def set_coefficients(self, coefficients: Tensor) -> None:
        """Takes g and c, float64, from where they were made before."""
        self._posterior = coefficients
        self._wide = self

    def _which(self, indices: Indices) -> list[int] | slice:
        """The variables as an index, without a copy where they are consecutive."""
        first, last = indices[0] * self.grain, (indices[-1] + 1) * self.grain
        if list(indices) == list(range(indices[0], indices[-1] + 1)):
            return slice(first, last)
        return [i * self.grain + j for i in indices for j in range(self.grain)]

    @property
    def mean(self) -> Tensor:
        """E[z]; of a transformed variable the transformed mean of the untransformed one, its median if normal."""
        family, transforms = self.base, []
        if isinstance(family, TransformedDistribution):
            transforms, family = family.transforms, unwrap(family.base_dist)
        mean: Tensor = family.mean
        for transform in transforms:
            mean = transform(mean)
        return mean.expand(*self.fn.batch_shape, *self.fn.event_shape)


@register_site(Normal)
class NormalSite(Univariate):
    """Independent normal variables."""

    @property
    def loc(self) -> Tensor:
        """Means, ``[*batch, V]``."""
        return self._spread("loc")

    @property
    def scale(self) -> Tensor:
        """Standard deviations, ``[*batch, V]``."""
        return self._spread("scale")

    def _spread(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self.base, name)
        batch = self.fn.batch_shape
        return tensor.expand(*batch, *self.fn.event_shape).reshape(*batch, -1)

    def _log_prob_of_each(self) -> Tensor:
        # Variables first and what plates repeat taken once: where a program is run again, memory counts.
        base: Any = self.base
        event, batch = len(self.fn.event_shape), len(self.fn.batch_shape)
        lead = max(batch, self.value.dim() - event)
        value = _variables_first(self.value, event, lead)
        loc, scale = (_variables_first(_once(part, batch), event, lead) for part in (base.loc, base.scale))
        return normal_log_prob(value, loc, scale)

    @property
    def mean_densities(self) -> Tensor:
        """The mean of the log-density of each variable over the batch, ``[V]``."""
        base: Any = self.base
        found = normal_log_prob(self.value, base.loc, base.scale)  # [*batch, *event]
        batch = tuple(range(found.dim() - len(self.fn.event_shape)))
        return (
            found.mean(batch).reshape(self.variables, self.grain).sum(1)
            if self.grain > 1
            else found.mean(batch).flatten()
        )

    def parameters(self) -> list[Tensor]:
        """Means and standard deviations, ``[*batch, *event]``."""
        base: Any = self.base
        shape = self.fn.batch_shape + self.fn.event_shape
        return [base.loc.expand(shape), base.scale.expand(shape)]

    def with_parameters(self, tensors: Sequence[Tensor], batch: Size) -> Distribution:
        """Normal variables of other means and standard deviations."""
        loc, scale = tensors
        cls: Any = type(self.base)
        made = cls(loc, scale, validate_args=False)
        return made.to_event(len(self.fn.event_shape))  # type: ignore[no-any-return]

    def _widened(self) -> Site:
        return self.at(self.with_parameters([wide(part) for part in self.parameters()], Size()), wide(self.value))


@register_site(Dirichlet)
class DirichletSite(Site):
    r"""Points on simplices, one variable each.

    .. math:: \log q(z|x) = \sum_k (\alpha_k - 1) \log z_k + \log \Gamma(\textstyle\sum_k \alpha_k)
        - \sum_k \log \Gamma(\alpha_k)
    """

    def features(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """log z of the variables, and 0."""
        features = self._some(self.value.log(), indices)
        return features, features.new_zeros(features.shape[:-1])

    def coefficients(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """α - 1 of the variables, and the log-normaliser."""
        base: Any = self.base
        alpha: Tensor = base.concentration
        batch = self.fn.batch_shape
        alpha = alpha.expand(*batch, *self.fn.event_shape)
        constant = alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)  # [*batch, *cells]
        constant = constant.reshape(*batch, -1, self.grain).sum(-1)
        return self._some(alpha - 1, indices), constant[..., list(indices)].sum(-1)

    def _some(self, tensor: Tensor, indices: Indices) -> Tensor:
        batch = tensor.shape[: tensor.dim() - len(self.fn.event_shape)]
        return tensor.reshape(*batch, self.variables, -1)[..., list(indices), :].flatten(-2)


def gaussian_features(value: Tensor) -> list[Tensor]:
    """The features of a normal variable, z² and z."""
    return [value.square(), value]


def gaussian_coefficients(loc: Tensor, scale: Tensor) -> list[Tensor]:
    r"""−1/2σ², μ/σ² and the constant −μ²/2σ² − log σ − ½ log 2π.

    The product with the features cancels: its error is about ε (z² + μ²) / σ² nats, with ε = 1e-16 in float64 below
    1e-6 at a scale of 1e-4, in float32 .03 at .01 already. So both factors must be float64.
    """
    precision = scale.square().reciprocal()
    constant = -0.5 * (loc.square() * precision + math.log(2 * math.pi)) - scale.log()
    return [-0.5 * precision, loc * precision, constant]


def normal_log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log N(value; loc, scale), by the difference."""
    deviation = (value - loc) / scale
    return torch.addcmul(-0.5 * math.log(2 * math.pi) - scale.log(), deviation, deviation, value=-0.5)


_Family = tuple[Sequence[str], Callable[[Tensor], Sequence[Tensor]], Callable[..., Sequence[Tensor]]]

_FAMILIES: dict[type[Distribution], _Family] = {
    Normal: (("loc", "scale"), gaussian_features, gaussian_coefficients),
    Gamma: (
        ("concentration", "rate"),
        lambda z: [z.log(), z],
        lambda shape, rate: (shape - 1, -rate, shape * rate.log() - shape.lgamma()),
    ),
    Beta: (
        ("concentration1", "concentration0"),
        lambda z: [z.log(), torch.log1p(-z)],
        lambda one, zero: (one - 1, zero - 1, (one + zero).lgamma() - one.lgamma() - zero.lgamma()),
    ),
    Exponential: (
        ("rate",),
        lambda z: [z, torch.zeros_like(z)],
        lambda rate: (-rate, torch.zeros_like(rate), rate.log()),
    ),
}
"""Family to the names of its parameters, to f(z), and to g and c of them."""


def _family(fn: Distribution) -> _Family:
    return next(form for family, form in _FAMILIES.items() if isinstance(fn, family))


@register_site(Gamma)
@register_site(Beta)
@register_site(Exponential)
def _univariate(name: str, fn: Distribution, value: Tensor) -> Site | None:
    return Univariate(name, fn, value) if not unwrap(fn).event_shape else None


@register_site(TransformedDistribution)
def _transformed(name: str, fn: Distribution, value: Tensor) -> Site | None:
    """A transformed variable, if the transforms are of single numbers and the same for all data."""
    base = unwrap(fn)
    assert isinstance(base, TransformedDistribution)
    known = isinstance(unwrap(base.base_dist), tuple(_FAMILIES)) and not base.event_shape
    if known and all(_constant(transform, fn.event_shape) for transform in base.transforms):
        return Univariate(name, fn, value)
    return None


def transformed(fn: Distribution, transform: Transform) -> Distribution:
    """The distribution of a transformed value."""
    return TransformedDistribution(fn, [transform])


def _constant(transform: Transform, event: Size) -> bool:
    """Whether a transform is one of single numbers, and the same for all data."""
    if isinstance(transform, ComposeTransform):
        return all(_constant(part, event) for part in transform.parts)
    if isinstance(transform, torch.nn.Module):
        return False
    tensors = [value for value in vars(transform).values() if isinstance(value, Tensor)]
    elementwise = transform.domain.event_dim == 0 and transform.codomain.event_dim == 0
    return elementwise and transform.bijective and all(tensor.dim() <= len(event) for tensor in tensors)


def _variables_first(tensor: Tensor, event: int, lead: int) -> Tensor:
    """``[*batch, *event]`` as [V, *batch], with 1s in front of the batch to make ``lead`` dimensions of it."""
    batch = tensor.shape[: tensor.dim() - event]
    return tensor.reshape(*(1,) * (lead - len(batch)), *batch, -1).movedim(-1, 0)


def _once(tensor: Tensor, batch: int) -> Tensor:
    """The tensor with 1 for each of its first dimensions along which it only repeats itself."""
    for dim in range(batch):
        if tensor.stride(dim) == 0:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
