"""Masks of data by block, as gates and swaps take them: which variables of a site they concern."""

from collections.abc import Iterable, Mapping

import torch
from torch import Size, Tensor
from torch.distributions import Dirichlet, Distribution, OneHotCategorical, RelaxedOneHotCategorical

from pyro_hfvae.blocks import Layout, block_names, indices_of_site
from pyro_hfvae.distributions import unwrap

__all__ = ["blocks_at", "check_masks", "names_in_words", "variable_mask"]


def check_masks(masks: Mapping[str, Tensor], blocks: Layout | None) -> None:
    """Refuses masks that are not boolean, or not of a block.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: a mask for what is no block.
    """
    for name, mask in masks.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"the mask of block '{name}' must be a boolean tensor, got {got}")
    if blocks is not None and (unknown := [name for name in masks if name not in block_names(blocks)]):
        raise ValueError(
            f"there is a mask for '{unknown[0]}', which is no block; the blocks are: "
            f"{names_in_words(block_names(blocks))}"
        )


def blocks_at(site: str, fn: Distribution, names: Iterable[str], blocks: Layout | None) -> dict[str, list[int]]:
    """Which variables of a site each of the named blocks has; those that have none are left out.

    Args:
        site: its name.
        fn: its distribution.
        names: of blocks; without a layout, of sites.
        blocks: the layout, or None.
    """
    shape = _variables(fn)
    indices = {site: list(range(shape.numel()))} if blocks is None else indices_of_site(blocks, site, shape)
    return {name: indices[name] for name in names if indices.get(name)}


def variable_mask(fn: Distribution, here: Mapping[str, list[int]], masks: Mapping[str, Tensor]) -> Tensor:
    """Where all masks of the blocks that a variable is in are True; True where it is in none.

    Args:
        fn: the distribution of the site.
        here: from :func:`blocks_at`.
        masks: of these blocks, [B], or [S, B].

    Returns:
        [*batch, *event], of size 1 along event dimensions that share a mask.
    """
    variables, batch = _variables(fn), fn.batch_shape
    count = variables.numel()
    whole = all(len(indices) == count for indices in here.values())
    mask = torch.ones(*batch, 1 if whole else count, dtype=torch.bool, device=masks[next(iter(here))].device)
    for name, indices in here.items():
        mask[..., [0] if whole else indices] &= masks[name][..., None]  # [*batch, V]
    coordinates = len(fn.event_shape) - len(variables)  # of one variable: 1 for a simplex
    return mask.reshape(*batch, *((1,) * len(fn.event_shape) if whole else (*variables, *(1,) * coordinates)))


def names_in_words(names: Iterable[str]) -> str:
    """The names in quotes, for messages."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def _variables(fn: Distribution) -> Size:
    """The event shape without the K coordinates that one variable on a simplex has."""
    simplex = isinstance(unwrap(fn), OneHotCategorical | RelaxedOneHotCategorical | Dirichlet)
    return fn.event_shape[:-1] if simplex else fn.event_shape
