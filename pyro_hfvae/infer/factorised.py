"""log-densities of groups of variables, and of their aggregate, where sites are independent given the datum."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.categories import divide, draw_one_hot, log_mass_of_combinations
from pyro_hfvae.infer.groups import Categorical, Continuous, expected_log_densities, kinds_of, members
from pyro_hfvae.infer.pair_densities import Masses, PairDensities
from pyro_hfvae.infer.references import References, Sites, batch_of
from pyro_hfvae.sites import DiscreteSite, Site

__all__ = ["Factorised"]

NO_CATEGORICALS: tuple[Categorical, ...] = ()


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

    Args:
        sites: the densities, at the guide's samples, of S particles and B data.
        posteriors: the guide's, whose masses weight the categories.
        references: what the aggregate is made of.
        dtype: float32 or float64; the sums over pairs are made in that, or in the type of the sites if that is wider.
    """

    def __init__(self, sites: Sites, posteriors: Sites, references: References, dtype: torch.dtype) -> None:
        self.sites, self.posteriors, self.references = sites, posteriors, references
        self.shape = batch_of(posteriors)
        for site in sites.values():
            numbers = site.log_mass if isinstance(site, DiscreteSite) else site.value
            dtype = torch.promote_types(dtype, numbers.dtype)
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.kinds = kinds_of(sites)
        self.densities = PairDensities(sites, self.shape, references, self.dtype)
        self._made: dict[tuple[Categorical, ...], Masses] = {}

    def own(self, groups: Sequence[Group]) -> Tensor:
        """E[log r(z_G|x)] of every group, [G]."""
        return expected_log_densities(self.sites, self.posteriors, groups)

    def aggregate(self, groups: Sequence[Group]) -> Tensor:
        """E[log r̂(z_G)] of every group, [G]."""
        return self.aggregate_of_each(groups).mean((1, 2))

    def aggregate_of_each(self, groups: Sequence[Group]) -> Tensor:
        """The same of each sample, [G, S, B]."""
        parts = [members(group, self.kinds) for group in groups]
        plain: list[Continuous] = []
        beside: dict[tuple[Categorical, ...], list[Continuous]] = {}
        for continuous, discrete in dict.fromkeys(parts):
            if continuous and not discrete:
                plain.append(continuous)
            elif len(self._divided(discrete)) == 1:
                beside.setdefault(discrete, []).append(continuous)
        weighted = [(some, self._masses(discrete)) for discrete, some in beside.items()]
        logs, with_masses = self.densities.log_aggregates(plain, weighted)
        if parts == [(continuous, ()) for continuous in plain]:
            return logs
        found = {(continuous, NO_CATEGORICALS): log for continuous, log in zip(plain, logs.unbind(), strict=True)}
        for (discrete, some), log in zip(beside.items(), with_masses, strict=True):
            expected = (self._posterior_masses(discrete) * log).sum(-1)  # [G', S, B]
            found |= {(continuous, discrete): each for continuous, each in zip(some, expected.unbind(), strict=True)}
        return torch.stack([found[part] if part in found else self._from_draws(*part) for part in parts])

    def _from_draws(self, continuous: Continuous, discrete: Sequence[Categorical]) -> Tensor:
        """E[log r̂(z_G)] of a group whose categoricals have too many combinations, from some of them, [S, B]."""
        values: list[Tensor] = []
        of_masses: list[Tensor] = []  # 0, with the gradient of the masses
        for some in self._divided(discrete):
            rest = [member for member in discrete if member not in some]
            one_hot = torch.cat([self._drawn[name][:, :, index] for name, index in rest], -1)  # [S, B, ΣK]
            drawn = one_hot, self._log_masses_of_each(rest)
            _, (log,) = self.densities.log_aggregates([], [([continuous], self._masses(some))], drawn)
            log, mass = log[0], self._posterior_masses(some)  # [S, B, K]
            values.append((mass.detach() * log).sum(-1))
            of_masses.append(((mass - mass.detach()) * log.detach()).sum(-1))
        return torch.stack(values).mean(0) + torch.stack(of_masses).sum(0)

    def _divided(self, discrete: Sequence[Categorical]) -> list[list[Categorical]]:
        """The categoricals in parts of which all combinations can be gone through."""
        if len(discrete) < 2:
            return [list(discrete)]
        places = divide([_discrete(self.posteriors[name]).categories for name, _ in discrete])
        return [[discrete[place] for place in part] for part in places]

    def _posterior_masses(self, discrete: Sequence[Categorical]) -> Tensor:
        """The guide's masses of every combination of some categoricals, [S, B, K]."""
        same = self.references.parts == [self.posteriors]
        return (
            self._masses(discrete).batch if same else self._log_masses([self.posteriors], self.shape[1], discrete).exp()
        )

    def _masses(self, discrete: Sequence[Categorical]) -> Masses:
        """Those given the references; made once."""
        key = tuple(discrete)
        if key not in self._made:
            self._made[key] = self._given_references(discrete).exp()
        return self._made[key]

    def _log_masses_of_each(self, discrete: Sequence[Categorical]) -> Masses:
        """Log-masses given the references of categoricals by themselves, side by side."""
        each = [self._given_references([one]) for one in discrete]
        banks = [one.bank for one in each if one.bank is not None]
        return Masses(torch.cat([one.batch for one in each], -1), torch.cat(banks, -1) if banks else None)

    def _given_references(self, discrete: Sequence[Categorical]) -> Masses:
        parts, bank = self.references.parts, self.references.bank
        return Masses(
            batch=self._log_masses(parts, self.densities.count, discrete),
            bank=None if bank is None else self._log_masses([bank.sites], len(bank.present), discrete),
        )

    def _log_masses(self, parts: Sequence[Sites], count: int, discrete: Sequence[Categorical]) -> Tensor:
        """Of every combination of some categoricals, [S, M, K]; without categoricals there is one, of mass 1."""
        if not discrete:
            return torch.zeros(self.shape[0], count, 1, dtype=self.dtype, device=self.densities.device)
        each = []
        for name, index in discrete:
            masses = [_discrete(part[name]).log_mass[..., index, :] for part in parts]
            masses = [some.expand(self.shape[0], *some.shape[-2:]) for some in masses]
            each.append(masses[0] if len(masses) == 1 else torch.cat(masses, 1))
        return log_mass_of_combinations(each)

    @cached_property
    def _drawn(self) -> dict[str, Tensor]:
        """A draw of every categorical from the posterior, the same for all groups; each [S, B, V, K]."""
        every = {name: _discrete(site).log_mass for name, site in self.posteriors.items() if site.discrete}
        return {name: draw_one_hot(masses.expand(*self.shape, -1, -1)) for name, masses in every.items()}


def _discrete(site: Site) -> DiscreteSite:
    assert isinstance(site, DiscreteSite)
    return site
