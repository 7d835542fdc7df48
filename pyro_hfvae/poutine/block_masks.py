"""Masks of data by block, as gates and swaps take them: which variables of a site they concern."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pyro_hfvae.blocks import Layout, indices_of_site
from pyro_hfvae.sites import Site

__all__ = ["along_event", "blocks_at", "variable_mask"]


def blocks_at(site: Site, names: Iterable[str], blocks: Layout | None) -> dict[str, list[int]]:
    """Which variables of a site each of the named blocks has; those that have none are left out.

    Args:
        site: as :func:`pyro_hfvae.sites.read_site` gives it.
        names: of blocks; without a layout, of sites.
        blocks: the layout, or None.
    """
    indices = {site.name: list(range(site.variables))}
    if blocks is not None:
        indices = indices_of_site(blocks, site.name, site.fine)
    return {name: indices[name] for name in names if indices.get(name)}


def variable_mask(site: Site, here: Mapping[str, list[int]], masks: Mapping[str, Tensor]) -> Tensor:
    """Where all masks of the blocks that a variable is in are True; True where it is in none.

    Args:
        site: as :func:`pyro_hfvae.sites.read_site` gives it.
        here: from :func:`blocks_at`.
        masks: of these blocks, [B], or [S, B].

    Returns:
        [*batch, V], of size 1 along batch dimensions that no mask has; [*batch, 1] if the variables share a mask.
    """
    batch = torch.broadcast_shapes(*(masks[name].shape for name in here))
    whole = all(len(indices) == site.variables for indices in here.values())
    mask = torch.ones(*batch, 1 if whole else site.variables, dtype=torch.bool, device=masks[next(iter(here))].device)
    for name, indices in here.items():
        mask[..., [0] if whole else indices] &= masks[name][..., None].to(mask.device)
    return mask.reshape((1,) * (len(site.fn.batch_shape) - len(batch)) + mask.shape)


def along_event(mask: Tensor, site: Site) -> Tensor:
    """A mask [*batch, V], or [*batch, 1], with the dimensions of the event in the place of V."""
    event = len(site.fn.event_shape)
    shape = (1,) * event if mask.shape[-1] == 1 else (*site.fine, *(1,) * (event - len(site.fine)))
    return mask.reshape(mask.shape[:-1] + shape)
