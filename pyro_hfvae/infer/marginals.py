"""The inference marginal q(z) = (1/N) Σ_n q(z|x_n) of groups of variables, from weighted posteriors of some data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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

    parameters: Tensor  # [M, D, 3], float64, see gaussian_parameters
    log_mass: tuple[Tensor, ...]  # V tensors [M, K]
    present: Tensor  # [M], False where the slot is to be left out


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
    single: "References | None" = None
    """The references for single variables, which need fewer; the same if None."""


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
        if references.single is None:
            found = _Sums(wide, references).expected(groups)
        else:
            single = [group for group in groups if len(group) == 1]
            several = [group for group in groups if group not in single]
            found = _Sums(wide, references).expected(several) | _Sums(wide, references.single).expected(single)
        return [found[group].to(device, dtype) for group in groups]


class _Sums:
    """The sums over one choice of references."""

    def __init__(self, posteriors: Posteriors, references: References) -> None:
        self.references = references
        value, loc, scale = posteriors.value, posteriors.loc, posteriors.scale
        self.features = gaussian_features(value)  # [S, B, D, 3]
        deviation = (value - loc) / scale
        self.log_own = -0.5 * deviation.square() - scale.log() - 0.5 * math.log(2 * math.pi)  # [S, B, D]
        self.log_mass = posteriors.log_mass  # each [S, B, K]
        self.parameters = gaussian_parameters(loc, scale)  # [S, B, D, 3]
        self.other = posteriors.other
        self.more: Tensor | None = None
        self.more_log_mass: list[Tensor] = []
        bank = references.bank
        if bank is not None:
            self.more = bank.parameters.to(value).expand(len(value), -1, -1, -1)  # [S, M, D, 3]
            self.more_log_mass = [mass.to(value).expand(len(value), *mass.shape) for mass in bank.log_mass]
            self.more_log_weight = torch.where(bank.present.to(value.device), 0.0, NOTHING).to(value)  # [M]

    def expected(self, groups: Sequence[Group]) -> dict[Group, Tensor]:
        """E[log q̂(z_G)] of every group, each [S, B]."""
        plain = [group for group in groups if len(group.normal) == len(group) == 1]
        found = {group: self._expected(group) for group in groups if group not in plain}
        if plain:  # single normal variables are many and alike: all in one call
            which = [group.normal[0] for group in plain]
            features, parameters = (_take(part, which).transpose(1, 2) for part in (self.features, self.parameters))
            more = None
            if self.more is not None:
                more = _take(self.more, which).transpose(1, 2).clone()  # [S, D, M, 3]
                more[..., 2] += self.more_log_weight
            others = log_sum_of_others(features, parameters, more=more)[..., 0].mT  # [S, B, D]
            found |= dict(zip(plain, self._with_own(_take(self.log_own, which), others).unbind(-1), strict=True))
        return found

    def _expected(self, group: Group) -> Tensor:
        if group.discrete and not (group.normal or group.other) and len(self._parts(group)) == 1:
            return self._of_masses(group.discrete)
        features = _take(self.features, group.normal)[..., :2].flatten(-2)  # [S, B, 2 n]
        features = torch.cat([features, features.new_ones(*features.shape[:2], 1)], -1)  # [S, B, P]
        parameters = _joint(_take(self.parameters, group.normal))  # [S, B, P]
        more = None if self.more is None else _joint(_take(self.more, group.normal))  # [S, M, P]
        if more is not None:
            more[..., -1] += self.more_log_weight
        own = _take(self.log_own, group.normal).sum(-1, keepdim=True)  # [S, B, 1]
        base: float | Tensor = 0.0
        pairs: Tensor | None = None
        if group.other:
            parts = [self.other[site].part(indices) for site, indices in group.other]
            # The last parameter is the constant, whose feature is 1.
            constant = parameters[..., -1:] + sum(part.constant[..., None].to(own) for part in parts)
            features = torch.cat([part.features.to(own) for part in parts] + [features], -1)
            parameters = torch.cat([part.parameters.to(own) for part in parts] + [parameters[..., :-1], constant], -1)
            own = own + sum(part.log_density[..., None].to(own) for part in parts)
            coupled = [part.pairs() for part in parts if part.pairs is not None]
            pairs = torch.stack(coupled).sum(0).to(own) if coupled else None
            base = sum((part.base[..., None].to(own) for part in parts), start=torch.zeros_like(own))
        if not group.discrete:
            return self._with_own(own, base + _log_sum(pairs, features, parameters, more=more))[..., 0]
        divided = self._parts(group)
        if len(divided) == 1:
            log_mass, log_marginal = self._of_combinations(group.discrete, features, parameters, more, own, base, pairs)
            return (log_mass.exp() * log_marginal).sum(-1)
        values: list[Tensor] = []
        of_masses = torch.zeros_like(own[..., 0])  # 0, with the gradient of the masses
        for some in divided:
            rest = [index for index in group.discrete if index not in some]
            drawn = torch.cat([self._drawn[index] for index in rest], -1)  # [S, B, ΣK]
            log_masses = torch.cat([self.log_mass[index] for index in rest], -1)
            others = None
            if more is not None:
                others = torch.cat([*(self.more_log_mass[index] for index in rest), more], -1)
            log_mass, log_marginal = self._of_combinations(
                some,
                torch.cat([drawn, features], -1),
                torch.cat([log_masses, parameters], -1),
                others,
                own + (drawn * log_masses).sum(-1, keepdim=True),
                base,
                pairs,
            )
            mass = log_mass.exp()
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

    def _of_masses(self, discrete: Sequence[int]) -> Tensor:
        """E[log q̂] of categoricals alone, [S, B]: no densities, which are by far the most of the work."""
        log_mass = log_mass_of_combinations([self.log_mass[index] for index in discrete])  # [S, B, K]
        more = None
        if self.more is not None:
            more = log_mass_of_combinations([self.more_log_mass[index] for index in discrete])  # [S, M, K]
            more = (more + self.more_log_weight[:, None]).exp()
        others = log_sum_of_other_masses(log_mass.exp(), more)
        return (log_mass.exp() * self._with_own(log_mass, others)).sum(-1)

    def _of_combinations(
        self,
        discrete: Sequence[int],
        features: Tensor,
        parameters: Tensor,
        more: Tensor | None,
        own: Tensor,
        base: float | Tensor,
        pairs: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Own log-mass of every combination of some categoricals, and log q̂ at it; both [S, B, K]."""
        log_mass = log_mass_of_combinations([self.log_mass[index] for index in discrete])  # [S, B, K]
        more_masses = None
        if more is not None:
            more_masses = log_mass_of_combinations([self.more_log_mass[index] for index in discrete]).exp()  # [S, M, K]
        others = base + _log_sum(pairs, features, parameters, log_mass.exp(), more, more_masses)
        return log_mass, self._with_own(own + log_mass, others)

    def _with_own(self, own: Tensor, others: Tensor) -> Tensor:
        return torch.logaddexp(self.references.own + own, self.references.other + others)


def _log_sum(
    pairs: Tensor | None,
    features: Tensor,
    parameters: Tensor,
    masses: Tensor | None = None,
    more: Tensor | None = None,
    masses_of_more: Tensor | None = None,
) -> Tensor:
    """The sum over the other references, of densities that are a product, or a product and something else of pairs."""
    if pairs is None:
        return log_sum_of_others(features, parameters, masses, more, masses_of_more)
    # A bank has no such densities.
    return log_sum_of_pairs(features @ parameters.mT + pairs, masses)


def _joint(parameters: Tensor) -> Tensor:
    """Parameters of n variables [S, M, n, 3] as those of their product, [S, M, 2 n + 1]."""
    return torch.cat([parameters[..., :2].flatten(-2), parameters[..., 2].sum(-1, keepdim=True)], -1)


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
