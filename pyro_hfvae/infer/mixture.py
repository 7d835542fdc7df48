"""The sum over references: log Σ_m q(z|x_m) as a fused matrix product with a backward pass of its own."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "NOTHING",
    "gaussian_features",
    "gaussian_parameters",
    "log_sum_of_other_masses",
    "log_sum_of_others",
    "log_sum_of_pairs",
]

CHUNK_ELEMENTS = 2**17
"""About how many pairwise numbers are made at once, in a tensor of 1 MB, which fits into a processor's cache."""

KEPT_ELEMENTS = 2**21
"""Pairwise numbers that are kept for the way back, in a tensor of 16 MB, where there are no more of them."""

NOTHING = -1e30
"""The log-weight of a reference that is to be left out; finite, because 0 · infinity would be NaN on the way back."""


def gaussian_features(value: Tensor) -> Tensor:
    r"""What of a sample enters the product :math:`\log N(z; \mu, \sigma) = f(z) \cdot g(\mu, \sigma)`: z², z and 1.

    Args:
        value: z, [..., D].

    Returns:
        [..., D, 3].
    """
    return torch.stack([value.square(), value, torch.ones_like(value)], -1)


def gaussian_parameters(loc: Tensor, scale: Tensor) -> Tensor:
    r"""What of a posterior enters: −1/2σ², μ/σ² and −μ²/2σ² − log σ − ½ log 2π.

    The product cancels: its error is about ε (z² + μ²) / σ² nats, with ε = 1e-16 in float64 below 1e-6 at a scale of
    1e-4, in float32 .03 at .01 already. So both factors must be float64.

    Args:
        loc: μ, [..., D].
        scale: σ, [..., D].

    Returns:
        [..., D, 3].
    """
    precision = scale.square().reciprocal()
    constant = -0.5 * (loc.square() * precision + math.log(2 * math.pi)) - scale.log()
    return torch.stack([-0.5 * precision, loc * precision, constant], -1)


