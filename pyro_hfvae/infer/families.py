"""Continuous posteriors beside the normal one: exponential families, whose log-densities are products.

.. math:: \\log q(z|x) = f(z) \\cdot g(x) + c(x) + h(z)

so that all pairs of a sample z^b and a posterior q(·|x^m) are one matrix product, as for normal variables.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import ComposeTransform, Transform

from pyro_hfvae.distributions import ConcreteDensity, unwrap
from pyro_hfvae.infer.mixture import gaussian_features, gaussian_parameters

__all__ = [
    "ConcreteSimplex",
    "Continuous",
    "CorrelatedGaussian",
    "DirichletSimplex",
    "Part",
    "Simplex",
    "Univariate",
    "read_family",
]


@dataclass(frozen=True)
class Part:
    """Some variables of a site in product form; all float64."""

    features: Tensor
    """f(z), [S, B, P]."""
    parameters: Tensor
    """g(x), [S, B, P]."""
    constant: Tensor
    """c(x), [S, B]."""
    base: Tensor
    """h(z), [S, B]."""
    log_density: Tensor
    """log q(z^b|x^b), [S, B]."""
    pairs: Callable[[], Tensor] | None = None
    """What of log q(z^b|x^m) is no product, [S, B, B], if anything; made when it is asked for."""


@dataclass(frozen=True)
class Continuous(ABC):
    """q(z|x) of a site of V continuous variables."""

    value: Tensor
    """The sample, [S, B, V] (a simplex: [S, B, K])."""
    mean: Tensor
    """E[z|x], or the median where that has a closed form and the mean has not; of the same shape."""

    @property
    def variables(self) -> int:
        """V."""
        return self.value.shape[2]

    @abstractmethod
    def part(self, indices: Sequence[int]) -> Part:
        """The joint density of some of the variables, in product form."""


@dataclass(frozen=True)
class Univariate(Continuous):
    """V variables that are independent given the datum, each of a one-dimensional exponential family."""

    features: Tensor  # [S, B, V, 2]
    parameters: Tensor  # [S, B, V, 2]
    constant: Tensor  # [S, B, V]
    base: Tensor  # [S, B, V]

    def part(self, indices: Sequence[int]) -> Part:
        """The sum over the variables."""
        some = list(indices)
        features, parameters = self.features[:, :, some].flatten(2), self.parameters[:, :, some].flatten(2)
        constant, base = self.constant[:, :, some].sum(-1), self.base[:, :, some].sum(-1)
        return Part(features, parameters, constant, base, (features * parameters).sum(-1) + constant + base)


@dataclass(frozen=True)
class CorrelatedGaussian(Continuous):
    r"""One multivariate normal: groups G of its variables have the sub-matrices of its covariance.

    .. math:: \log N(z_G; \mu_G, \Sigma_{GG}) = -\tfrac12 z_G^T \Lambda z_G + z_G^T \Lambda \mu_G + c,
        \qquad \Lambda = \Sigma_{GG}^{-1}
    """

    covariance: Tensor  # [S, B, V, V]

    def part(self, indices: Sequence[int]) -> Part:
        """A multivariate normal of fewer variables."""
        some = list(indices)
        value, loc = self.value[..., some].double(), self.mean[..., some].double()
        factor = torch.linalg.cholesky(self.covariance[..., some, :][..., some].double())
        precision = torch.cholesky_inverse(factor)  # [S, B, n, n]
        product = (precision @ loc[..., None])[..., 0]
        log_normaliser = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * len(some) * math.log(2 * math.pi)
        constant = -0.5 * (loc * product).sum(-1) - log_normaliser
        features = torch.cat([(value[..., None] * value[..., None, :]).flatten(-2), value], -1)
        parameters = torch.cat([-0.5 * precision.flatten(-2), product], -1)
        deviation = torch.linalg.solve_triangular(factor, (value - loc)[..., None], upper=False)[..., 0]
        own = -0.5 * deviation.square().sum(-1) - log_normaliser
        return Part(features, parameters, constant, torch.zeros_like(own), own)


@dataclass(frozen=True)
class Simplex(Continuous):
    """A point on the simplex: one variable, because its K coordinates sum to one."""

    @property
    def variables(self) -> int:
        """1."""
        return 1


@dataclass(frozen=True)
class DirichletSimplex(Simplex):
    r"""A Dirichlet.

    .. math:: \log q(z|x) = \sum_k (\alpha_k - 1) \log z_k + \log \Gamma(\textstyle\sum_k \alpha_k)
        - \sum_k \log \Gamma(\alpha_k)
    """

    concentration: Tensor  # [S, B, K]

    def part(self, indices: Sequence[int]) -> Part:
        """The whole density."""
        alpha, features = self.concentration.double(), self.value.double().log()
        constant = alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)
        own = (features * (alpha - 1)).sum(-1) + constant
        return Part(features, alpha - 1, constant, torch.zeros_like(own), own)


@dataclass(frozen=True)
class ConcreteSimplex(Simplex):
    r"""The density of a Concrete, whose last term is no product.

    .. math:: \log q(y|x) = \log \Gamma(K) + (K - 1) \log \tau + \sum_k \log \pi_k - (\tau + 1) \sum_k \log y_k
        - K \log \sum_k \pi_k y_k^{-\tau}
    """

    log_mass: Tensor  # [S, B, K]
    temperature: Tensor  # [S, B], one for all

    def part(self, indices: Sequence[int]) -> Part:
        """The whole density."""
        log_mass, log_value, temperature = self.log_mass.double(), self.value.double().log(), self.temperature.double()
        size = log_mass.shape[-1]
        features, parameters = log_value.sum(-1, keepdim=True), -(temperature + 1)[..., None]
        constant = math.lgamma(size) + (size - 1) * temperature.log() + log_mass.sum(-1)
        own = -size * (log_mass - temperature[..., None] * log_value).logsumexp(-1)

        def pairs() -> Tensor:
            powers = -temperature[..., None] * log_value  # [S, B, K]
            largest = powers.amax(-1, keepdim=True)
            return -size * (((powers - largest).exp() @ log_mass.exp().mT).log() + largest)  # [S, B, B]

        log_density = (features * parameters).sum(-1) + constant + own
        return Part(features, parameters, constant, torch.zeros_like(own), log_density, pairs)


def read_family(fn: Distribution, value: Tensor, shape: torch.Size, event: torch.Size) -> Continuous | None:
    """The posterior of a site, without ``.to_event``, in product form; None where its family is not known here.

    A normal distribution behind transforms of single numbers that are the same for all data (LogNormal, a logistic or
    tanh normal) is a normal one with the transforms' derivative as h(z).

    Args:
        fn: the distribution, of any batch shape that expands to [S, B].
        value: its sample.
        shape: S, B.
        event: the site's event shape.
    """

    def spread(tensor: Tensor) -> Tensor:
        return tensor.expand(*shape, *event).reshape(*shape, -1)

    if isinstance(fn, MultivariateNormal | LowRankMultivariateNormal):
        if len(event) != 1:
            return None
        covariance = fn.covariance_matrix.expand(*shape, *event, *event)
        return CorrelatedGaussian(spread(value), spread(fn.loc), covariance)
    if isinstance(fn, Dirichlet):
        if len(event) != 1:
            return None
        return DirichletSimplex(spread(value), spread(fn.mean), spread(fn.concentration))
    if isinstance(fn, ConcreteDensity):
        if len(event) != 1:
            return None
        # Its mean has no closed form; the masses are the mean at a temperature of 0.
        return ConcreteSimplex(spread(value), spread(fn.probs), spread(fn.log_mass), fn.temperature.expand(shape))
    u, base, untransformed = value.double(), torch.zeros_like(value, dtype=torch.float64), fn
    if isinstance(fn, TransformedDistribution):
        if not all(_constant(part, event) for part in fn.transforms):
            return None
        untransformed = unwrap(fn.base_dist)
        for transform in reversed(fn.transforms):
            before = transform.inv(u)
            base = base - transform.log_abs_det_jacobian(before, u)
            u = before
    for family, (names, features, parameters) in _UNIVARIATE.items():
        if isinstance(untransformed, family) and (family is not Normal or untransformed is not fn):
            *g, constant = parameters(*(spread(getattr(untransformed, name)).double() for name in names))
            f = torch.stack(list(features(spread(u))), -1)
            mean = untransformed.mean
            for transform in getattr(fn, "transforms", ()):
                mean = transform(mean)  # of a transformed normal the median: most have no mean in closed form
            return Univariate(spread(value), spread(mean), f, torch.stack(g, -1), constant, spread(base))
    return None


def _constant(transform: Transform, event: torch.Size) -> bool:
    """Whether a transform is one of single numbers, and the same for all data."""
    if isinstance(transform, ComposeTransform):
        return all(_constant(part, event) for part in transform.parts)
    tensors = [value for value in vars(transform).values() if isinstance(value, Tensor)]
    elementwise = transform.domain.event_dim == 0 and transform.codomain.event_dim == 0
    return elementwise and transform.bijective and all(tensor.dim() <= len(event) for tensor in tensors)


_UNIVARIATE: dict[
    type[Distribution],
    tuple[tuple[str, str], Callable[[Tensor], Sequence[Tensor]], Callable[[Tensor, Tensor], Sequence[Tensor]]],
] = {
    Normal: (
        ("loc", "scale"),
        lambda z: gaussian_features(z)[..., :2].unbind(-1),
        lambda loc, scale: gaussian_parameters(loc, scale).unbind(-1),
    ),
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
}
"""Family to the names of its parameters, to f(z), and to g and c of them."""
