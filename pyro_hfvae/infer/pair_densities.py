"""Pairwise log-densities of samples and references, as products and otherwise, and masses of categories."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from pyro_hfvae.infer.pairwise import log_sum_of_others, log_sum_of_pairs
from pyro_hfvae.infer.references import batch_of
from pyro_hfvae.sites import DiscreteSite, Site

__all__ = ["CombinedMasses", "PairDensities", "expand", "log_pairs", "masses_of", "slice_of"]

CHUNK_NUMBERS = 2**23
"""Numbers that the pairwise densities of one site take at once where no gradient is asked for."""


@dataclass(frozen=True)
class CombinedMasses:
    """Log-masses of combinations: of the guide's posterior, of the density at its own datum, of all references."""

    posterior: Tensor  # [S, B, K]
    own: Tensor  # [S, B, K]
    references: Tensor  # [S, M, K]
    bank: Tensor | None  # [S, M', K]


@dataclass(frozen=True)
class PairDensities:
    """Pairwise log-densities log r(z_b|x_m) = f_b · g_m + h_b, with further terms ``pairs`` that are no product."""

    features: Tensor  # f, [S, B, P]
    parameters: Tensor  # g of the references, [S, M, P]
    bank: Tensor | None  # g of the bank, [S, P, M']
    own: Tensor  # those of the own datum, by direct differences, [S, B, 1]
    base: Tensor  # h, [S, B, 1]
    pairs: Tensor | None  # [S, B, M + M']
    first: int
    dtype: torch.dtype

    def log_sum(self, masses: Tensor | None = None, of_bank: Tensor | None = None) -> Tensor:
        """The logarithm of the sum over the other references, [S, B, K], or [S, B, 1] without masses [S, M, K]."""
        if self.pairs is None:
            others = log_sum_of_others(
                self.features, self.parameters, self.first, masses, self.bank, of_bank, self.dtype
            )
            return self.base + others
        every = self.parameters.mT if self.bank is None else torch.cat([self.parameters.mT, self.bank], -1)
        weights = masses if masses is None or of_bank is None else torch.cat([masses, of_bank], 1)
        return self.base + log_sum_of_pairs(self.features @ every + self.pairs, self.first, weights)

    def joined(self, drawn: Tensor, masses: Tensor, own: Tensor, of_bank: Tensor | None) -> "PairDensities":
        """The joint densities with some drawn categories, one-hot, [S, B, K] and log-masses."""
        return PairDensities(
            features=torch.cat([drawn, self.features], -1),
            parameters=torch.cat([masses, self.parameters], -1),
            bank=None if self.bank is None or of_bank is None else torch.cat([of_bank.mT, self.bank], -2),
            own=self.own + (drawn * own).sum(-1, keepdim=True),
            base=self.base,
            pairs=self.pairs,
            first=self.first,
            dtype=self.dtype,
        )


def log_pairs(site: Site, reference: Site, indices: Sequence[int], shape: Size) -> Tensor:
    """log-densities of all samples under all references, by ``log_prob``, [S, R, M]."""
    event = site.fn.event_shape
    references = batch_of({"": reference})[1]
    value = site.value.expand(*shape, *event).movedim(1, 0)  # [R, S, *event]
    rows = len(value)
    if not torch.is_grad_enabled():
        numbers = max(1, event.numel()) * references * shape[0]
        rows = max(1, CHUNK_NUMBERS // numbers)
    found = []
    for piece in value.split(rows):
        whole = piece[:, :, None].expand(len(piece), shape[0], references, *event)
        log_prob = reference.at(reference.fn, whole).log_prob(indices)  # [R, S, M]
        found.append(log_prob.expand(len(piece), shape[0], references).movedim(0, 1))
    return torch.cat(found, 1).double()


def expand(tensor: Tensor, shape: Size, inner: int) -> Tensor:
    """[*batch, ...] as [S, B, ...], with ``inner`` dimensions after the batch."""
    lead = tensor.dim() - inner
    wanted = (shape[0], tensor.shape[lead - 1] if shape[1] == -1 else shape[1])
    return tensor if tensor.shape[:lead] == wanted else tensor.expand(*wanted, *tensor.shape[lead:])


def slice_of(indices: Sequence[int]) -> slice | list[int]:
    """Indices that follow one another as a slice, which copies nothing."""
    some = slice(indices[0], indices[0] + len(indices))
    return some if list(indices) == list(range(some.start, some.stop)) else list(indices)


def masses_of(site: Site, shape: Size) -> Tensor:
    """Log-masses, [S, B, V, K], float64."""
    assert isinstance(site, DiscreteSite)
    return expand(site.log_mass.double(), shape, 2)
