"""log-densities of groups of variables, and of their aggregate, where sites are independent given the datum."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Size, Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.categories import divide, draw_one_hot, log_mass_of_combinations
from pyro_hfvae.infer.groups import Categorical, Continuous, expected_log_densities, kinds_of, members
from pyro_hfvae.infer.pair_densities import (
    CombinedMasses,
    PairDensities,
    Product,
    expand,
    log_pairs,
    log_weights,
    masses_of,
    pairs_of_each,
    slice_of,
)
from pyro_hfvae.infer.pairwise import log_sum_of_other_masses, log_sum_of_others
from pyro_hfvae.infer.references import References, Sites, batch_of
from pyro_hfvae.infer.univariate import UnivariateSites
from pyro_hfvae.sites import NOTHING

__all__ = ["Factorised"]

DIRECT = 2**16
"""Densities, one for each variable, sample and reference, of which as many or fewer are made one by one."""


class Factorised:
    r"""Densities r(z|x) of sites that are independent given the datum: of a guide, or of a conditional prior.

    Expectations are those under the guide's posterior: the value at its sample for continuous variables, the sum over
    all categories for discrete ones.

    .. math:: E[\log \hat r(z_G)] = \frac1B \sum_b \sum_k q(k|x^b) \log \sum_m w_{bm} r(k|x^m) \prod_d r(z^b_d|x^m)

    More than 4,096 combinations are divided into C parts c of the categoricals, each with as many combinations at most.
    With f(k) the logarithm above, one draw y* from q(·|x^b), and y*_{-c} its categories outside of c,

    .. math:: \frac{1}{C} \sum_c \sum_{k_c} q(k_c|x^b) f(k_c, y^*_{-c})

    is unbiased, and so is its gradient (local expectation gradients: Titsias and Lázaro-Gredilla, NeurIPS 2015),

    .. math:: \sum_c \sum_{k_c} \Big( \frac{1}{C} q(k_c|x^b) \nabla f(k_c, y^*_{-c})
        + f(k_c, y^*_{-c}) \nabla q(k_c|x^b) \Big).

    Where there are few pairs of a sample and a reference, each density is made by itself, by differences in the type of
    the sites. Where there are many, densities that are products f · g are made as such, in float64, and summed in
    ``dtype``.

    Args:
        sites: the densities, at the guide's samples, of S particles and B data.
        posteriors: the guide's, whose masses weight the categories.
        references: what the aggregate is made of.
        dtype: float32 or float64.
    """

    def __init__(self, sites: Sites, posteriors: Sites, references: References, dtype: torch.dtype) -> None:
        self.shape = batch_of(posteriors)
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.device = next(iter(posteriors.values())).value.device
        self.references = references
        self.count = sum(batch_of(part)[1] for part in references.parts)
        self.pairs = self.shape.numel() * self.count
        variables = sum(site.fine.numel() for site in sites.values() if not site.discrete)
        self.directly = references.bank is None and self.pairs * variables <= DIRECT
        self.parts: Sequence[Sites] = [self._precise(part) for part in references.parts]
        self.sites = self.parts[0] if references.parts[0] is sites else self._precise(sites)
        discrete = {name: site for name, site in posteriors.items() if site.discrete}
        self.posteriors = {name: site.double() for name, site in discrete.items()}
        self.masses = {name: masses_of(site, self.shape) for name, site in self.posteriors.items()}
        self.alone = sites is posteriors and len(references.parts) == 1 and references.parts[0] is sites
        self.bank = references.bank
        self.of_bank = {} if self.bank is None else {name: site.double() for name, site in self.bank.sites.items()}
        self.kinds = kinds_of(self.sites)
        self._pairs: dict[str, Tensor] = {}

    def _precise(self, sites: Sites) -> Sites:
        """In float64, for a product cancels; a difference does not."""
        return sites if self.directly else {name: site.double() for name, site in sites.items()}

    def own(self, groups: Sequence[Group]) -> Tensor:
        """E[log r(z_G|x)] of every group, [G]."""
        return expected_log_densities(self.sites, self.posteriors, groups)

    def aggregate(self, groups: Sequence[Group]) -> Tensor:
        """E[log r̂(z_G)] of every group, [G]."""
        found = self.aggregate_of_each(groups)
        return torch.stack([found[group] for group in groups]).mean((1, 2))

    def aggregate_of_each(self, groups: Sequence[Group]) -> dict[Group, Tensor]:
        """The same of each sample, [S, B]."""
        found: dict[Group, Tensor] = {}
        plain: list[Group] = []
        sharing: dict[Continuous, list[Group]] = {}
        for group in groups:
            continuous, discrete = members(group, self.kinds)
            if not discrete and len(group) == 1 and self._plain(continuous[0][0]):
                plain.append(group)
            elif len(discrete) > 1 and len(self._divided_members(discrete)) > 1:
                found[group] = self._divided(continuous, discrete)
            elif not continuous:
                found[group] = self._of_masses(discrete)
            else:
                sharing.setdefault(continuous, []).append(group)
        if plain:  # single variables are many and alike: all in one call
            found |= dict(
                zip(plain, self._of_variables(tuple(members(g, self.kinds)[0][0] for g in plain)), strict=True)
            )
        for continuous, alike in sharing.items():
            found |= dict(zip(alike, self._with_the_same_densities(continuous, alike), strict=True))
        return {group: found[group] for group in groups}

    @cached_property
    def _own_masses(self) -> dict[str, Tensor]:
        return {name: masses_of(self.sites[name], self.shape) for name in self.masses}

    def _of_variables(self, which: Continuous) -> tuple[Tensor, ...]:
        """log r̂ of single univariate variables, each [S, B]."""
        if self.directly:
            names = itertools.groupby(which, lambda member: member[0])
            found = [self._direct_pairs(name)[slice_of([i for _, (i,) in alike])] for name, alike in names]
            pairs = _side_by_side(found, 0)  # [D, S, B, M]
            return (pairs + log_weights(self.references, pairs)).logsumexp(-1).unbind()
        assert self._columns is not None
        columns = self._columns
        some = columns.columns(which)
        f, g = (part[..., some].permute(0, 3, 1, 2).contiguous() for part in (columns.features, columns.parameters))
        further = None if self.bank is None else self._thinned(which).expand(len(f), -1, -1, -1)  # [S, D, 3, R]
        others = log_sum_of_others(f, g, self.references.first, more=further, dtype=self.dtype)[..., 0].mT
        return self._with_own(columns.own[..., some], others + columns.base[..., some]).unbind(-1)

    @cached_property
    def _columns(self) -> UnivariateSites | None:
        """The univariate sites, whose densities are products; None where there are none, or pairs are few."""
        return None if self.directly else UnivariateSites.of(self.sites, self.parts, self.of_bank, self.shape)

    def _direct_pairs(self, name: str) -> Tensor:
        """log-densities of each variable of a site for all pairs, [V, S, B, M]; made once."""
        if name not in self._pairs:
            found = [pairs_of_each(self.sites[name], part[name], self.shape) for part in self.parts]
            self._pairs[name] = _side_by_side(found, -1)
        return self._pairs[name]

    def _thinned(self, which: Continuous) -> Tensor:
        """Coefficients of the bank's references of single variables with their log-weights, [D, 3, R]."""
        assert self.bank is not None
        assert self._columns is not None
        assert self._columns.bank is not None
        g = self._columns.bank[..., self._columns.columns(which)].permute(2, 1, 0)  # [D, 3, M]
        weights = self._bank_weights
        if self.bank.thinned:
            alike = [(name, [i for _, (i,) in some]) for name, some in itertools.groupby(which, lambda one: one[0])]
            places, weights = (
                torch.cat([self.bank.thinned[name][part][indices] for name, indices in alike]) for part in (0, 1)
            )  # [D, R] each
            g = g.gather(2, places[:, None].expand(-1, 3, -1))
        return torch.cat([g[:, :2], g[:, 2:] + weights[..., None, :]], 1)

    @cached_property
    def _bank_weights(self) -> Tensor:
        assert self.bank is not None
        return torch.where(self.bank.present, 0.0, NOTHING).to(self.device, torch.float64)  # [M]

    def _with_the_same_densities(self, continuous: Continuous, groups: Sequence[Group]) -> list[Tensor]:
        """E[log r̂(z_G)] of groups that differ in their categoricals only: the densities are most of the work."""
        densities = self._densities(continuous)
        if not any(members(group, self.kinds)[1] for group in groups):
            return [densities.log_aggregate()[..., 0]]
        tables = [self._log_masses(members(group, self.kinds)[1]) for group in groups]
        table = CombinedMasses.side_by_side(tables)
        expected = table.posterior.exp() * densities.log_aggregate(table)  # [S, B, ΣK]
        return [part.sum(-1) for part in expected.split([table.own.shape[-1] for table in tables], -1)]

    def _densities(self, continuous: Continuous) -> PairDensities:
        """Those of the continuous variables of a group for all pairs of a sample and a reference."""
        columns = self._columns
        own = [] if continuous else [torch.zeros((*self.shape, 1), dtype=torch.float64, device=self.device)]
        products: list[Product] = []
        pairs: list[Tensor] = []
        if columns and (together := tuple(some for some in continuous if some[0] in columns.first)):
            own.append(columns.log_density(together))
            products.append(columns.product(together))
        for name, indices in continuous:
            if columns and name in columns.first:
                continue
            own.append(self.sites[name].log_prob(indices).expand(self.shape)[..., None])
            product = None if self.directly else self._product(name, indices)
            if product is None:
                pairs.append(self._log_pairs(name, indices))
            else:
                products.append(product)
        weights = None if self.bank is None else self._bank_weights
        return PairDensities.of(own, products, pairs, self.count, weights, self.references, self.dtype)

    def _product(self, name: str, indices: Sequence[int]) -> Product | None:
        """log-densities of some variables of a site for all pairs as a product; None where they are none."""
        of_samples = self.sites[name].features(indices)
        given = [part[name].coefficients(indices) for part in self.parts]
        of_parts = [made for made in given if made is not None]
        if of_samples is None or len(of_parts) < len(given):
            return None
        every = Size([self.shape[0], -1])
        of_bank = None if self.bank is None else self.of_bank[name].coefficients(indices)
        return Product(
            features=expand(of_samples[0], self.shape, 1).double(),
            base=expand(of_samples[1], self.shape, 0)[..., None],
            parameters=torch.cat([expand(g, every, 1) for g, _ in of_parts], 1).double(),
            constant=torch.cat([expand(c, every, 0) for _, c in of_parts], 1)[..., None].double(),
            bank=None if of_bank is None else of_bank[0].mT,
            constant_of_bank=None if of_bank is None else of_bank[1],
        )

    def _log_pairs(self, name: str, indices: Sequence[int]) -> Tensor:
        """log-densities of some variables of a site for all pairs, one by one, [S, B, M + M']."""
        site = self.sites[name]
        if self.directly and site.independent:
            each = self._direct_pairs(name)
            return (each if len(indices) == len(each) else each[list(indices)]).sum(0)
        found = [log_pairs(site, part[name], indices, self.shape) for part in self.parts]
        if self.bank is not None:
            found.append(log_pairs(site, self.of_bank[name], indices, self.shape).detach())
        return torch.cat(found, -1)

    def _divided(self, continuous: Continuous, discrete: Sequence[Categorical]) -> Tensor:
        """E[log r̂(z_G)] of a group whose categoricals have too many combinations, from some of them."""
        densities = self._densities(continuous)
        values: list[Tensor] = []
        of_masses = torch.zeros_like(densities.own[..., 0])  # 0, with the gradient of the masses
        for some in self._divided_members(discrete):
            rest = [member for member in discrete if member not in some]
            drawn = torch.cat([self._drawn[name][:, :, index] for name, index in rest], -1)  # [S, B, ΣK]
            given = densities.joined(drawn, CombinedMasses.side_by_side([self._log_masses([one]) for one in rest]))
            table = self._log_masses(some)
            mass = table.posterior.exp()
            log_marginal = given.log_aggregate(table)  # [S, B, K]
            values.append((mass.detach() * log_marginal).sum(-1))
            of_masses = of_masses + ((mass - mass.detach()) * log_marginal.detach()).sum(-1)
        return torch.stack(values).mean(0) + of_masses

    def _of_masses(self, discrete: Sequence[Categorical]) -> Tensor:
        """E[log r̂] of categoricals alone, [S, B]: no densities, which are by far the most of the work."""
        table = self._log_masses(discrete)
        if self.bank is None and self.pairs <= DIRECT:
            weights = log_weights(self.references, table.references.new_empty(self.shape[1], table.references.shape[1]))
            sums = weights.exp() @ table.references.exp()  # [S, B, K]
            return (table.posterior.exp() * sums.clamp_min(torch.finfo(sums.dtype).tiny).log()).sum(-1)
        bank = None if table.bank is None else (table.bank + self._bank_weights[:, None]).exp()
        others = log_sum_of_other_masses(table.references.exp(), self.references.first, self.shape[1], bank)
        return (table.posterior.exp() * self._with_own(table.own, others)).sum(-1)

    def _log_masses(self, discrete: Sequence[Categorical]) -> "CombinedMasses":
        """Of every combination of some categoricals; without categoricals there is one combination, of mass 1."""
        lead = self.shape[0]

        def combined(masses: Mapping[str, Tensor], rows: int) -> Tensor:
            none = torch.zeros(lead, rows, 1, dtype=torch.float64, device=self.device)
            return log_mass_of_combinations([masses[name][:, :, index] for name, index in discrete] or [none])

        posterior = combined(self.masses, self.shape[1])
        if self.alone and self.bank is None:
            return CombinedMasses(posterior, posterior, posterior, None)
        names = {name for name, _ in discrete}
        references = {
            name: torch.cat([masses_of(part[name], Size([lead, -1])) for part in self.parts], 1) for name in names
        }
        bank = None
        if self.bank is not None:
            held = {name: masses_of(self.of_bank[name], Size([lead, -1])) for name in names}
            bank = combined(held, len(self.bank.present))
        return CombinedMasses(
            posterior=posterior,
            own=combined(self._own_masses, self.shape[1]),
            references=combined(references, self.count),
            bank=bank,
        )

    def _divided_members(self, discrete: Sequence[Categorical]) -> list[list[Categorical]]:
        """The categoricals in parts of which all combinations can be gone through."""
        places = divide([self.masses[name].shape[-1] for name, _ in discrete])
        return [[discrete[place] for place in part] for part in places]

    @cached_property
    def _drawn(self) -> dict[str, Tensor]:
        """A draw of every categorical from the posterior, the same for all groups; each [S, B, V, K]."""
        return {name: draw_one_hot(masses) for name, masses in self.masses.items()}

    def _with_own(self, own: Tensor, others: Tensor) -> Tensor:
        return torch.logaddexp(self.references.own + own, self.references.other + others)

    def _plain(self, name: str) -> bool:
        """Whether single variables of a site are compared with those of other sites in one call."""
        if self.directly:
            return self.sites[name].independent
        return self._columns is not None and self._columns.grain.get(name) == 1


def _side_by_side(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Tensors in one, without a copy where there is but one."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)