def log_sum_of_others(
    features: Tensor,
    parameters: Tensor,
    masses: Tensor | None = None,
    more: Tensor | None = None,
    masses_of_more: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""The logarithm of a sum over all references but the sample's own, for each of K weights of the references.

    .. math:: l_{rk} = \log \sum_{m \ne r} v_{mk} \exp(f_r \cdot g_m)

    The own reference of sample r is the r-th. No more than a fixed number of pairwise numbers is held at once, whatever
    B and M are; where there are more, the way back computes them again.

    The product cancels and is float64 always; what follows it need not be. In float32 the result is off by about its
    own rounding, and what further references add to the gradient of a sample z by about ε |z| / σ², as the rounding of
    the sample itself makes it.

    Args:
        features: f of the samples, float64, [..., B, P].
        parameters: g of the batch, the first B references, float64, [..., B, P].
        masses: v ≥ 0 of the batch, float64, [..., B, K]; one of 1 by default.
        more: g of M - B more references, which get no gradient, [..., P, M - B].
        masses_of_more: their v, [..., M - B, K].
        dtype: of all that follows the product, float32 or float64.

    Returns:
        [..., B, K], float64. About :data:`NOTHING` where there is no other reference.
    """
    shape = features.shape[:-1]
    parts = (features, parameters, masses, more, masses_of_more)
    flat = [None if part is None else part.reshape(-1, *part.shape[-2:]) for part in parts]
    outputs: Tensor = (_LogSumOfOthers if masses is None else _LogWeightedSumsOfOthers).apply(dtype, *flat)
    return outputs.view(*shape, -1)


def log_sum_of_pairs(pairs: Tensor, masses: Tensor | None = None) -> Tensor:
    """The same from all log-densities log q(z^r|x^m) of a batch, held at once, for those that are no product.

    Args:
        pairs: float64, [..., B, B].
        masses: v ≥ 0, float64, [..., B, K]; one of 1 by default.

    Returns:
        [..., B, K].
    """
    own = torch.eye(pairs.shape[-1], dtype=torch.bool, device=pairs.device)
    pairs = pairs.masked_fill(own, NOTHING)
    largest = pairs.detach().amax(-1, keepdim=True)  # [..., B, 1]
    relative = (pairs - largest).exp()
    sums = relative.sum(-1, keepdim=True) if masses is None else relative @ masses
    return sums.clamp_min(_smallest(sums.dtype)).log() + largest


def log_sum_of_other_masses(masses: Tensor, more: Tensor | None = None) -> Tensor:
    r"""The same where nothing but the masses tells the references apart, in time that grows with B + M.

    .. math:: l_{rk} = \log \sum_{m \ne r} v_{mk}

    As a sum of those before and those after: the sum of all less the own one would cancel.

    Args:
        masses: v ≥ 0 of the batch, float64, [..., B, K].
        more: v of more references, which get no gradient, [..., M - B, K].

    Returns:
        [..., B, K]. :data:`NOTHING` where the sum is 0.
    """
    none = torch.zeros_like(masses[..., :1, :])
    before = torch.cat([none, masses[..., :-1, :].cumsum(-2)], -2)
    after = torch.cat([none, masses.flip(-2)[..., :-1, :].cumsum(-2)], -2).flip(-2)
    sums = before + after
    if more is not None:
        sums = sums + more.detach().sum(-2, keepdim=True)
    return torch.where(sums > 0, sums.clamp_min(_smallest(sums.dtype)).log(), NOTHING)


class _LogSumOfOthers(torch.autograd.Function):
    """K = 1, v = 1. The gradient of the features is the mean of the parameters, and is made on the way forth."""

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, features: Tensor, batch: Tensor, _: None, more: Tensor | None, __: None
    ) -> Tensor:
        pairs = _Pairs(dtype, features, batch, more)
        outputs = features.new_empty(*features.shape[:2], 1)
        means = torch.empty_like(features) if ctx.needs_input_grad[1] else None
        for lead, rows in pairs.pieces():
            relative = pairs.log_densities(lead, rows)
            largest = relative.amax(-1, keepdim=True)  # [L, R, 1]
            _exp(relative.sub_(largest))
            sums = relative.sum(-1, keepdim=True)
            outputs[lead, rows] = sums.log().add_(largest).to(outputs)
            if means is not None:
                means[lead, rows] = pairs.times_parameters(relative, lead) / sums
        ctx.save_for_backward(features, batch, outputs, means)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        features, batch, outputs, means = ctx.saved_tensors
        of_features = None if means is None else gradient * means
        of_batch = torch.zeros_like(batch) if ctx.needs_input_grad[2] else None
        if of_batch is not None:
            pairs = _Pairs(features.dtype, features, batch, None)
            for lead, rows in pairs.pieces():
                of_pairs = _exp(pairs.log_densities(lead, rows).sub_(outputs[lead, rows]))  # [L, R, B]
                of_batch[lead] += of_pairs.mul_(gradient[lead, rows]).mT @ features[lead, rows]
        return None, of_features, of_batch, None, None, None


class _LogWeightedSumsOfOthers(torch.autograd.Function):
    """Any K and v."""

    @staticmethod
    def forward(
        ctx: Any,
        dtype: torch.dtype,
        features: Tensor,
        batch: Tensor,
        masses: Tensor,
        more: Tensor | None,
        masses_of_more: Tensor | None,
    ) -> Tensor:
        pairs = _Pairs(dtype, features, batch, more)
        weights = (masses if masses_of_more is None else torch.cat([masses, masses_of_more], 1)).to(dtype)
        outputs = features.new_empty(*features.shape[:2], masses.shape[-1])
        largest = features.new_empty(*features.shape[:2], 1, dtype=dtype)
        shape = (*features.shape[:2], pairs.references)
        kept = largest.new_empty(shape) if math.prod(shape) <= KEPT_ELEMENTS else None  # [L, B, M]
        for lead, rows in pairs.pieces():
            relative = pairs.log_densities(lead, rows, None if kept is None else kept[lead, rows])
            largest[lead, rows] = relative.amax(-1, keepdim=True)
            sums = _exp(relative.sub_(largest[lead, rows])) @ weights[lead]  # [L, R, K]
            outputs[lead, rows] = sums.clamp_min_(_smallest(dtype)).log_().add_(largest[lead, rows]).to(outputs)
        ctx.dtype = dtype
        ctx.save_for_backward(features, batch, more, weights, outputs, largest, kept)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        features, batch, more, weights, outputs, largest, kept = ctx.saved_tensors
        size = batch.shape[1]
        of_features, of_batch = torch.zeros_like(features), torch.zeros_like(batch)
        of_masses = batch.new_zeros(*batch.shape[:2], weights.shape[-1])
        pairs = _Pairs(ctx.dtype, features, batch, more)
        for lead, rows in pairs.pieces():
            if kept is None:
                relative = _exp(pairs.log_densities(lead, rows).sub_(largest[lead, rows]))  # [L, R, M]
            else:
                relative = kept[lead, rows]
            # What a summand counts for in l_rk, in units of exp(largest).
            scaled = gradient[lead, rows] * (largest[lead, rows] - outputs[lead, rows]).exp()  # [L, R, K]
            scaled = scaled.to(ctx.dtype)
            of_masses[lead] += relative[..., :size].mT @ scaled
            of_pairs = (scaled @ weights[lead].mT).mul_(relative)
            of_features[lead, rows] = pairs.times_parameters(of_pairs, lead)
            of_batch[lead] += of_pairs[..., :size].to(features.dtype).mT @ features[lead, rows]
        return None, of_features, of_batch, of_masses, None, None


class _Pairs:
    """The log-densities f · g of all samples under all references, some of them at a time, in the same memory."""

    def __init__(self, dtype: torch.dtype, features: Tensor, batch: Tensor, more: Tensor | None) -> None:
        self.features, self.batch, self.more = features, batch, more
        self.references = batch.shape[1] + (0 if more is None else more.shape[2])
        lead, rows = next(self.pieces())
        self._wide = features.new_empty(lead.stop * rows.stop * self.references)
        self._narrow = self._wide if dtype == features.dtype else torch.empty_like(self._wide, dtype=dtype)
        self._narrow_more = None if more is None else more.to(dtype)

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """Slices of the leading dimension and of the samples whose pairs with the references are few enough."""
        leading, samples = self.features.shape[:2]
        rows = _share(samples, self.references)
        leads = _share(leading, samples * self.references)
        for lead in range(0, leading, leads):
            for start in range(0, samples, rows):
                yield slice(lead, min(lead + leads, leading)), slice(start, min(start + rows, samples))

    def log_densities(self, lead: slice, rows: slice, out: Tensor | None = None) -> Tensor:
        """Those of a piece, [L, R, M], to be changed at will until the next; :data:`NOTHING` for the own reference."""
        features, size = self.features[lead, rows], self.batch.shape[1]
        shape = (*features.shape[:2], self.references)
        wide = self._wide[: math.prod(shape)].view(shape)
        # Side by side into one tensor: to put the parameters themselves side by side takes as long as the product.
        torch.bmm(features, self.batch[lead].mT, out=wide[..., :size])
        if self.more is not None:
            torch.bmm(features, self.more[lead], out=wide[..., size:])
        wide[..., rows.start : rows.stop].diagonal(dim1=-2, dim2=-1).fill_(NOTHING)
        if out is None and self._narrow is self._wide:
            return wide
        return (self._narrow[: math.prod(shape)].view(shape) if out is None else out).copy_(wide)

    def times_parameters(self, weights: Tensor, lead: slice) -> Tensor:
        """Sums of the parameters of all references with weights [L, R, M], [L, R, P], float64.

        What follows cancels as the product does. Only the sum over the further references is left to ``dtype``.
        """
        size = self.batch.shape[1]
        sums = weights[..., :size].to(self.batch.dtype) @ self.batch[lead]
        return sums if self._narrow_more is None else sums + weights[..., size:] @ self._narrow_more[lead].mT


def _exp(exponents: Tensor) -> Tensor:
    """exp in place; what underflows is 1e-304 or 1e-26, because the way that leads to 0 takes many times as long.

    In float32 there is room left for masses to be multiplied with it.
    """
    return exponents.clamp_min_(-700.0 if exponents.dtype == torch.float64 else -60.0).exp_()


def _smallest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).tiny


def _share(count: int, size: int) -> int:
    """How many of ``count`` things of some size to take at a time, in about equal parts, half too many at most."""
    parts = max(1, round(count * size / CHUNK_ELEMENTS))
    return max(1, min(math.ceil(count / parts), 3 * CHUNK_ELEMENTS // (2 * size)))
