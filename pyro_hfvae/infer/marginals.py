"""The inference marginal q(z) = (1/N) Σ_n q(z|x_n) of groups of variables, from weighted posteriors of some data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pyro_hfvae.infer.combinations import divide, draw_one_hot, log_mass_of_combinations
from pyro_hfvae.infer.families import Continuous
from pyro_hfvae.infer.mixture import (
    NOTHING,
    gaussian_features,
    gaussian_parameters,
    log_sum_of_other_masses,
    log_sum_of_others,
    log_sum_of_pairs,
)

__all__ = ["Bank", "Group", "Posteriors", "References", "expected_log_marginals"]


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) of a batch: D normal variables with a sample of each, and V categoricals.

    Dimensions: S particles, B data, K categories (each categorical has its own number).
    """

    value: Tensor  # [S, B, D]
    loc: Tensor  # [S, B, D]
    scale: Tensor  # [S, B, D]
    log_mass: tuple[Tensor, ...]  # V tensors [S, B, K]
    other: tuple[Continuous, ...] = ()  # sites of other families


@dataclass(frozen=True)
class Group:
    """Variables whose joint marginal is asked for: positions among the normal ones and among the categoricals.

    Those of other sites are given by the number of the site and their indices in it.
    """

    normal: tuple[int, ...]
    discrete: tuple[int, ...] = ()
    other: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def __len__(self) -> int:
        """The number of variables."""
        return len(self.normal) + len(self.discrete) + sum(len(indices) for _, indices in self.other)


@dataclass(frozen=True)
class Bank:
    """Posteriors of M data that are not in the batch, without gradient."""

    parameters: Tensor  # [3, D, M], float64, see gaussian_parameters; references last, for copies of some variables
    log_mass: tuple[Tensor, ...]  # V tensors [M, K]
    present: Tensor  # [M], False where the slot is to be left out
    single: Tensor | None = None  # [3, D, R], fewer references for each single variable, with log-weights; all if None


@dataclass(frozen=True)
class References:
    r"""The posteriors that a marginal is made of: those of the batch, each with its own sample, and those of a bank.

    .. math:: \hat q(z^b) = w_\mathrm{own}\, q(z^b|x^b) + w_\mathrm{other}
        \Big( \sum_{b' \ne b} q(z^b|x^{b'}) + \sum_{m \in \mathrm{bank}} q(z^b|x^m) \Big)
    """

    own: float
    """log w_own."""
    other: float | Tensor
    """log w_other; a scalar."""
    bank: Bank | None = None


def expected_log_marginals(posteriors: Posteriors, groups: Sequence[Group], references: References) -> list[Tensor]:
    r"""E[log q̂(z_G)] for every group G, each [S, B].

    The expectation over the normal variables is the value at the sample; that over the categoricals is exact, over
    all combinations of their categories under q(·|x^b):

    .. math:: \sum_k q(k|x^b) \log \sum_m w_{bm} q(k|x^m) \prod_d N(z^b_d; \mu^m_d, \sigma^m_d)

    with the weights w of the references. More than 4,096 combinations are divided into C parts c of the categoricals,
    each with as many combinations at most. With f(k) the logarithm above, one draw y* from q(·|x^b), and y*_{-c} what
    it says of the other parts,

    .. math:: \frac{1}{C} \sum_c \sum_{k_c} q(k_c|x^b) f(k_c, y^*_{-c})

    is unbiased, since every summand of the mean over c is. So is its gradient,

    .. math:: \sum_c \sum_{k_c} \Big( \frac{1}{C} q(k_c|x^b) \nabla f(k_c, y^*_{-c})
        + f(k_c, y^*_{-c}) \nabla q(k_c|x^b) \Big)

    (local expectation gradients: Titsias and Lázaro-Gredilla, NeurIPS 2015).

    The own density is taken by direct differences; the others by a product in float64, whose memory is bounded
    whatever B and M are.

    Args:
        posteriors: of the batch.
        groups: the groups of variables.
        references: what the marginal is made of.
    """
    dtype, device = posteriors.value.dtype, posteriors.value.device
    with torch.autocast(device.type, enabled=False):
        wide = _widened(posteriors)
        found = _Sums(wide, references, torch.promote_types(dtype, torch.float32)).expected(groups)
        return [found[group].to(device, dtype) for group in groups]


