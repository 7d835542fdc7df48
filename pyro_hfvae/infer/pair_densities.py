"""Pairwise log-densities of samples and references, as products and otherwise, and masses of categories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Size, Tensor

from pyro_hfvae.infer.pairwise import log_sum_of_others, log_sum_of_pairs
from pyro_hfvae.infer.references import References, batch_of
from pyro_hfvae.sites import DiscreteSite, Site

__all__ = [
    "CombinedMasses",
    "PairDensities",
    "Product",
    "expand",
    "log_pairs",
    "log_weights",
    "masses_of",
    "pairs_of_each",
    "slice_of",
]

CHUNK_NUMBERS = 2**23
"""Numbers that the pairwise densities of one site take at once where no gradient is asked for."""


@dataclass(frozen=True)
class CombinedMasses:
    """Log-masses of combinations: of the guide's posterior, of the density at its own datum, of all references."""

    posterior: Tensor  # [S, B, K]
    own: Tensor  # [S, B, K]
    references: Tensor  # [S, M, K]
    bank: Tensor | None  # [S, M', K]

    @staticmethod
    def side_by_side(tables: Sequence["CombinedMasses"]) -> "CombinedMasses":
        """Tables of different combinations as one, [..., ΣK]."""
        of_bank = [table.bank for table in tables if table.bank is not None]
        return CombinedMasses(
            posterior=torch.cat([table.posterior for table in tables], -1),
            own=torch.cat([table.own for table in tables], -1),
            references=torch.cat([table.references for table in tables], -1),
            bank=torch.cat(of_bank, -1) if of_bank else None,
        )


@dataclass(frozen=True)
class Product:
    """Log-densities of some variables for all pairs as f_b · g_m + c_m + h_b."""

    features: Tensor  # f, [S, B, P]
    base: Tensor  # h, [S, B, 1]
    parameters: Tensor  # g of the references, [S, M, P]
    constant: Tensor  # c, [S, M, 1]
    bank: Tensor | None  # g of the bank, [P, M']
    constant_of_bank: Tensor | None  # [M']


@dataclass(frozen=True)
class PairDensities:
    """Pairwise log-densities log r(z_b|x_m) = f_b · g_m + h_b + ``pairs``, and what weights they are summed with."""

    features: Tensor | None  # f, [S, B, P]; None where there is no product
    parameters: Tensor | None  # g of the references, [S, M, P]
    bank: Tensor | None  # g of the bank, [S, P, M']
    own: Tensor  # those of the own datum, by direct differences, [S, B, 1]
    base: Tensor  # h, [S, B, 1]
    pairs: Tensor | None  # [S, B, M + M']; None where there is only a product
    references: References
    dtype: torch.dtype

    @staticmethod
    def of(
        own: Sequence[Tensor],
        products: Sequence[Product],
        pairs: Sequence[Tensor],
        count: int,
        weights_of_bank: Tensor | None,
        references: References,
        dtype: torch.dtype,
    ) -> "PairDensities":
        """Of a group, the sum over the parts that it is made of.

        Args:
            own: log-densities at the own datum, of each part, [S, B, 1].
            products: the parts that are products.
            pairs: the others, [S, B, M + M'] each.
            count: M.
            weights_of_bank: log-weights, [M'].
            references: the weights of all others.
            dtype: of sums over products.
        """
        total = sum(own[1:], start=own[0])
        features = parameters = bank = None
        base = torch.zeros_like(total)
        if products:
            first, *more = products
            base = sum((product.base for product in more), start=first.base)
            constant = sum((product.constant for product in more), start=first.constant)
            ones = torch.ones_like(first.features[..., :1])
            features = torch.cat([*(product.features for product in products), ones], -1)
            parameters = torch.cat([*(product.parameters for product in products), constant], -1)
        elif weights_of_bank is not None or not pairs:
            features, parameters = torch.ones_like(total), total.new_zeros(len(total), count, 1)
        if weights_of_bank is not None:
            constants = (p.constant_of_bank for p in products if p.constant_of_bank is not None)
            rows = [p.bank for p in products if p.bank is not None]
            bank = torch.cat([*rows, sum(constants, start=weights_of_bank)[None]]).expand(len(total), -1, -1)
        return PairDensities(
            features=features,
            parameters=parameters,
            bank=bank,  # [S, P, M']
            own=total,
            base=base,
            pairs=sum(pairs[1:], start=pairs[0]) if pairs else None,
            references=references,
            dtype=dtype,
        )

    def log_aggregate(self, table: CombinedMasses | None = None) -> Tensor:
        """log r̂ at the samples and at each combination of categories, [S, B, K]; [S, B, 1] without categories."""
        weights = self.references
        if self.pairs is None:
            assert self.features is not None
            assert self.parameters is not None
            masses = None if table is None else table.references.exp()
            of_bank = None if table is None or table.bank is None else table.bank.exp()
            others = log_sum_of_others(
                self.features, self.parameters, weights.first, masses, self.bank, of_bank, self.dtype
            )
            own = self.own if table is None else self.own + table.own
            return torch.logaddexp(weights.own + own, weights.other + (self.base + others))
        pairs = self.pairs
        if self.features is not None and self.parameters is not None:
            every = self.parameters.mT if self.bank is None else torch.cat([self.parameters.mT, self.bank], -1)
            pairs = pairs + (self.base + self.features @ every)
        pairs = pairs + log_weights(weights, pairs)
        if table is None:
            return pairs.logsumexp(-1, keepdim=True)
        log_masses = table.references if table.bank is None else torch.cat([table.references, table.bank], 1)
        return log_sum_of_pairs(pairs, log_masses.exp())

    def joined(self, drawn: Tensor, table: CombinedMasses) -> "PairDensities":
        """The joint densities with some drawn categories, one-hot, [S, B, K], of a table of log-masses."""
        own = self.own + (drawn * table.own).sum(-1, keepdim=True)
        features, parameters, bank = drawn, table.references, None if table.bank is None else table.bank.mT
        if self.features is not None and self.parameters is not None:
            features = torch.cat([features, self.features], -1)
            parameters = torch.cat([parameters, self.parameters], -1)
        if bank is not None and self.bank is not None:
            bank = torch.cat([bank, self.bank], -2)
        return replace(self, features=features, parameters=parameters, bank=bank, own=own)


def log_weights(references: References, pairs: Tensor) -> Tensor:
    """The logarithms of the weights of the references in the sum of each sample, [B, M + M'], for pairs of them."""
    other = references.other.to(pairs) if isinstance(references.other, Tensor) else references.other
    weights = pairs.new_zeros(pairs.shape[-2:]) + other
    weights.diagonal(references.first).fill_(references.own)
    return weights


def pairs_of_each(site: Site, reference: Site, shape: Size) -> Tensor:
    """log-densities of each variable at all samples under all references, by differences, [V, S, B, M]."""
    value = site.value.expand(*shape, *site.fn.event_shape).transpose(0, 1)[:, :, None]  # [B, S, 1, *event]
    densities = reference.at(reference.fn, value).densities  # [V, B, S, M]
    densities = densities.expand(-1, shape[1], shape[0], batch_of({"": reference})[1]).transpose(1, 2)
    return densities if site.grain == 1 else densities.unflatten(0, (-1, site.grain)).sum(1)


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
