"""Sums of densities over references, of sites that are independent given the datum: over a batch, and over a bank."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from pyro_hfvae.infer.groups import Continuous
from pyro_hfvae.infer.lines import DIFFERENCE, GIVEN, PRODUCT, Column, Lines, SiteKind, read_lines
from pyro_hfvae.infer.pairwise import Normals, Pairs, Piece, log_sums, slice_of
from pyro_hfvae.infer.references import References, Sites, batch_of
from pyro_hfvae.sites import NOTHING, NormalSite, Site

__all__ = ["Masses", "PairDensities"]

DRAWN = ""
"""The name of the column of categories that are drawn."""

Drawn = tuple[Tensor, Tensor]
"""One-hot categories of each sample, [S, B, K], and their log-masses given the references, [S, M, K]."""

Given = tuple[int, Callable[[Piece], Tensor]]
"""How many columns there are, and what makes them for some of the samples, [C', S', R, M]."""


@dataclass(frozen=True)
class Masses:
    """Masses of categories, or their logarithms, given all references."""

    batch: Tensor  # [S, M, K]
    bank: Tensor | None  # [S, M', K]

    def exp(self) -> "Masses":
        """The masses, from their logarithms."""
        return Masses(self.batch.exp(), None if self.bank is None else self.bank.exp())


@dataclass(frozen=True)
class _Part:
    """Some of the references."""

    sites: Sequence[Sites]
    count: int
    """M, in all pieces together."""
    kinds: tuple[SiteKind, ...]
    own: float | Tensor | None = None
    first: int = 0
    weights: Tensor | None = None  # [1, M]
    weights_of_each: Mapping[str, Tensor] | None = None  # of each variable by itself, [V, M]


class PairDensities:
    """The log-densities of sites at their values under all references, and the logarithms of sums of them.

    Those of normal variables are made by differences, in ``dtype``; of other sites that allow it as products, in
    float64, as are those of several normal variables under a bank, which keeps its coefficients and has no gradient; of
    all others by ``log_prob``.

    Args:
        sites: at the samples, of S particles and B data.
        shape: S, B.
        references: what the aggregate is made of.
        dtype: of pairwise numbers.
    """

    def __init__(self, sites: Sites, shape: Size, references: References, dtype: torch.dtype) -> None:
        self.sites, self.shape, self.references, self.dtype = sites, shape, references, dtype
        self.device = next(iter(sites.values())).value.device
        self.count = sum(batch_of(part)[1] for part in references.parts)
        self.kinds = tuple(self._kind(name, site) for name, site in sites.items() if not site.discrete)

    def log_aggregates(
        self,
        plain: Sequence[Continuous],
        weighted: Sequence[tuple[Sequence[Continuous], Masses]] = (),
        drawn: tuple[Tensor, Masses] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """log r̂ of groups at the samples, [G, S, B], and of others at each combination of categories, [G', S, B, K].

        Args:
            plain: groups.
            weighted: groups, and the masses of categories beside them.
            drawn: one-hot categories of each sample, [S, B, K], and their log-masses, which are in all groups.
        """
        references, bank = self.references, self.references.bank
        own = references.own - references.other
        batch = _Part(references.parts, self.count, self.kinds, own=own, first=references.first)
        some = None if drawn is None else (drawn[0], drawn[1].batch)
        sums, with_masses = self._log_sums(batch, plain, [(groups, masses.batch) for groups, masses in weighted], some)
        if bank is not None:
            thin = [group for group in plain if len(group) == len(group[0][1]) == 1 and group[0][0] in bank.thinned]
            rest = [group for group in plain if group not in thin]
            found = []
            if thin:
                count = next(iter(bank.thin_weights.values())).shape[1]
                part = _Part([bank.thinned], count, self.kinds, weights_of_each=bank.thin_weights)
                found.append(self._log_sums(part, thin, [], None)[0])
            # Of several normal variables one product takes less time than the differences.
            kinds = tuple((n, PRODUCT if way == DIFFERENCE else way, grain, free) for n, way, grain, free in self.kinds)
            weights = torch.where(bank.present, 0.0, NOTHING)[None].to(self.device)
            part = _Part([bank.sites], len(bank.present), kinds, weights=weights)
            some = None if drawn is None or drawn[1].bank is None else (drawn[0], drawn[1].bank)
            tables = [(groups, masses.bank) for groups, masses in weighted if masses.bank is not None]
            of_rest, with_more = self._log_sums(part, rest, tables, some)
            order = [(*thin, *rest).index(group) for group in plain]
            sums = torch.logaddexp(sums, torch.cat([*found, of_rest])[slice_of(order)])
            with_masses = [torch.logaddexp(*parts) for parts in zip(with_masses, with_more, strict=True)]
        return references.other + sums, [references.other + part for part in with_masses]

    def _kind(self, name: str, site: Site) -> SiteKind:
        alike = all(type(part[name]) is type(site) for part in self.references.parts)
        way = GIVEN
        if alike and isinstance(site, NormalSite):
            way = DIFFERENCE
        elif alike and site.double().features([0]) is not None:
            way = PRODUCT
        return name, way, site.grain, site.independent

    def _log_sums(
        self,
        part: "_Part",
        plain: Sequence[Continuous],
        weighted: Sequence[tuple[Sequence[Continuous], Tensor]],
        drawn: Drawn | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The logarithms of sums over some references, [G, S, B] and [G', S, B, K]."""
        beside = tuple(group for groups, _ in weighted for group in groups)
        groups, kinds, weights = tuple(dict.fromkeys((*plain, *beside))), part.kinds, part.weights
        if not groups:
            return torch.empty(0, *self.shape, dtype=self.dtype, device=self.device), []
        if drawn is not None:
            kinds = (*kinds, (DRAWN, PRODUCT, 1, True))
            groups = tuple((*group, (DRAWN, (0,))) for group in groups)
        lines = read_lines(groups, kinds)
        if part.weights_of_each is not None:
            each = part.weights_of_each
            weights = torch.cat([each[name][list(indices)] for _, name, indices in lines.columns])
        pairs = Pairs(
            shape=(*self.shape, part.count),
            device=self.device,
            normals=self._normals(lines, part.sites),
            products=[self._product(column, part.sites, drawn) for column in lines.columns if column[0] == PRODUCT],
            given=[self._given(name, columns, part.sites) for name, columns in lines.of(GIVEN)],
            weights=weights,
            own=part.own,
            first=part.first,
        )
        place = {
            group: lines.place[(*group, (DRAWN, (0,)))] if drawn else lines.place[group] for group in (*plain, *beside)
        }
        tables = [([place[group] for group in some], table) for some, table in weighted]
        found, with_masses = log_sums(pairs, lines.sums, tables, self.dtype)
        which = slice_of([place[group] for group in plain])
        return found if which == slice(0, len(found)) else found[which], with_masses

    def _normals(self, lines: Lines, parts: Sequence[Sites]) -> Normals | None:
        found = []
        for name, columns in lines.of(DIFFERENCE):
            which = slice_of([index for (index,) in columns])
            value = self.sites[name].value
            value = value.expand(*self.shape, *self.sites[name].fn.event_shape).reshape(*self.shape, -1)
            parameters = [
                [self._expand(tensor, 1)[..., which] for tensor in (s.loc, s.scale)]
                for s in map(_normal, (part[name] for part in parts))
            ]
            found.append((value[..., which], *(_cat(some, 1) for some in zip(*parameters, strict=True))))
        return Normals(*(_cat(some, -1) for some in zip(*found, strict=True))) if found else None

    def _product(self, column: Column, parts: Sequence[Sites], drawn: Drawn | None) -> tuple[Tensor, Tensor]:
        """f and g of a column, [S, B, P] and [S, M, P], float64; a term that only one of them has is times 1."""
        _, name, indices = column
        if name == DRAWN:
            assert drawn is not None
            return drawn[0].double(), drawn[1].double()
        features = self.sites[name].double().features(indices)
        assert features is not None
        f, h = self._expand(features[0], 1, self.shape[1]), self._expand(features[1], 0, self.shape[1])
        of_parts = []
        for part in parts:
            coefficients = part[name].double().coefficients(indices)
            assert coefficients is not None
            g, c = self._expand(coefficients[0], 1), self._expand(coefficients[1], 0)
            of_parts.append(torch.cat([g, c[..., None], torch.ones_like(c)[..., None]], -1))
        return torch.cat([f, torch.ones_like(h)[..., None], h[..., None]], -1).double(), _cat(of_parts, 1).double()

    def _given(self, name: str, columns: Sequence[tuple[int, ...]], parts: Sequence[Sites]) -> Given:
        """log-densities by ``log_prob``: columns of one site."""
        site = self.sites[name]
        value = site.value.expand(*self.shape, *site.fn.event_shape)

        def make(piece: Piece) -> Tensor:
            some = value[piece].transpose(0, 1)[:, :, None]  # [R, S', 1, *event]
            size = some.shape[:2]
            found = []
            for part in parts:
                count = batch_of(part)[1]
                if site.independent:
                    densities = part[name].at(part[name].fn, some).densities
                    each = densities.unflatten(0, (-1, site.grain)).sum(1) if site.grain > 1 else densities
                    each = each[slice_of([index for (index,) in columns])]
                else:
                    whole = some.expand(*size, count, *site.fn.event_shape)
                    reference = part[name].at(part[name].fn, whole)
                    each = torch.stack([reference.log_prob(indices) for indices in columns])
                found.append(each.expand(-1, *size, count).transpose(1, 2))
            return _cat(found, -1)

        return len(columns), make

    def _expand(self, tensor: Tensor, inner: int, count: int = -1) -> Tensor:
        """[*batch, ...] as [S, B or M, ...], with ``inner`` dimensions after the batch."""
        lead = tensor.dim() - inner
        return tensor.expand(self.shape[0], count if lead == 2 or count > 0 else len(tensor), *tensor.shape[lead:])


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Tensors in one, without a copy where there is but one."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _normal(site: Site) -> NormalSite:
    assert isinstance(site, NormalSite)
    return site
