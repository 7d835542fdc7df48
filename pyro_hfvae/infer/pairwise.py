"""Sums over references: log Σ_m q(z|x_m) as a fused matrix product with a backward pass of its own."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyro_hfvae.sites import NOTHING

__all__ = ["log_sum_of_other_masses", "log_sum_of_others", "log_sum_of_pairs"]

CHUNK_ELEMENTS = 2**17
"""About how many pairwise numbers are made at once, in a tensor of 1 MB, which fits into a processor's cache."""

KEPT_ELEMENTS = 2**21
"""Pairwise numbers that are kept for the way back, in a tensor of 16 MB, where there are no more of them."""


def log_sum_of_others(
    features: Tensor,
    parameters: Tensor,
    first: int = 0,
    masses: Tensor | None = None,
    more: Tensor | None = None,
    masses_of_more: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""The logarithm of a sum over all references but the sample's own, for each of K weights of the references.

    .. math:: l_{rk} = \log \sum_{m \ne \mathrm{own}(r)} v_{mk} \exp(f_r \cdot g_m)

    No more than a fixed number of pairwise numbers is held at once, whatever R and M are; where there are more, the
    backward pass computes them again.

    The matrix product suffers from cancellation and is always float64; the log-sum-exp may use float32, which adds an
    error of about one float32 rounding to the value and, through further references, ε |z| / σ² to the gradient of z.

    Args:
        features: f of the samples, float64, [..., R, P].
        parameters: g of the references, float64, [..., M, P].
        first: the own reference of sample r is number first + r.
        masses: v ≥ 0 of the references, float64, [..., M, K]; one of 1 by default.
        more: g of further references, which get no gradient, [..., P, M'].
        masses_of_more: their v, [..., M', K].
        dtype: of all that follows the product, float32 or float64. Without masses a processor (CPU) takes longer to
            convert the product than float32 saves, and takes float64.

    Returns:
        [..., R, K], float64. About :data:`~pyro_hfvae.sites.NOTHING` where there is no other reference.
    """
    shape = features.shape[:-1]
    given = (features, parameters, masses, more, masses_of_more)
    flat = [None if part is None else part.reshape(-1, *part.shape[-2:]) for part in given]
    sums = _LogSumOfOthers if masses is None else _LogWeightedSumsOfOthers
    if masses is None and features.device.type == "cpu":
        dtype = torch.float64
    outputs: Tensor = sums.apply(dtype, first, torch.is_grad_enabled(), *flat)[0]
    return outputs.view(*shape, -1)


def log_sum_of_pairs(pairs: Tensor, masses: Tensor) -> Tensor:
    r"""The logarithm of a sum over all references, for log-densities of all pairs.

    .. math:: l_{rk} = \log \sum_m v_{mk} \exp(p_{rm})

    Args:
        pairs: p, the logarithm of a weight included, [..., R, M].
        masses: v ≥ 0, [..., M, K].

    Returns:
        [..., R, K].
    """
    largest = pairs.detach().amax(-1, keepdim=True)  # [..., R, 1]
    sums = (pairs - largest).exp() @ masses.to(pairs)
    return sums.clamp_min(_smallest(sums.dtype)).log() + largest


def log_sum_of_other_masses(
    masses: Tensor, first: int = 0, count: int | None = None, more: Tensor | None = None
) -> Tensor:
    r"""The same for discrete variables alone, in time that grows with R + M.

    .. math:: l_{rk} = \log \sum_{m \ne \mathrm{own}(r)} v_{mk}

    As a sum of those before and those after: the sum of all less the own one would cancel.

    Args:
        masses: v ≥ 0 of the references, float64, [..., M, K].
        first: the own reference of sample r is number first + r.
        count: R, the number of samples; M by default.
        more: v of further references, which get no gradient, [..., M', K].

    Returns:
        [..., R, K]. :data:`~pyro_hfvae.sites.NOTHING` where the sum is 0.
    """
    none = torch.zeros_like(masses[..., :1, :])
    before = torch.cat([none, masses[..., :-1, :].cumsum(-2)], -2)
    after = torch.cat([none, masses.flip(-2)[..., :-1, :].cumsum(-2)], -2).flip(-2)
    sums = (before + after).narrow(-2, first, masses.shape[-2] if count is None else count)
    if more is not None:
        sums = sums + more.detach().sum(-2, keepdim=True)
    return torch.where(sums > 0, sums.clamp_min(_smallest(sums.dtype)).log(), NOTHING)


class _LogSumOfOthers(torch.autograd.Function):
    """K = 1, v = 1. The gradient of the features is the mean of the parameters, and is made in the forward pass."""

    @staticmethod
    def forward(
        dtype: torch.dtype,
        first: int,
        graded: bool,
        features: Tensor,
        batch: Tensor,
        _: None,
        more: Tensor | None,
        __: None,
    ) -> tuple[Tensor, ...]:
        pairs = _Pairs(dtype, features, batch, more, first)
        outputs = features.new_empty(*features.shape[:2], 1)
        sums, largest = (torch.empty_like(outputs, dtype=dtype) for _ in range(2))
        means = torch.empty_like(features) if graded else features.new_empty(0)
        for lead, rows in pairs.pieces():
            relative = pairs.log_densities(lead, rows)
            largest[lead, rows] = relative.amax(-1, keepdim=True)  # [L, R, 1]
            _exp(relative.sub_(largest[lead, rows]))
            sums[lead, rows] = relative.sum(-1, keepdim=True)
            outputs[lead, rows] = sums[lead, rows].log().add_(largest[lead, rows]).to(outputs)
            if graded:
                means[lead, rows] = pairs.times_parameters(relative, lead) / sums[lead, rows]
        return outputs, sums, largest, means

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.dtype, ctx.first, _, features, batch, *_ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, batch, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        features, batch, sums, largest, means = ctx.saved_tensors
        if gradient is None:
            return (None,) * 8
        of_features = gradient * means
        of_batch = torch.zeros_like(batch) if ctx.needs_input_grad[4] else None
        if of_batch is not None:
            pairs = _Pairs(ctx.dtype, features, batch, None, ctx.first)
            for lead, rows in pairs.pieces():
                # Relative to the same maximum as in the forward pass: no rounding makes it overflow.
                of_pairs = _exp(pairs.log_densities(lead, rows).sub_(largest[lead, rows]))  # [L, R, M]
                scaled = (gradient[lead, rows] / sums[lead, rows]).to(ctx.dtype)
                of_batch[lead] += of_pairs.mul_(scaled).to(features.dtype).mT @ features[lead, rows]
        return None, None, None, of_features, of_batch, None, None, None


class _LogWeightedSumsOfOthers(torch.autograd.Function):
    """Any K and v."""

    @staticmethod
    def forward(
        dtype: torch.dtype,
        first: int,
        graded: bool,
        features: Tensor,
        batch: Tensor,
        masses: Tensor,
        more: Tensor | None,
        masses_of_more: Tensor | None,
    ) -> tuple[Tensor, ...]:
        pairs = _Pairs(dtype, features, batch, more, first)
        # A view: an input that is returned as it is could not be kept for the backward pass.
        weights = masses.view_as(masses) if masses_of_more is None else torch.cat([masses, masses_of_more], 1)
        weights = weights.to(dtype)
        outputs = features.new_empty(*features.shape[:2], masses.shape[-1])
        sums = torch.empty_like(outputs, dtype=dtype)
        largest = features.new_empty(*features.shape[:2], 1, dtype=dtype)
        shape = (*features.shape[:2], pairs.references)
        keeps = graded and math.prod(shape) <= KEPT_ELEMENTS
        kept = largest.new_empty(shape if keeps else 0)  # [L, R, M]
        for lead, rows in pairs.pieces():
            relative = pairs.log_densities(lead, rows, kept[lead, rows] if keeps else None)
            largest[lead, rows] = relative.amax(-1, keepdim=True)
            sums[lead, rows] = (_exp(relative.sub_(largest[lead, rows])) @ weights[lead]).clamp_min_(_smallest(dtype))
            outputs[lead, rows] = sums[lead, rows].log().add_(largest[lead, rows]).to(outputs)
        return outputs, weights.view_as(weights), sums, largest, kept  # an input itself could not be kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.dtype, ctx.first, _, features, batch, _, more, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, batch, more, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        features, batch, more, weights, sums, largest, kept = ctx.saved_tensors
        if gradient is None:
            return (None,) * 8
        size = batch.shape[1]
        of_features, of_batch = torch.zeros_like(features), torch.zeros_like(batch)
        of_masses = batch.new_zeros(*batch.shape[:2], weights.shape[-1])
        pairs = _Pairs(ctx.dtype, features, batch, more, ctx.first)
        for lead, rows in pairs.pieces():
            if kept.numel():
                relative = kept[lead, rows]
            else:
                relative = _exp(pairs.log_densities(lead, rows).sub_(largest[lead, rows]))  # [L, R, M]
            scaled = (gradient[lead, rows] / sums[lead, rows]).to(ctx.dtype)  # [L, R, K]
            of_masses[lead] += relative[..., :size].mT @ scaled
            of_pairs = (scaled @ weights[lead].mT).mul_(relative)
            of_features[lead, rows] = pairs.times_parameters(of_pairs, lead)
            of_batch[lead] += of_pairs[..., :size].to(features.dtype).mT @ features[lead, rows]
        return None, None, None, of_features, of_batch, of_masses, None, None


class _Pairs:
    """The log-densities f · g of all samples under all references, some of them at a time, in the same memory."""

    def __init__(self, dtype: torch.dtype, features: Tensor, batch: Tensor, more: Tensor | None, first: int) -> None:
        self.features, self.batch, self.more, self.first = features, batch, more, first
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
        """Log-densities of one chunk, [L, R, M], :data:`NOTHING` for the own reference.

        The buffer is reused by the next call and may be modified in place.
        """
        features, size = self.features[lead, rows], self.batch.shape[1]
        shape = (*features.shape[:2], self.references)
        wide = self._wide[: math.prod(shape)].view(shape)
        # Side by side into one tensor: to put the parameters themselves side by side takes as long as the product.
        torch.bmm(features, self.batch[lead].mT, out=wide[..., :size])
        if self.more is not None:
            torch.bmm(features, self.more[lead], out=wide[..., size:])
        own = wide[..., self.first + rows.start : self.first + rows.stop]
        own.diagonal(dim1=-2, dim2=-1).fill_(NOTHING)
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
    """In-place exp of what is at most 0, clamped to avoid denormals, which are slow.

    In float32 there is room left for masses to be multiplied with it.
    """
    return exponents.clamp_(-700.0 if exponents.dtype == torch.float64 else -60.0, 0.0).exp_()


def _smallest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).tiny


def _share(count: int, size: int) -> int:
    """Chunk size that splits ``count`` items evenly, at most 1.5 times CHUNK_ELEMENTS numbers per chunk."""
    parts = max(1, round(count * size / CHUNK_ELEMENTS))
    return max(1, min(math.ceil(count / parts), 3 * CHUNK_ELEMENTS // (2 * size)))
