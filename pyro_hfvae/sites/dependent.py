"""Sites whose variables depend on one another and have marginals all the same: multivariate normals, mixtures."""

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Size, Tensor
from torch.distributions import (
    Distribution,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
)

from pyro_hfvae.distributions import unwrap
from pyro_hfvae.sites.exponential import normal_log_prob
from pyro_hfvae.sites.site import Indices, Site, read_site, register_site, unvalidated

__all__ = ["CorrelatedSite", "MixtureSite"]


class _Vectors(Site):
    """Cells that are vectors of dependent variables, and independent of one another; ``[*cells, d]`` variables."""

    independent = False

    @property
    def fine(self) -> Size:
        return self.fn.event_shape

    @property
    def _size(self) -> int:
        """d, the variables of a cell."""
        return self.base.event_shape.numel()

    def _log_prob(self, indices: Indices) -> Tensor:
        if len(indices) == 1:
            return self.each[indices[0]]
        if len(indices) == self.fine.numel():
            return _sum_of_cells(self._log_prob_of_cells(range(self._size)), len(self.cells))
        members: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for cell in sorted({index // self._size for index in indices}):
            inside = tuple(index % self._size for index in indices if index // self._size == cell)
            members[inside].append(cell)
        total = []
        for inside, cells in members.items():
            found = self._log_prob_of_cells(inside)
            batch = found.shape[: found.dim() - len(self.cells)]
            total.append(found.reshape(*batch, -1)[..., cells].sum(-1))
        return torch.stack(total).sum(0)

    @abstractmethod
    def _log_prob_of_cells(self, inside: Sequence[int]) -> Tensor:
        """The joint log-density of some variables of every cell, ``[*batch, *cells]``."""


@register_site(MultivariateNormal)
@register_site(LowRankMultivariateNormal)
class CorrelatedSite(_Vectors):
    r"""Multivariate normals: groups G of variables have the sub-matrices of the covariance.

    .. math:: \log N(z_G; \mu_G, \Sigma_{GG}) = -\tfrac12 z_G^T \Lambda z_G + z_G^T \Lambda \mu_G + c,
        \qquad \Lambda = \Sigma_{GG}^{-1}
    """

    @property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``[*batch, *cells, d]`` and covariance ``[*batch, *cells, d, d]``, once where plates repeat it."""
        base: Any = self.base
        covariance: Tensor = base.covariance_matrix
        for dim in range(covariance.dim() - 2):
            if covariance.stride(dim) == 0:
                covariance = covariance.narrow(dim, 0, 1)
        return base.loc, covariance

    def _log_prob_of_each(self) -> Tensor:
        loc, covariance = self._moments
        scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        found = normal_log_prob(self.value, loc, scale)  # [*batch, *cells, d]
        return found.flatten(found.dim() - len(self.fn.event_shape)).movedim(-1, 0)

    def _log_prob_of_cells(self, inside: Sequence[int]) -> Tensor:
        base: Any = self.base
        if len(inside) == self._size:
            return unvalidated(base).log_prob(self.value)
        loc, covariance = self._moments
        some = list(inside)
        covariance = covariance[..., some, :][..., some]
        group: Any = MultivariateNormal(loc[..., some], covariance, validate_args=False)
        return group.log_prob(self.value[..., some])  # type: ignore[no-any-return]

    def features(self, indices: Indices) -> tuple[Tensor, Tensor] | None:
        """z z^T and z of the variables of one cell."""
        if self.cells.numel() != 1:
            return None
        value = self._flat(self.value)[..., self._fine(indices)]
        features = torch.cat([(value[..., None] * value[..., None, :]).flatten(-2), value], -1)
        return features, features.new_zeros(features.shape[:-1])

    def coefficients(self, indices: Indices) -> tuple[Tensor, Tensor] | None:
        """-Λ/2, Λμ and the constant."""
        if self.cells.numel() != 1:
            return None
        some, base = self._fine(indices), cast(Any, self.base)
        covariance = base.covariance_matrix.reshape(*self.fn.batch_shape, self._size, self._size)
        loc = self._flat(base.loc)[..., some]
        factor = torch.linalg.cholesky(covariance[..., some, :][..., some])
        precision = torch.cholesky_inverse(factor)  # [*batch, n, n]
        product = (precision @ loc[..., None])[..., 0]
        log_normaliser = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * len(some) * math.log(2 * math.pi)
        constant = -0.5 * (loc * product).sum(-1) - log_normaliser
        return torch.cat([-0.5 * precision.flatten(-2), product], -1), constant

    def _flat(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(tensor.dim() - len(self.fn.event_shape))

    def _fine(self, indices: Indices) -> list[int]:
        return [i * self.grain + j for i in indices for j in range(self.grain)]

    def _conditioned(self, free: Tensor, known: Indices, shape: Size) -> Tensor:
        r"""Matheron's rule.

        .. math:: z = z' + \Sigma_{\cdot G} \Sigma_{GG}^{-1} (z_G - z'_G), \qquad z' \sim p
        """
        if self.cells.numel() != 1:
            raise NotImplementedError(
                f"site '{self.name}' has several multivariate normals, and some of their variables stand above others "
                "of a group: their conditional samples are not known here; make each a site of its own"
            )
        some = list(known)
        with torch.autocast(free.device.type, enabled=False):  # products in bfloat16 would move the sample
            _, covariance = self._moments
            covariance = covariance.reshape(*covariance.shape[: len(self.fn.batch_shape)], self._size, self._size)
            gain = torch.linalg.solve(covariance[..., some, :][..., some], covariance[..., some, :]).mT
            flat = free.reshape(*shape, self._size)
            given = self.value.expand(*shape, *self.fn.event_shape).reshape(*shape, self._size)
            moved = flat + (gain @ (given - flat)[..., some, None])[..., 0]  # gain: [..., d, |G|]
        return super()._conditioned(moved.reshape(free.shape), known, shape)


class MixtureSite(_Vectors):
    r"""Mixtures whose components have marginals.

    .. math:: \log p(z_G) = \log \sum_k \pi_k\, p_k(z_G)
    """

    def __init__(self, name: str, fn: Distribution, value: Tensor) -> None:
        super().__init__(name, fn, value)
        base: Any = self.base
        event = len(base.event_shape)
        component = base.component_distribution
        self._components = read_site(name, component, value.unsqueeze(value.dim() - event))
        self._log_weights: Tensor = base.mixture_distribution.logits.log_softmax(-1)  # [*batch, *cells, K]

    def _log_prob_of_each(self) -> Tensor:
        each = [self._log_prob_of_cells([index]) for index in range(self._size)]  # [*batch, *cells] each
        found = torch.stack(each, -1)
        return found.flatten(found.dim() - len(self.fn.event_shape)).movedim(-1, 0)

    def _log_prob_of_cells(self, inside: Sequence[int]) -> Tensor:
        return (self._log_weights + self._components.log_prob(inside)).logsumexp(-1)

    def _conditioned(self, free: Tensor, known: Indices, shape: Size) -> Tensor:
        raise NotImplementedError(
            f"site '{self.name}' is a mixture, and some of its variables stand above others of a group: conditional "
            "samples of mixtures are not known here; give the component a site of its own"
        )


@register_site(MixtureSameFamily)
def _mixture(name: str, fn: Distribution, value: Tensor) -> Site | None:
    """A mixture of vectors; those of numbers, and those of which only the joint density is known, are plain sites."""
    base: Any = unwrap(fn)
    event = len(base.event_shape)
    if not event:
        return None
    inner = read_site(name, base.component_distribution, value.unsqueeze(value.dim() - event))
    return MixtureSite(name, fn, value) if inner.fine == base.event_shape else None


def _sum_of_cells(tensor: Tensor, cells: int) -> Tensor:
    return tensor.sum(tuple(range(-cells, 0))) if cells else tensor
