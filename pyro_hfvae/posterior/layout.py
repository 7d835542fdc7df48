"""Latent values as arrays named by block and variable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import one_hot

from pyro_hfvae.blocks import Layout, resolve_blocks
from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import latent_sites
from pyro_hfvae.sites import DiscreteSite, read_site

__all__ = ["LatentArray", "LatentArrays", "read_arrays"]


@dataclass(frozen=True)
class LatentArray:
    """Which variables of one site an array holds."""

    name: str
    """The block's name; or block.site where the block has variables of more than one site."""
    block: str
    site: str
    indices: tuple[int, ...]
    """Of the V variables of the site."""
    variables: tuple[str, ...]
    """Their names."""
    categories: int | None
    """K, where each variable is a vector of K: one-hot, relaxed one-hot or on the simplex. None for scalars."""
    one_hot: bool
    """Whether the K numbers stand for a category, which a point of a Dirichlet does not."""

    @property
    def dims(self) -> list[str]:
        """Names of the dimensions after that of the draws."""
        return ["data", f"{self.name}_variable", *([f"{self.name}_category"] if self.categories else [])]

    @property
    def coords(self) -> dict[str, Sequence[str | int]]:
        """The coordinates of the dimensions."""
        named: dict[str, Sequence[str | int]] = {f"{self.name}_variable": list(self.variables)}
        return named | ({f"{self.name}_category": list(range(self.categories))} if self.categories else {})


@dataclass(frozen=True)
class LatentArrays:
    """The arrays of all blocks, and how to read them off the values of sites."""

    arrays: tuple[LatentArray, ...]
    _sites: Mapping[str, tuple[tuple[int, ...], int | None, bool]]

    def read(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Array name to values, [B, V] or [B, V, K], from site name to value, [B, ...]."""
        return {array.name: self._site(array.site, values)[:, list(array.indices)] for array in self.arrays}

    def blocks(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Block name to all its numbers, [B, C]."""
        parts: dict[str, list[Tensor]] = {}
        for array, value in zip(self.arrays, self.read(values).values(), strict=True):
            parts.setdefault(array.block, []).append(value.flatten(1).double())
        return {block: torch.cat(columns, 1) for block, columns in parts.items()}

    def _site(self, site: str, values: Mapping[str, Tensor]) -> Tensor:
        shape, categories, integer = self._sites[site]
        value = values[site]
        if integer:
            assert categories is not None
            value = one_hot(value.long(), categories)
        return value.reshape(-1, math.prod(shape), *([categories] if categories else []))


def read_arrays(trace: Trace, blocks: Layout | None = None) -> LatentArrays:
    """Which arrays hold the latents of a program.

    A site of real vectors has a variable for each element, in C order; a site of one-hot vectors, relaxed or not, or
    of points on a simplex one for each vector of K; a categorical of integers is written as one-hot vectors.

    Args:
        trace: of the guide.
        blocks: the layout, as for the objective; each site by default.

    Raises:
        ValueError: as for the layout; names block and site.
    """
    sites = {name: _shape(site["fn"]) for name, site in latent_sites(trace).items()}
    root = resolve_blocks(blocks, {name: shape for name, (shape, _, _) in sites.items()})
    arrays = []
    for block, variables in root.blocks.items():
        by_site: dict[str, list[Any]] = {}
        for variable in variables:
            by_site.setdefault(variable.site, []).append(variable)
        for site, members in by_site.items():
            arrays.append(
                LatentArray(
                    name=block if len(by_site) == 1 else f"{block}.{site}",
                    block=block,
                    site=site,
                    indices=tuple(variable.index for variable in members),
                    variables=tuple(variable.name for variable in members),
                    categories=sites[site][1],
                    one_hot=read_site(site, cast(Distribution, trace.nodes[site]["fn"])).discrete,
                )
            )
    for array in arrays:
        if "/" in array.block:
            raise ValueError(f"block '{array.block}' has a '/' in its name, which parts groups in a netCDF file")
    return LatentArrays(tuple(arrays), sites)


def _shape(fn: Distribution) -> tuple[tuple[int, ...], int | None, bool]:
    """Shape of the variables of a site, length of each where it is a vector, and whether categories are integers."""
    site, event = read_site("", fn), fn.event_shape
    if isinstance(site, DiscreteSite) and not site.binary:
        return site.fine, site.categories, site.fine == event
    if unwrap(fn).support in (constraints.simplex, constraints.one_hot):
        return event[:-1], event[-1], False
    return event, None, False
