"""What messengers that act on partners have in common: which blocks of a site are shared, and by which data."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from pyro.poutine.util import site_is_subsample

from pyro_hfvae.blocks import Layout
from pyro_hfvae.poutine.arguments import ArrayLike, as_partner_masks
from pyro_hfvae.poutine.block_masks import blocks_at
from pyro_hfvae.poutine.named_messenger import NamedMessenger
from pyro_hfvae.sites import Site, read_site

__all__ = ["PartnerMessenger"]


class PartnerMessenger(NamedMessenger):
    """Acts on the sites of a guide that have variables of the named blocks.

    Args:
        masks: block name to booleans, True where a datum shares the block with its partner, [B].
        partners: for each datum the place of its partner in the batch, [B], integers.
        blocks: which variables form which block, as of :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: shapes that do not fit, a partner outside the batch, or a mask for what is no block.
    """

    def __init__(self, masks: Mapping[str, ArrayLike], partners: ArrayLike, blocks: Layout | None = None) -> None:
        super().__init__(masks)
        self.masks, self.partners = as_partner_masks(masks, partners, blocks)
        self.blocks = blocks

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["done"] or msg["value"] is not None:
            return
        site = read_site(msg["name"], msg["fn"])
        here = blocks_at(site, self.masks, self.blocks)
        self._sampled.update(here)
        if not here:
            return
        batch = site.fn.batch_shape
        if not batch or batch[-1] != len(self.partners):
            raise ValueError(
                f"there are {len(self.partners)} partners, but site '{site.name}' has the batch shape {tuple(batch)}"
            )
        self._act(msg, site, here)

    @abstractmethod
    def _act(self, msg: Any, site: Site, here: Mapping[str, list[int]]) -> None:
        """Acts on a site.

        Args:
            msg: Pyro's message of it.
            site: read from it.
            here: block name to the variables of the site that it has, for those that it has some of.
        """
