"""What a latent site can be asked, whatever its distribution is, and the register of distributions."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, kl_divergence

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.sites.parameters import map_parameters, parameters, with_parameters

__all__ = ["NOTHING", "Site", "describe", "read_site", "register_site"]

NOTHING = -1e30
"""A log-density of 0 as a finite number: 0 · infinity would be NaN in a backward pass."""

Indices = Sequence[int]
"""Variables of a site, in C order."""


class Site:
    """A distribution of a latent site and a value of it.

    This class serves every distribution by its ``log_prob``. Its variables are the dimensions that ``.to_event``
    declares, each by itself: V numbers of ``Normal(...).to_event(1)``, n points of ``Dirichlet(...).to_event(1)``. A
    distribution that is not independent over its event (a flow, say) is one variable, an atom: the joint density is all
    that it can be asked.

    Subclasses know more: marginals of dependent variables, densities of all pairs as one matrix product, categories.

    Args:
        name: of the site.
        fn: the distribution, of batch shape ``[*batch]``.
        value: of the site, ``[*batch, *event]``; its batch may have more dimensions, or broadcast against that of fn.
    """

    discrete: ClassVar[bool] = False
    """Whether its variables are categoricals."""
    independent: ClassVar[bool] = True
    """Whether its variables are independent of one another."""

    def __init__(self, name: str, fn: Distribution, value: Tensor) -> None:
        self.name = name
        self.fn = fn
        self.value = value
        self.grain = 1
        self._densities: Tensor | None = None
        self._each: tuple[Tensor, ...] | None = None
        self._wide: Site | None = None

    @property
    def relaxed(self) -> bool:
        """Whether its value stands for categories and has a gradient."""
        return False

    @property
    def point(self) -> bool:
        """Whether it is a point estimate (Delta, under whatever wraps it), which has no density."""
        return any(isinstance(fn, dist.Delta) for fn in _layers(self.fn))

    @property
    def masked(self) -> bool:
        """Whether some of its densities are left out."""
        return any(isinstance(fn, dist.MaskedDistribution) for fn in _layers(self.fn))

    @property
    def base(self) -> Distribution:
        """The distribution under ``.to_event``."""
        return unwrap(self.fn)

    @property
    def cells(self) -> Size:
        """The event dimensions that ``.to_event`` declares."""
        event = Size(self.fn.event_shape)  # some classes of Pyro give a tuple
        return event[: len(event) - len(self.base.event_shape)]

    @property
    def fine(self) -> Size:
        """The shape of the variables that it has marginals of."""
        return self.cells

    @property
    def variables(self) -> int:
        """V, the number of variables."""
        return self.fine.numel() // self.grain

    def shape_of(self, other: "Site") -> Size:
        """The shape of the variables that both sites have marginals of."""
        return min(self.fine, other.fine, key=len)

    def merged(self, variables: int) -> "Site":
        """The same site with fewer variables, each of several of its own that follow one another."""
        if variables == self.variables:
            return self
        new = copy.copy(self)
        new.grain = self.fine.numel() // variables
        new._wide = None
        return new

    def at(self, fn: Distribution, value: Tensor) -> "Site":
        """A site of the same class and variables, of another distribution and value."""
        new = type(self)(self.name, fn, value)
        new.grain = self.grain
        return new

    def log_prob(self, indices: Indices) -> Tensor:
        """The joint log-density of some variables at their value, ``[*batch]``, in nats."""
        return self._log_prob([i * self.grain + j for i in indices for j in range(self.grain)])

    def _log_prob(self, indices: Indices) -> Tensor:
        if len(indices) == len(self.densities) > 1:
            return self.densities.sum(0)
        total = self.each[indices[0]]
        for index in indices[1:]:
            total = total + self.each[index]
        return total

    @property
    def densities(self) -> Tensor:
        """The log-density of each variable by itself, unmerged, ``[V, *batch]``; made once."""
        if self._densities is None:
            self._densities = self._log_prob_of_each()
        return self._densities

    @property
    def mean_densities(self) -> Tensor:
        """The mean of the log-density of each variable by itself over the batch, ``[V]``."""
        found = self.densities.flatten(1).mean(1)
        return found.reshape(self.variables, self.grain).sum(1) if self.grain > 1 else found

    @property
    def each(self) -> tuple[Tensor, ...]:
        """The same apart from one another: the gradient of a part of a tensor is as large as the whole."""
        if self._each is None:
            self._each = self.densities.unbind()
        return self._each

    def _log_prob_of_each(self) -> Tensor:
        log_prob = unvalidated(self.base).log_prob(self.value)  # [*batch, *cells]
        log_prob = torch.nan_to_num(log_prob, nan=torch.nan, posinf=torch.inf, neginf=NOTHING)
        shape = log_prob.shape[: log_prob.dim() - len(self.cells)]
        return log_prob.reshape(*shape, -1).movedim(-1, 0)

    def features(self, indices: Indices) -> tuple[Tensor, Tensor] | None:
        r"""f and h of :math:`\log r(z_G) = f(z) \cdot g + c + h(z)`, ``[*batch, P]`` and ``[*batch]``; None without."""
        return None

    def coefficients(self, indices: Indices) -> tuple[Tensor, Tensor] | None:
        """g and c, ``[*batch, P]`` and ``[*batch]``, for the same variables."""
        return None

    def draw(self, shape: Size, given: Indices = ()) -> Tensor:
        """A sample of the site for a batch shape that its own broadcasts to, given the values of some variables.

        Args:
            shape: ``[*shape]``; where its last entry is 1, one sample for all data, from the distribution of the first.
            given: variables whose values are kept.

        Returns:
            ``[*shape, *event]``, reparameterised where the distribution allows.

        Raises:
            NotImplementedError: variables that are not independent of one another, some of which are given.
        """
        event = self.fn.event_shape
        known = [i * self.grain + j for i in given for j in range(self.grain)]
        if len(known) == self.fine.numel():
            return self.value.expand(*shape, *event)
        free = draw(self.fn, shape)
        if not known:
            return free
        return self._conditioned(free, known, shape)

    def _conditioned(self, free: Tensor, known: Indices, shape: Size) -> Tensor:
        """A sample whose known variables have their values and whose others follow from them."""
        fixed = torch.zeros(self.fine.numel(), dtype=torch.bool, device=free.device)
        fixed[list(known)] = True
        inner = len(self.fn.event_shape) - len(self.fine)
        return torch.where(fixed.reshape(*self.fine, *(1,) * inner), self.value.expand_as(free), free)

    @property
    def mean(self) -> Tensor:
        """E[z], or the median where that has a closed form and the mean has not, ``[*batch, *event]``.

        Raises:
            NotImplementedError: neither has one; names the site.
        """
        try:
            return self.fn.mean
        except NotImplementedError:
            raise NotImplementedError(
                f"site '{self.name}' is {describe(self.fn)}, whose mean has no closed form"
            ) from None

    def divergence(self, other: "Site") -> Tensor:
        r"""Of each cell, exact, ``[*batch, *cells]``, in nats; of a categorical site of each variable, ``[*batch, V]``.

        .. math:: KL(q(z) \| r(z)), \qquad q \text{ of this site},\ r \text{ of the other}

        Args:
            other: a site of the same class and shape.

        Raises:
            NotImplementedError: it has no closed form; names the site.
        """
        try:
            if not self.point:
                return kl_divergence(self.base, other.base)
        except NotImplementedError:
            pass
        raise NotImplementedError(
            f"site '{self.name}' is {describe(self.fn)}, whose divergence from another has no closed form"
        )

    def parameters(self) -> list[Tensor]:
        """What the distribution is made of, ``[*batch, ...]`` each; of independent variables ``[*batch, *cells, ...]``.

        Raises:
            NotImplementedError: the distribution hides what it depends on; names it.
        """
        return parameters(self.fn)

    def with_parameters(self, tensors: Sequence[Tensor], batch: Size) -> Distribution:
        """A distribution of the same class with other parameters, as :meth:`parameters` gives them."""
        return with_parameters(self.fn, tensors, batch)

    def double(self) -> "Site":
        """The same in float64, where its parameters can be taken out of it; made once."""
        if self._wide is None:
            self._wide = self._widened()
            self._wide._wide = self._wide
        return self._wide

    def _widened(self) -> "Site":
        try:
            fn = map_parameters(self.fn, lambda tensor, *_: wide(tensor), self.fn.batch_shape)
        except NotImplementedError:
            return self
        return self.at(fn, wide(self.value))


Reader = Callable[[str, Distribution, Tensor], Site | None]
"""From the name of a site, its distribution and value to the site; None leaves it to the next class."""

_R = TypeVar("_R", bound=Reader)
_readers: dict[type[Distribution], Reader] = {}


def register_site(cls: type[Distribution]) -> Callable[[_R], _R]:
    """Makes a function, or a subclass of :class:`Site`, the reader of sites of a distribution and its subclasses.

    As ``torch.distributions.register_kl``. The class that is meant is the one under ``.to_event``; the nearest class in
    the distribution's method resolution order counts.

    Args:
        cls: a class of distributions.
    """

    def register(reader: _R) -> _R:
        _readers[cls] = reader
        return reader

    return register


def read_site(name: str, fn: Distribution, value: Tensor | None = None) -> Site:
    """The site of a distribution and a value of it.

    Args:
        name: of the site.
        fn: the distribution.
        value: ``[*batch, *event]``; may be left out where only the distribution is asked about.
    """
    if value is None:
        value = torch.zeros(()).expand(fn.batch_shape + fn.event_shape)
    for cls in type(unwrap(fn)).__mro__:
        if cls in _readers and (site := _readers[cls](name, fn, value)) is not None:
            return site
    return Site(name, fn, value)


def _layers(fn: Distribution | None) -> Iterator[Distribution]:
    """A distribution and those that it wraps."""
    while fn is not None:
        yield fn
        fn = getattr(fn, "base_dist", None)


def describe(fn: Distribution) -> str:
    """What a distribution is called in a message."""
    base = unwrap(fn)
    inner = getattr(base, "base_dist", None)
    if type(base).__name__ == "MaskedDistribution" and isinstance(inner, Distribution):
        return f"a masked {type(unwrap(inner)).__name__}"
    return type(base).__name__


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64, on a device that has it; what plates repeat is converted once."""
    once = tensor
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0:
            once = once.narrow(dim, 0, 1)
    made = (once.cpu() if once.device.type == "mps" else once).double()
    return made if once is tensor else made.expand(tensor.shape)


def unvalidated(fn: Distribution) -> Distribution:
    """The same distribution, whose densities are 0 outside of its support in place of an error."""
    new = copy.copy(fn)
    new._validate_args = False
    for name, value in vars(fn).items():
        if isinstance(value, Distribution):
            new.__dict__[name] = unvalidated(value)
    return new


def draw(fn: Distribution, shape: Size) -> Tensor:
    """A sample of batch shape ``[*shape]``; with a last entry of 1, one for all data, which must be alike."""
    sample: Any = fn.rsample if fn.has_rsample else fn.sample
    if shape[-1] == 1 and len(fn.batch_shape) <= 1:
        # The data's own independent draws stand in for further ones.
        count, size = shape.numel(), fn.batch_shape.numel()
        draws = sample(torch.Size([math.ceil(count / size)])).reshape(-1, *fn.event_shape)
        return draws[:count].reshape(*shape, *fn.event_shape)  # type: ignore[no-any-return]
    expanded: Any = fn.expand(torch.broadcast_shapes(fn.batch_shape, shape))
    value: Tensor = expanded.rsample() if fn.has_rsample else expanded.sample()
    return value.narrow(len(shape) - 1, 0, shape[-1])
