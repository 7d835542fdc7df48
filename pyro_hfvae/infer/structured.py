r"""log-densities of groups of variables, and of their aggregate, where sites depend on one another.

For a guide q(y|x) q(z|x, y), the posterior of another datum at the sample of the datum b is

.. math:: q(z^b, y^b|x^{m}) = q(y^b|x^{m})\, q(z^b|x^{m}, y^b), \qquad
    q(z^b|x^{m}) = E_{q(y|x^{m})}[q(z^b|x^{m}, y)],

and never q(z^b|x^m, y^m), which pairs the sample with a y of another datum and is the density of nothing. The same
holds for a prior p(y|c) p(z|y, c) given covariates c.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Size, Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.references import References, Sites
from pyro_hfvae.sites import NOTHING

__all__ = ["NO_MEMORY", "Masses", "Structured", "expected", "whole"]

CHUNK_NUMBERS = 2**23
"""Numbers that the density of one site takes at once where no gradient is asked for: 32 MiB in float32."""

NO_MEMORY = (
    "a memory keeps posteriors without their data, and a program whose sites depend on one another must be run again "
    "on the data of each posterior; use marginal=Minibatch() with a larger batch"
)
"""Why a memory does not serve such a program."""

Masses = Callable[[Group, Sequence[tuple[str, int]]], Tensor]
"""Of a group and of its categoricals (site, index) in some order: q of their categories, [K of each ..., S, B]."""


def expected(table: Tensor, masses: Tensor | None) -> Tensor:
    """E of a table [K ..., S, B] under q of the categories, a scalar."""
    weighted = table if masses is None else masses * table
    return weighted.sum() / weighted.shape[-2:].numel()


@dataclass(frozen=True)
class Structured:
    r"""Densities r(z|x) of dependent sites: of a guide, or of a prior given covariates.

    The own density is exact where all continuous sites above those of G are in G: discrete ones are summed out. Else it
    is the mean over P ancestral samples of the program on x^b, drawn afresh, because those that z^b came from would
    favour it. This is without bias, its logarithm low by about Var(r̂) / 2r².

    Expectations over the categories of discrete variables are given the sample of the continuous ones of the group,

    .. math:: E_{q(z_G, y_G|x)}[f] = E_{q(z_G|x)} \Big[ \sum_{y_G} q(y_G|x, z_G) f(z_G, y_G) \Big].
    """

    own_table: Ancestral
    """At the samples of the batch."""
    others: Sequence[Ancestral]
    """Of all references; the batch's own alone in training."""
    references: References
    given: Masses | None = None
    """q of the categories; that of these densities themselves by default, which must be the guide's then."""

    def tables(self, groups: Sequence[Group]) -> dict[Group, Tensor]:
        """log r(z_G, y_G|x^b), [K ..., S, B]."""
        return self.own_table.log_densities(groups)

    def masses(self, group: Group, table: Tensor) -> Tensor | None:
        """q(y_G|x, z_G) of the combinations of categories, [K ..., S, B]; None where there are none."""
        keys = self.own_table.categoricals(group)
        if not keys:
            return None
        if self.given is not None:
            return self.given(group, keys)
        return table.flatten(0, -3).softmax(0).view(table.shape)

    def own(self, groups: Sequence[Group], tables: Mapping[Group, Tensor] | None = None) -> Tensor:
        """E[log r(z_G|x)] of every group, [G], from :meth:`tables` if these are there already."""
        tables = self.tables(groups) if tables is None else tables
        return torch.stack([expected(tables[group], self.masses(group, tables[group])) for group in groups])

    def both(self, groups: Sequence[Group], tables: Mapping[Group, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        r"""E[log r(z_G|x)] and E[log r̂(z_G)] of every group, [G] each.

        .. math:: \hat r(z^b_G, y_G) = w_\mathrm{own}\, r(z^b_G, y_G|x^b)
            + w_\mathrm{other} \sum_{m \ne b} r(z^b_G, y_G|x^m)

        Raises:
            NotImplementedError: references that are not among the data.
        """
        if self.references.bank is not None:
            raise NotImplementedError(NO_MEMORY)
        tables = self.tables(groups) if tables is None else tables
        others = self._log_sums_of_others(groups, tables)
        own, aggregate = [], []
        for group in groups:
            table = tables[group]
            masses = self.masses(group, table)
            log_other = self.references.other + others[group]
            mixture = torch.logaddexp((self.references.own + table).to(log_other), log_other)
            own.append(expected(table, masses))
            aggregate.append(expected(mixture, masses))
        return torch.stack(own), torch.stack(aggregate)

    def _log_sums_of_others(self, groups: Sequence[Group], like: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
        r"""log Σ_{m ≠ b} r(z_G^b, y_G|x^m) over all references, [K of each categorical of G ..., S, B].

        The program is run on the references with the samples in leading dimensions: its encoder sees each datum once a
        run, its conditionals see every pair of a sample and a datum (of one category of y and a datum where z depends
        on discrete sites only). Ancestors outside G are resampled ⌈P / (M - 1)⌉ times per reference, P in total.

        Without gradients the samples are taken in chunks, and memory is bounded whatever B is; each chunk is a run.
        """
        own, count = self.own_table, sum(table.shape[1] for table in self.others)
        if count < 2:
            return {group: torch.full_like(like[group], NOTHING) for group in groups}
        samples = math.ceil(own.samples / (count - 1))
        particles = own.shape[0]
        chunks: dict[Group, list[Tensor]] = {group: [] for group in groups}
        for rows in self._chunks(samples):
            sums: dict[Group, list[Tensor]] = {group: [] for group in groups}
            start = 0
            for table in self.others:
                size = table.shape[1]
                shape = Size([len(rows), particles, size])
                paired = replace(
                    table, sites=_paired(own.sites, rows, own.shape, size), shape=shape, samples=samples, paired=True,
                    shared=False,
                )  # fmt: skip
                device = like[groups[0]].device
                columns = torch.arange(start, start + size, device=device)
                samples_of = torch.arange(rows.start, rows.stop, device=device)
                mine = samples_of[:, None] + self.references.first == columns  # [R, M]
                for group, pairs in paired.log_densities(groups).items():  # [K ..., R, S, M]
                    others = pairs.masked_fill(mine[:, None], NOTHING)
                    sums[group].append(others.logsumexp(-1).mT)  # [K ..., S, R]
                start += size
            for group in groups:
                chunks[group].append(torch.stack(sums[group]).logsumexp(0))
        return {group: torch.cat(some, -1) for group, some in chunks.items()}

    def _chunks(self, samples: int) -> list[range]:
        """The samples that are set against all references at once."""
        particles, batch = self.own_table.shape
        rows = batch
        if not torch.is_grad_enabled():
            largest = max(table.shape[1] for table in self.others)
            numbers = replace(self.own_table, samples=samples).numbers * particles * largest
            rows = max(1, CHUNK_NUMBERS // numbers)
        return [range(start, min(start + rows, batch)) for start in range(0, batch, rows)]


def whole(sites: Sites, shape: Size) -> Sites:
    """The sites with values of shape [S, B, *event]."""
    return {name: site.at(site.fn, site.value.expand(*shape, *site.fn.event_shape)) for name, site in sites.items()}


def _paired(sites: Sites, rows: range, shape: Size, references: int) -> Sites:
    """R samples against M references: values [R, S, M, *event], which are the same for all M."""

    def pair(value: Tensor) -> Tensor:
        some = value[:, rows.start : rows.stop].transpose(0, 1)[:, :, None]  # [R, S, 1, *event]
        return some.expand(-1, -1, references, *some.shape[3:])

    return {name: site.at(site.fn, pair(site.value)) for name, site in sites.items()}
