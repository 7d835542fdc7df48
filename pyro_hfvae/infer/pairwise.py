"""Sums over references, log Σ_m r(z|x_m) of several groups of variables at once, with a backward pass of its own."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Normals", "Pairs", "log_sums", "slice_of"]

CHUNK_NUMBERS = 2**18
"""About how many pairwise numbers a processor makes at once: 1 MB in float32, which fits into its cache."""

CHUNK_NUMBERS_OF_DEVICES = 2**25
"""The same of other devices, 128 MB: each piece costs some launches."""


Piece = tuple[slice, slice]
"""Some particles, and some samples."""


@dataclass(frozen=True)
class Normals:
    """V normal variables at S · B samples, and their posteriors given M references; densities are made by differences.

    Those do not cancel, however narrow and far apart the posteriors are, so that float32 is enough for them.
    """

    value: Tensor  # [S, B, V]
    loc: Tensor  # [S, M, V]
    scale: Tensor  # [S, M, V]


@dataclass(frozen=True)
class Pairs:
    """log-densities of all pairs of a sample and a reference, in C columns: those of normal variables come first."""

    shape: tuple[int, int, int]
    """S, B, M."""
    device: torch.device
    normals: Normals | None
    products: Sequence[tuple[Tensor, Tensor]] = ()
    """Of columns that are f · g, [S, B, P] and [S, M, P]; float64, for they cancel."""
    given: Sequence[tuple[int, Callable[[Piece], Tensor]]] = ()
    """How many columns are made by a function of some samples, and that, [C', S', R, M]."""
    weights: Tensor | None = None
    """Logarithms of the weights of the references, [1, M], or of each line, [L, M]; without gradient, 0 by default."""
    own: float | Tensor | None = None
    """What is added for the own reference of a sample, a number; None where no reference is a sample's own."""
    first: int = 0
    """The own reference of sample b is number first + b."""


