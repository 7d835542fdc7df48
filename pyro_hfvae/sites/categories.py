"""Discrete sites: categoricals of which every category has a mass, relaxed ones included."""

from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from torch.nn.functional import logsigmoid

from pyro_hfvae.distributions import ConcreteDensity, StraightThroughConcrete, log_mass, nearest_category, unwrap
from pyro_hfvae.sites.site import Indices, Site, register_site, wide

__all__ = ["DiscreteSite", "entering_as"]


class DiscreteSite(Site):
    """V categoricals with K categories; what was sampled of them matters to the decoder only.

    A Bernoulli is a categorical with two. The value of a relaxed one is a point between the categories.
    """

    discrete = True

    def __init__(self, name: str, fn: Distribution, value: Tensor) -> None:
        super().__init__(name, fn, value)
        self._log_mass: Tensor | None = None

    @property
    def binary(self) -> bool:
        """Whether it is of Bernoullis, whose value is one number."""
        return isinstance(self.base, RelaxedBernoulli | Bernoulli)

    @property
    def relaxed(self) -> bool:
        """Whether its value has a gradient and, of most classes, lies between the categories."""
        return isinstance(self.base, RelaxedBernoulli | RelaxedOneHotCategorical)

    @property
    def scored_by_density(self) -> bool:
        """Whether ``log_prob`` is the density of a relaxation, and not the mass of a category."""
        return self.relaxed and not isinstance(self.base, StraightThroughConcrete)

    @property
    def unrelaxed(self) -> Distribution:
        """The distribution of the categories themselves, ``[*batch, *event]``; itself if it is no relaxation."""
        base: Any = self.base
        if not self.relaxed:
            return self.fn
        made = dist.Bernoulli(logits=base.logits) if self.binary else dist.OneHotCategorical(logits=base.logits)
        return cast(Distribution, made.to_event(len(self.fn.event_shape) - len(base.event_shape)))

    @property
    def categories(self) -> int:
        """K."""
        if self.binary:
            return 2
        if isinstance(self.base, Categorical):
            return int(self.base.probs.shape[-1])
        return int(self.fn.event_shape[-1])

    @property
    def fine(self) -> Size:
        """The event without the K coordinates of one value."""
        event = self.fn.event_shape
        return event if self.binary or isinstance(self.base, Categorical) else event[:-1]

    @property
    def log_mass(self) -> Tensor:
        """Log-masses of the categories, ``[*batch, V, K]``, in float32 at least; of a Bernoulli those of 0 and 1."""
        if self._log_mass is None:
            base: Any = self.base
            if self.binary:
                logits = base.logits.to(torch.promote_types(base.logits.dtype, torch.float32))
                masses = torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
            else:
                masses = log_mass(base)
            batch, shape = self.fn.batch_shape, self.fine
            self._log_mass = masses.expand(*batch, *shape, self.categories).reshape(*batch, -1, self.categories)
        return self._log_mass

    def vertex(self, one_hot: Tensor) -> Tensor:
        """The value that stands for some categories.

        Args:
            one_hot: [..., V, K].

        Returns:
            ``[..., *event]``.
        """
        batch = one_hot.shape[:-2]
        if self.binary:
            return one_hot[..., 1].reshape(*batch, *self.fn.event_shape)
        if isinstance(self.base, Categorical):
            return one_hot.argmax(-1).reshape(*batch, *self.fn.event_shape)
        return one_hot.reshape(*batch, *self.fn.event_shape)

    @property
    def nearest(self) -> Tensor:
        """The category next to a relaxed value, with the gradient of the value, ``[*batch, *event]``."""
        if not self.relaxed:
            return self.value
        if not self.binary:
            return nearest_category(self.value)
        return self.value.round().detach() + (self.value - self.value.detach())

    def _log_prob_of_each(self) -> Tensor:
        raise TypeError(f"site '{self.name}' is discrete: it has masses, and no density")

    @property
    def mean(self) -> Tensor:
        """The masses, ``[*batch, V, K]``."""
        return self.log_mass.exp()

    def divergence(self, other: Site) -> Tensor:
        r"""Of each categorical, :math:`\sum_k q_k (\log q_k - \log r_k)`, ``[*batch, V]``."""
        assert isinstance(other, DiscreteSite)
        return (self.mean * (self.log_mass - other.log_mass)).sum(-1)

    def parameters(self) -> list[Tensor]:
        """The log-masses, ``[*batch, V, K]``."""
        return [self.log_mass]

    def with_parameters(self, tensors: Sequence[Tensor], batch: Size) -> Distribution:
        """A distribution of the same class with other log-masses."""
        base: Any = self.base
        (masses,) = tensors
        masses = masses.reshape(*batch, *self.fine, self.categories)
        given = [base.temperature] if self.relaxed else []
        logits = masses[..., 1] - masses[..., 0] if self.binary else masses
        made: Any = type(base)(*given, logits=logits, validate_args=False)
        return cast(Distribution, made.to_event(len(self.fn.event_shape) - len(base.event_shape)))

    def of_masses(self, log_mass: Tensor) -> "DiscreteSite":
        """A site of the same variables with other log-masses, ``[*batch, V, K]``, of which alone it may be asked."""
        new = self.at(self.fn, self.value)
        assert isinstance(new, DiscreteSite)
        new._log_mass = log_mass
        return new

    def _widened(self) -> Site:
        return self.of_masses(wide(self.log_mass))

    def draw(self, shape: Size, given: Indices = ()) -> Tensor:
        """A sample, whatever is given: categories are summed over, not kept."""
        return super().draw(shape)


@register_site(RelaxedOneHotCategorical)
@register_site(OneHotCategorical)
@register_site(Categorical)
@register_site(RelaxedBernoulli)
@register_site(Bernoulli)
def _discrete(name: str, fn: Distribution, value: Tensor) -> Site | None:
    """A site with masses, unless it is to enter by the density of its relaxed sample."""
    return Site(name, fn, value) if isinstance(unwrap(fn), ConcreteDensity) else DiscreteSite(name, fn, value)


def entering_as(posterior: Site, prior: Site) -> Site:
    """The prior of a relaxed site by its density or by its masses, as its posterior enters the terms."""
    by_density = isinstance(posterior.base, ConcreteDensity)
    if by_density and isinstance(prior.base, RelaxedOneHotCategorical) and not isinstance(prior.base, _ONE_HOT):
        return Site(prior.name, prior.fn, prior.value)
    if isinstance(posterior, DiscreteSite) and isinstance(prior.base, ConcreteDensity):
        return DiscreteSite(prior.name, prior.fn, prior.value)
    return prior


_ONE_HOT = (StraightThroughConcrete, dist.RelaxedOneHotCategoricalStraightThrough)
"""Relaxed categoricals whose samples are one-hot, which have no density."""
