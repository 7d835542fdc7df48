"""What groups of variables are made of: sites in order and their variables, and the log-density as a sum over them."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.references import Sites
from pyro_hfvae.sites import DiscreteSite

__all__ = ["Categorical", "Continuous", "expected_log_densities", "kinds_of", "members"]

Continuous = tuple[tuple[str, tuple[int, ...]], ...]
"""Sites in order, and which of their variables."""

Categorical = tuple[str, int]
"""A site, and which of its categoricals."""

Kinds = tuple[tuple[str, int, bool, bool], ...]
"""Sites in order: how many variables they have, whether these are categoricals, and whether they are independent."""


def expected_log_densities(sites: Sites, posteriors: Sites, groups: Sequence[Group]) -> Tensor:
    """E[log r(z_G|x)] of every group under the guide's posterior, [G]; variables of other sites are left out.

    Args:
        sites: the densities r, at the guide's samples, of sites that are independent given the datum.
        posteriors: the guide's, whose masses weight the categories.
        groups: of variables.
    """
    values: list[Tensor] = []
    for name, site in sites.items():
        if isinstance(site, DiscreteSite):
            values.append((posteriors[name].mean * site.log_mass).sum(-1).reshape(-1, site.variables).mean(0))
        elif site.independent:
            values.append(site.mean_densities)
    device = next(iter(sites.values())).value.device
    together, counts = _summands(tuple(groups), kinds_of(sites), device)
    values += [sites[name].log_prob(indices).mean()[None] for name, indices in together]
    every = torch.cat(values) if len(values) > 1 else values[0]
    return counts.to(every) @ every


def kinds_of(sites: Sites) -> Kinds:
    """What of some sites decides how groups of their variables are read."""
    return tuple((name, site.variables, site.discrete, site.independent) for name, site in sites.items())


@lru_cache(maxsize=4096)
def members(group: Group, kinds: Kinds) -> tuple[Continuous, tuple[Categorical, ...]]:
    """A group's continuous variables by site, and its categoricals, in an order that does not change."""
    continuous: list[tuple[str, tuple[int, ...]]] = []
    categoricals: list[Categorical] = []
    for name, _, discrete, _ in kinds:
        indices = tuple(sorted(variable.index for variable in group if variable.site == name))
        if discrete:
            categoricals += [(name, index) for index in indices]
        elif indices:
            continuous.append((name, indices))
    return tuple(continuous), tuple(categoricals)


@lru_cache(maxsize=64)
def _summands(groups: tuple[Group, ...], kinds: Kinds, device: torch.device) -> tuple[Continuous, Tensor]:
    """What the log-density of a group is a sum over: the V variables that are independent, and n sets of others.

    Returns:
        Those sets, each of one site; and which of the V + n are in each group, 1 or 0, [G, V + n].
    """
    free = {name for name, _, discrete, independent in kinds if discrete or independent}
    apart: list[tuple[str, tuple[int, ...]]] = [
        (name, (index,)) for name, count, *_ in kinds if name in free for index in range(count)
    ]
    place = {each: number for number, each in enumerate(apart)}
    rows, columns = [], []
    for row, group in enumerate(groups):
        continuous, categoricals = members(group, kinds)
        inside: list[tuple[str, tuple[int, ...]]] = [(name, (index,)) for name, index in categoricals]
        for name, indices in continuous:
            inside += [(name, (index,)) for index in indices] if name in free else [(name, indices)]
        rows += [row] * len(inside)
        columns += [place.setdefault(each, len(place)) for each in inside]
    counts = torch.zeros(len(groups), len(place), dtype=torch.float32, device=device)
    counts[rows, columns] = 1.0
    return tuple(place)[len(apart) :], counts
