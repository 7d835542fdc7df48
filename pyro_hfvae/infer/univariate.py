"""Densities of all univariate sites of a batch side by side, so that those of a group are some of the columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from pyro_hfvae.infer.groups import Continuous
from pyro_hfvae.infer.pair_densities import Product, expand, slice_of
from pyro_hfvae.infer.references import Sites
from pyro_hfvae.sites import Univariate

__all__ = ["UnivariateSites"]


@dataclass(frozen=True)
class UnivariateSites:
    """Of V unmerged variables in the order of their sites; in 3 rows two features and a 1, or g and the constant."""

    first: Mapping[str, int]
    """The first column of each site."""
    grain: Mapping[str, int]
    """How many columns a variable of the site has."""
    features: Tensor
    """f, [S, B, 3, V]."""
    base: Tensor
    """h, [S, B, V]."""
    own: Tensor
    """log-densities at the own datum, by differences, [S, B, V]."""
    parameters: Tensor
    """g of the references, [S, M, 3, V]."""
    bank: Tensor | None
    """g of the bank, [M', 3, V]."""

    @staticmethod
    def of(sites: Sites, parts: Sequence[Sites], bank: Sites, shape: Size) -> "UnivariateSites | None":
        """Those among some sites.

        Args:
            sites: at the samples.
            parts: the references, in one piece or more.
            bank: further references; empty where there is no bank.
            shape: S, B.
        """
        found = {name: site for name, site in sites.items() if isinstance(site, Univariate)}
        found = {name: site for name, site in found.items() if all(type(part[name]) is type(site) for part in parts)}
        if not found:
            return None
        first, count = {}, 0
        for name, site in found.items():
            first[name] = count
            count += site.fine.numel()
        products = [site.features_of_each for site in found.values()]
        every = Size([shape[0], -1])
        references = [
            torch.cat([expand(_coefficients(part, name), every, 2) for part in parts], 1) for name in found
        ]  # [S, M, 3, V] each
        return UnivariateSites(
            first=first,
            grain={name: site.grain for name, site in found.items()},
            features=torch.cat([expand(f, shape, 2) for f, _ in products], -1),
            base=torch.cat([expand(h, shape, 1) for _, h in products], -1),
            own=torch.cat([expand(site.densities.movedim(0, -1), shape, 1) for site in found.values()], -1),
            parameters=torch.cat(references, -1),
            bank=torch.cat([_coefficients(bank, name) for name in found], -1) if bank else None,
        )

    def log_density(self, which: Continuous) -> Tensor:
        """The joint log-density of some variables at the own datum, [S, B, 1]."""
        return self.own[..., self.columns(which)].sum(-1, keepdim=True)

    def product(self, which: Continuous) -> Product:
        """The joint log-density of some variables for all pairs."""
        some = self.columns(which)
        g, bank = self.parameters[..., some], None if self.bank is None else self.bank[..., some]
        return Product(
            features=self.features[..., :-1, some].flatten(-2),
            base=self.base[..., some].sum(-1, keepdim=True),
            parameters=g[..., :-1, :].flatten(-2),
            constant=g[..., -1, :].sum(-1, keepdim=True),
            bank=None if bank is None else bank[:, :-1].flatten(-2).mT,
            constant_of_bank=None if bank is None else bank[:, -1].sum(-1),
        )

    def columns(self, continuous: Continuous) -> slice | list[int]:
        """The columns of some variables of these sites."""
        found = []
        for name, indices in continuous:
            grain = self.grain[name]
            found += [self.first[name] + index * grain + inner for index in indices for inner in range(grain)]
        return slice_of(found)


def _coefficients(sites: Sites, name: str) -> Tensor:
    site = sites[name]
    assert isinstance(site, Univariate)
    return site.coefficients_of_each