def log_sums(
    pairs: Pairs, sums: Sequence[Sequence[int]], masses: Sequence[tuple[Sequence[int], Tensor]], dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    r"""The logarithms of sums over all references, of densities, and of densities and masses of categories.

    A line l < C is a column, each further one the sum of some lines before it; with log-densities p and weights w

    .. math:: a_{lb} = \log \sum_m w_{m} \exp(p_{lbm}), \qquad a_{lbk} = \log \sum_m w_{m} v_{mk} \exp(p_{lbm}).

    No more than a fixed number of pairwise numbers is held at once, whatever B and M are; where there are more, the
    backward pass computes them again.

    Args:
        pairs: p of the columns, and w.
        sums: the lines that each further line is the sum of; 0 where there are none.
        masses: masses v ≥ 0 of the references, [S, M, K], and the lines beside which they are.
        dtype: of pairwise numbers, float32 or float64.

    Returns:
        a of each line, [L, S, B], and with each of the masses, [L', S, B, K]; differentiable once.
    """
    plan = _Plan(pairs, sums, [slice_of(lines) for lines, _ in masses], dtype)
    sums_of_lines, *with_masses = _LogSums.apply(plan, *plan.tensors, *(table for _, table in masses))
    return sums_of_lines, with_masses


def slice_of(indices: Sequence[int]) -> slice | list[int]:
    """Indices that follow one another as a slice, which copies nothing."""
    some = slice(indices[0], indices[0] + len(indices)) if indices else slice(0)
    return some if list(indices) == list(range(some.start or 0, some.stop)) else list(indices)


class _Plan:
    """What is no tensor of the arguments of :func:`log_sums`, and all tensors in one sequence."""

    chunks: "_Chunks"
    """What the forward pass made."""
    found: tuple[list[Tensor], list[Tensor], list[list[Tensor]]]
    """Of each piece the maxima of the lines, the sums relative to them, and the sums with each of the masses."""

    def __init__(
        self, pairs: Pairs, sums: Sequence[Sequence[int]], weighted: Sequence[slice | list[int]], dtype: torch.dtype
    ) -> None:
        self.shape, self.first, self.own, self.weights = pairs.shape, pairs.first, pairs.own, pairs.weights
        self.weighted, self.dtype, self.device, self.graded = weighted, dtype, pairs.device, torch.is_grad_enabled()
        self.sums = [slice_of(members) for members in sums]
        normals = pairs.normals
        self.tensors = [] if normals is None else [normals.value, normals.loc, normals.scale]
        self.normals = 0 if normals is None else normals.value.shape[-1]
        self.products = range(len(self.tensors), len(self.tensors) + 2 * len(pairs.products), 2)
        self.tensors += [part for product in pairs.products for part in product]
        self.given = pairs.given
        self.made = len(self.tensors)
        if self.graded:  # all at once, for autograd has to know them
            whole = slice(0, pairs.shape[0]), slice(0, pairs.shape[1])
            self.tensors += [make(whole) for _, make in pairs.given]
        self.columns = self.normals + len(self.products) + sum(count for count, _ in pairs.given)
        self.lines = self.columns + len(self.sums)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(plan: _Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        plan.chunks = chunks = _Chunks(plan, tensors)
        tables = [part.to(plan.dtype) for part in tensors[len(plan.tensors) :]]
        tops, sums, of_masses = [], [], []
        for piece in chunks.pieces:
            lines, _ = chunks.log_densities(piece)
            top = lines.amax(-1, keepdim=True)
            _exp(lines.sub_(top))
            tops.append(top)
            sums.append(lines.sum(-1, keepdim=True))
            of_masses.append(
                [
                    (lines[some] @ table[piece[0]]).clamp_min_(torch.finfo(plan.dtype).tiny)  # [L', S', R, K]
                    for some, table in zip(plan.weighted, tables, strict=True)
                ]
            )
        plan.found = tops, sums, of_masses
        logs = [total.log().add_(top)[..., 0] for top, total in zip(tops, sums, strict=True)]
        found = [chunks.joined(logs)]
        for number, some in enumerate(plan.weighted):
            found.append(
                chunks.joined([parts[number].log().add_(top[some]) for top, parts in zip(tops, of_masses, strict=True)])
            )
        return tuple(found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.plan, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        tensors, chunks, (tops, sums, of_masses) = ctx.saved_tensors, plan.chunks, plan.found
        found = [torch.zeros_like(t) if n else None for t, n in zip(tensors, ctx.needs_input_grad[1:], strict=True)]
        tables = [table.to(plan.dtype) for table in tensors[len(plan.tensors) :]]
        of_tables = found[len(plan.tensors) :]
        for number, piece in enumerate(chunks.pieces):
            if len(chunks.pieces) == 1:
                lines, deviations = chunks.latest
            else:
                lines, deviations = chunks.log_densities(piece)
                # Relative to the same maximum as in the forward pass: no rounding makes it overflow.
                _exp(lines.sub_(tops[number]))
            if gradients[0] is None:
                shares = torch.zeros_like(lines)
            else:  # the gradient of the log-densities, [L, S', R, M]
                shares = lines * (gradients[0][:, *piece, None] / sums[number])
            for some, gradient, total, table, of_table in zip(
                plan.weighted, gradients[1:], of_masses[number], tables, of_tables, strict=True
            ):
                if gradient is not None:
                    scaled = gradient[:, *piece] / total  # [L', S', R, K]
                    shares[some] += lines[some] * (scaled @ table[piece[0]].mT)
                    if of_table is not None:
                        of_table[piece[0]] += (lines[some].mT @ scaled).sum(0)
            for line, members in reversed(list(enumerate(plan.sums, plan.columns))):
                if isinstance(members, slice):
                    shares[members].add_(shares[line])
                else:
                    shares[members] += shares[line]
            chunks.add_gradients(found, shares, deviations, piece)
        return None, *found


# Read once: torch asks for it at every call.
_LogSums.forward.__signature__ = inspect.signature(_LogSums.forward)  # type: ignore[attr-defined]


class _Chunks:
    """The log-densities of some samples at a time, in the same memory, and the way back from their gradient."""

    def __init__(self, plan: _Plan, tensors: Sequence[Tensor]) -> None:
        self.plan, self.tensors = plan, tensors
        particles, batch, references = plan.shape
        device = plan.device
        rows = _share(batch, plan.lines * references, device)
        leads = _share(particles, plan.lines * batch * references, device)
        self.pieces: list[Piece] = [
            (slice(lead, min(lead + leads, particles)), slice(row, min(row + rows, batch)))
            for lead in range(0, particles, leads)
            for row in range(0, batch, rows)
        ]
        self._buffers = [
            torch.empty(number * leads * rows * references, dtype=plan.dtype, device=device)
            for number in (plan.lines, plan.normals)
        ]
        if plan.normals:
            parts = (part.to(plan.dtype).permute(2, 0, 1).contiguous() for part in tensors[:3])  # [V, S, B or M]
            self._value, self._loc, scale = parts
            self._inverse = scale.reciprocal()
            self._constant = scale.log().add_(0.5 * math.log(2 * math.pi)).neg_()
        self._weights = None if plan.weights is None else plan.weights.to(plan.dtype)[:, None, None]

    def log_densities(self, piece: Piece) -> tuple[Tensor, Tensor]:
        """Of one chunk, [L, S', R, M], and (z - μ) / σ of the normals, [V, S', R, M]; the next call reuses both."""
        plan, (lead, rows) = self.plan, piece
        size = (lead.stop - lead.start, rows.stop - rows.start, plan.shape[2])
        lines, deviations = (
            buffer[: number * math.prod(size)].view(number, *size)
            for buffer, number in zip(self._buffers, (plan.lines, plan.normals), strict=True)
        )
        if plan.normals:
            torch.sub(self._value[:, lead, rows, None], self._loc[:, lead, None], out=deviations)
            deviations.mul_(self._inverse[:, lead, None])
            constant = self._constant[:, lead, None]
            torch.addcmul(constant, deviations, deviations, value=-0.5, out=lines[: plan.normals])
        line = plan.normals
        for place in plan.products:
            lines[line] = self.tensors[place][piece] @ self.tensors[place + 1][lead].mT
            line += 1
        for place, (count, make) in enumerate(plan.given, plan.made):
            lines[line : line + count] = self.tensors[place][:, lead, rows] if plan.graded else make(piece)
            line += count
        for line, members in enumerate(plan.sums, plan.columns):
            torch.sum(lines[members], 0, out=lines[line])
        if self._weights is not None:
            lines.add_(self._weights)
        if plan.own is not None:
            lines[..., plan.first + rows.start : plan.first + rows.stop].diagonal(0, -2, -1).add_(plan.own)
        self.latest = lines, deviations
        return lines, deviations

    def joined(self, found: Sequence[Tensor]) -> Tensor:
        """What was found of each piece, [L, S', R, ...], in one tensor, [L, S, B, ...]."""
        if len(found) == 1:
            return found[0]
        shape = self.plan.shape[:2] + tuple(found[0].shape[3:])
        whole = found[0].new_empty(len(found[0]), *shape)
        for piece, part in zip(self.pieces, found, strict=True):
            whole[:, *piece] = part
        return whole

    def add_gradients(self, found: Sequence[Tensor | None], shares: Tensor, deviations: Tensor, piece: Piece) -> None:
        """Adds the gradients of what the columns are made of.

        Args:
            found: of each tensor; None where it is not asked for.
            shares: of the lines, those of the sums added to their members, [L, S', R, M]; spoilt.
            deviations: (z - μ) / σ, [V, S', R, M].
            piece: which of the samples.
        """
        plan, (lead, rows) = self.plan, piece
        if plan.normals:
            of_value, of_loc, of_scale = found[:3]
            of_normals, inverse = shares[: plan.normals], self._inverse[:, lead]
            moved = of_normals * deviations
            if of_loc is not None:
                of_loc[lead] += (moved.sum(2) * inverse).permute(1, 2, 0)
            if of_scale is not None:
                of_scale[lead] -= (of_normals.addcmul_(moved, deviations, value=-1).sum(2) * inverse).permute(1, 2, 0)
            if of_value is not None:
                of_value[piece] = moved.mul_(inverse[:, :, None]).sum(-1).neg_().permute(1, 2, 0)
        line = plan.normals
        for place in plan.products:
            features, coefficients = self.tensors[place : place + 2]
            of_features, of_coefficients = found[place : place + 2]
            share = shares[line].to(features.dtype)
            if of_features is not None:
                of_features[piece] = share @ coefficients[lead]
            if of_coefficients is not None:
                of_coefficients[lead] += share.mT @ features[piece]
            line += 1
        for place, (count, _) in enumerate(plan.given, plan.made):
            of_given = found[place]
            if of_given is not None:
                of_given[:, lead, rows] = shares[line : line + count]
            line += count


def _exp(exponents: Tensor) -> Tensor:
    """In-place exp of what is at most 0, clamped to avoid denormals, which are slow.

    In float32 there is room left for masses to be multiplied with it.
    """
    return exponents.clamp_(-700.0 if exponents.dtype == torch.float64 else -60.0, 0.0).exp_()


def _share(count: int, size: int, device: torch.device) -> int:
    """How many of ``count`` items of a size are taken at once, in about equal parts."""
    limit = CHUNK_NUMBERS if device.type == "cpu" else CHUNK_NUMBERS_OF_DEVICES
    parts = max(1, round(count * size / limit))
    return max(1, min(math.ceil(count / parts), 3 * limit // (2 * size)))