class _Sums:
    """The sums over one choice of references, of posteriors in float64; those over pairs are made in ``dtype``."""

    def __init__(self, posteriors: Posteriors, references: References, dtype: torch.dtype) -> None:
        self.references = references
        self.dtype = dtype
        value, loc, scale = posteriors.value, posteriors.loc, posteriors.scale
        self.features = gaussian_features(value)  # [S, B, D, 3]
        deviation = (value - loc) / scale
        self.log_own = -0.5 * deviation.square() - scale.log() - 0.5 * math.log(2 * math.pi)  # [S, B, D]
        self.log_mass = posteriors.log_mass  # each [S, B, K]
        self.parameters = gaussian_parameters(loc, scale)  # [S, B, D, 3]
        self.other = posteriors.other
        bank = references.bank
        self.more: Tensor | None = None
        self.single: Tensor | None = None
        self.more_log_mass: list[Tensor] = []
        if bank is not None:
            self.more = bank.parameters.to(value)  # [3, D, M]
            self.more_log_mass = [mass.to(value).expand(len(value), *mass.shape) for mass in bank.log_mass]
            self.more_log_weight = torch.where(bank.present.to(value.device), 0.0, NOTHING).to(value)  # [M]
            if bank.single is not None:
                self.single = bank.single.to(value)  # [3, D, R]
            else:
                self.single = torch.cat([self.more[:2], (self.more[2] + self.more_log_weight)[None]])

    def expected(self, groups: Sequence[Group]) -> dict[Group, Tensor]:
        """E[log q̂(z_G)] of every group, each [S, B]."""
        found: dict[Group, Tensor] = {}
        plain: list[Group] = []
        sharing: dict[object, list[Group]] = {}
        for group in groups:
            if len(group.normal) == len(group) == 1:
                plain.append(group)
            elif group.discrete and len(self._parts(group)) > 1:
                found[group] = self._divided(group)
            elif group.discrete and not (group.normal or group.other):
                found[group] = self._of_masses(group.discrete)
            else:
                sharing.setdefault((group.normal, group.other), []).append(group)
        if plain:  # single normal variables are many and alike: all in one call
            found |= dict(zip(plain, self._of_variables([group.normal[0] for group in plain]), strict=True))
        for alike in sharing.values():
            found |= dict(zip(alike, self._with_the_same_densities(alike), strict=True))
        return found

    def _of_variables(self, which: Sequence[int]) -> tuple[Tensor, ...]:
        """log q̂ of single normal variables, each [S, B]."""
        features, parameters = (_take(part, which).transpose(1, 2) for part in (self.features, self.parameters))
        more = None
        if self.single is not None:
            more = self.single[:, list(which)].movedim(1, 0)  # [D, 3, R]
            more = more.expand(len(features), *more.shape)  # [S, D, 3, R]
        others = log_sum_of_others(features, parameters, more=more, dtype=self.dtype)[..., 0].mT  # [S, B, D]
        return self._with_own(_take(self.log_own, which), others).unbind(-1)

    def _with_the_same_densities(self, groups: Sequence[Group]) -> list[Tensor]:
        """E[log q̂(z_G)] of groups that differ in their categoricals only: the densities are most of the work."""
        densities = self._densities(groups[0])
        if not any(group.discrete for group in groups):
            return [self._with_own(densities.own, densities.log_sum())[..., 0]]
        parts = [self._log_masses(group.discrete) for group in groups]
        log_mass = torch.cat([of_batch for of_batch, _ in parts], -1)  # [S, B, ΣK]
        of_more = [of_more for _, of_more in parts if of_more is not None]
        others = densities.log_sum(log_mass.exp(), torch.cat(of_more, -1).exp() if of_more else None)
        expected = log_mass.exp() * self._with_own(densities.own + log_mass, others)
        return [part.sum(-1) for part in expected.split([of_batch.shape[-1] for of_batch, _ in parts], -1)]

    def _densities(self, group: Group) -> "_Densities":
        """Those of the continuous variables of a group."""
        features = _take(self.features, group.normal)[..., :2].transpose(-1, -2).flatten(-2)  # [S, B, 2 n]
        features = torch.cat([features, features.new_ones(*features.shape[:2], 1)], -1)  # [S, B, P]
        parameters = _take(self.parameters, group.normal).movedim(-1, 0)  # [3, S, B, n]
        parameters = torch.cat([*parameters[:2], parameters[2].sum(-1, keepdim=True)], -1)  # [S, B, P]
        own = _take(self.log_own, group.normal).sum(-1, keepdim=True)  # [S, B, 1]
        more = None
        if self.more is not None:
            some = _take(self.more[None], group.normal)[0]  # [3, n, M]
            more = torch.cat([*some[:2], (some[2].sum(0) + self.more_log_weight)[None]])  # [P, M]
            more = more.expand(len(own), *more.shape)  # [S, P, M]
        if not group.other:
            return _Densities(features, parameters, more, own, self.dtype)
        # A bank has no such densities. The last parameter is the constant, whose feature is 1.
        parts = [self.other[site].part(indices) for site, indices in group.other]
        constant = parameters[..., -1:] + sum(part.constant[..., None].to(own) for part in parts)
        coupled = [part.pairs() for part in parts if part.pairs is not None]
        return _Densities(
            features=torch.cat([part.features.to(own) for part in parts] + [features], -1),
            parameters=torch.cat([part.parameters.to(own) for part in parts] + [parameters[..., :-1], constant], -1),
            more=None,
            own=own + sum(part.log_density[..., None].to(own) for part in parts),
            dtype=self.dtype,
            base=sum((part.base[..., None].to(own) for part in parts), start=torch.zeros_like(own)),
            pairs=torch.stack(coupled).sum(0).to(own) if coupled else None,
        )

    def _divided(self, group: Group) -> Tensor:
        """E[log q̂(z_G)] of a group whose categoricals have too many combinations, from some of them."""
        densities = self._densities(group)
        values: list[Tensor] = []
        of_masses = torch.zeros_like(densities.own[..., 0])  # 0, with the gradient of the masses
        for some in self._parts(group):
            rest = [index for index in group.discrete if index not in some]
            drawn = torch.cat([self._drawn[index] for index in rest], -1)  # [S, B, ΣK]
            log_masses = torch.cat([self.log_mass[index] for index in rest], -1)
            more = densities.more
            if more is not None:
                more = torch.cat([*(self.more_log_mass[index].mT for index in rest), more], -2)
            given = replace(
                densities,
                features=torch.cat([drawn, densities.features], -1),
                parameters=torch.cat([log_masses, densities.parameters], -1),
                more=more,
                own=densities.own + (drawn * log_masses).sum(-1, keepdim=True),
            )
            log_mass, of_more = self._log_masses(some)
            mass = log_mass.exp()
            others = given.log_sum(mass, None if of_more is None else of_more.exp())
            log_marginal = self._with_own(given.own + log_mass, others)  # [S, B, K]
            values.append((mass.detach() * log_marginal).sum(-1))
            of_masses = of_masses + ((mass - mass.detach()) * log_marginal.detach()).sum(-1)
        return torch.stack(values).mean(0) + of_masses

    def _parts(self, group: Group) -> list[list[int]]:
        """The categoricals of a group in parts of which all combinations can be gone through."""
        places = divide([self.log_mass[index].shape[-1] for index in group.discrete])
        return [[group.discrete[place] for place in part] for part in places]

    @cached_property
    def _drawn(self) -> list[Tensor]:
        """A draw of every categorical, the same for all groups; each [S, B, K]."""
        return [draw_one_hot(log_mass) for log_mass in self.log_mass]

    def _log_masses(self, discrete: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Of every combination of some categoricals, of the batch [S, B, K] and of the bank [S, M, K].

        Without categoricals there is one combination, of mass 1.
        """
        none = self.log_own.new_zeros(*self.log_own.shape[:2], 1)
        log_mass = log_mass_of_combinations([self.log_mass[index] for index in discrete] or [none])
        if self.more is None:
            return log_mass, None
        none = none.new_zeros(len(none), self.more.shape[-1], 1)
        return log_mass, log_mass_of_combinations([self.more_log_mass[index] for index in discrete] or [none])

    def _of_masses(self, discrete: Sequence[int]) -> Tensor:
        """E[log q̂] of categoricals alone, [S, B]: no densities, which are by far the most of the work."""
        log_mass, more = self._log_masses(discrete)
        if more is not None:
            more = (more + self.more_log_weight[:, None]).exp()
        others = log_sum_of_other_masses(log_mass.exp(), more)
        return (log_mass.exp() * self._with_own(log_mass, others)).sum(-1)

    def _with_own(self, own: Tensor, others: Tensor) -> Tensor:
        return torch.logaddexp(self.references.own + own, self.references.other + others)


@dataclass(frozen=True)
class _Densities:
    """log q(z^r|x^m) of some continuous variables, of samples r and references m: f_r · g_m, and what is no product."""

    features: Tensor  # f, [S, B, P]
    parameters: Tensor  # g of the batch, [S, B, P]
    more: Tensor | None  # g of the bank, [S, P, M]
    own: Tensor  # those with r = m, by direct differences, [S, B, 1]
    dtype: torch.dtype
    base: float | Tensor = 0.0  # what the sample adds, [S, B, 1]
    pairs: Tensor | None = None  # what every pair adds, [S, B, B]; a bank has none

    def log_sum(self, masses: Tensor | None = None, masses_of_more: Tensor | None = None) -> Tensor:
        """The logarithm of the sum over the other references, [S, B, K], or [S, B, 1] without masses [S, B, K]."""
        if self.pairs is None:
            others = log_sum_of_others(self.features, self.parameters, masses, self.more, masses_of_more, self.dtype)
        else:
            others = log_sum_of_pairs(self.features @ self.parameters.mT + self.pairs, masses)
        return self.base + others


def _widened(posteriors: Posteriors) -> Posteriors:
    """The same in float64, on a device that has it."""
    device = torch.device("cpu") if posteriors.value.device.type == "mps" else posteriors.value.device

    def wide(tensor: Tensor) -> Tensor:
        return tensor.to(device, torch.float64)

    return Posteriors(
        wide(posteriors.value),
        wide(posteriors.loc),
        wide(posteriors.scale),
        tuple(map(wide, posteriors.log_mass)),
        posteriors.other,
    )


def _take(tensor: Tensor, which: Sequence[int]) -> Tensor:
    """``tensor[:, :, which]``, without a copy where the variables are consecutive."""
    first, last = (which[0], which[-1] + 1) if which else (0, 0)
    return tensor[:, :, first:last] if list(which) == list(range(first, last)) else tensor[:, :, list(which)]
