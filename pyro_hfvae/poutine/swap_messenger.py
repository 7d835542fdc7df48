"""Posteriors that data swap: a datum is explained with what its partner shows of the block that they share."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution

from pyro_hfvae.blocks import Layout
from pyro_hfvae.poutine.block_masks import blocks_at, check_masks, variable_mask
from pyro_hfvae.poutine.met_messenger import MetMessenger
from pyro_hfvae.poutine.posterior_parameters import posterior_parameters, with_parameters

__all__ = ["SwapMessenger", "swap"]


class SwapMessenger(MetMessenger):
    r"""Gives chosen data the posterior of their partner in chosen blocks, and leaves them their own in all others.

    .. math:: q(z_d | x_b) \leftarrow q(z_d | x_{\pi(b)}) \quad\text{for each datum b that is chosen in block d}

    If x and its partner share what the block stands for and nothing else is known, the model then has to explain x with
    that from the partner and with everything else from x itself: nothing is missing, and what the block holds beside
    the shared factor misleads. Swapping is how Mathieu et al., Disentangling Factors of Variation in Deep
    Representations Using Adversarial Training (NeurIPS 2016), train on pairs with the same label.

        >>> loc = torch.tensor([0.0, 3.0, 5.0])
        >>> def guide():
        ...     with pyro.plate("data", 3):
        ...         pyro.sample("pose", dist.Normal(loc, 1.0))
        >>> share_pose = torch.tensor([True, True, False])
        >>> with swap({"pose": share_pose}, partners=torch.tensor([1, 0, 2])):
        ...     fn = pyro.poutine.trace(guide).get_trace().nodes["pose"]["fn"]
        >>> fn.loc.tolist()
        [3.0, 0.0, 5.0]

    Acts on sites that are sampled inside it, the guide's. Combine it with a gate, in any order: a gate is open or
    closed for the datum that is explained. Where partners swap both ways a block's posteriors in the batch are the same
    as before, in another order.

    Args:
        masks: block name to a boolean tensor, True where the datum takes its partner's posterior, [B].
        partners: for each datum the place of its partner in the batch, [B], integers.
        blocks: which variables form which block, as of :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: shapes that do not fit, a partner outside the batch, or a mask for what is no block; on leaving, one
            for what was not sampled.
        NotImplementedError: a site that is neither normal nor categorical; names it.
    """

    def __init__(self, masks: Mapping[str, Tensor], partners: Tensor, blocks: Layout | None = None) -> None:
        super().__init__(masks)
        if partners.dim() != 1 or partners.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                f"partners must be integers of shape (B,), got {partners.dtype} of shape {tuple(partners.shape)}"
            )
        count = len(partners)
        if count and not 0 <= int(partners.min()) <= int(partners.max()) < count:
            raise ValueError(
                f"partners must be from 0 to {count - 1}, their places in the batch; got {partners.tolist()}"
            )
        check_masks(masks, blocks)
        for name, mask in masks.items():
            if mask.shape != partners.shape:
                raise ValueError(
                    f"the mask of block '{name}' has the shape {tuple(mask.shape)}, but there are {count} partners"
                )
        self.masks = dict(masks)
        self.partners = partners
        self.blocks = blocks

    def _unmet(self, name: str) -> str:
        return f"there is a mask for '{name}', but no such block was sampled inside the swap"

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["done"] or msg["value"] is not None:
            return
        here = blocks_at(msg["name"], msg["fn"], self.masks, self.blocks)
        self._met.update(here)
        if here:
            msg["fn"] = self._swapped(msg["name"], msg["fn"], here)

    def _swapped(self, name: str, fn: Any, here: Mapping[str, list[int]]) -> Distribution:
        """The site's distribution with the parameters of partners; ``here`` are its variables in each block."""
        batch = fn.batch_shape
        if not batch or batch[-1] != len(self.partners):
            raise ValueError(
                f"there are {len(self.partners)} partners, but site '{name}' has the batch shape {tuple(batch)}"
            )
        parameters = posterior_parameters(name, fn)  # each [*batch, *event]
        own = variable_mask(fn, here, {block: ~mask for block, mask in self.masks.items()})
        swapped = [torch.where(own, part, part.index_select(len(batch) - 1, self.partners)) for part in parameters]
        return with_parameters(fn, swapped)


def swap(masks: Mapping[str, Tensor], partners: Tensor, blocks: Layout | None = None) -> SwapMessenger:
    """Handler of :class:`SwapMessenger`: ``with swap({"pose": shares_pose}, partners): …``, or a decorator of a guide.

    Args:
        masks: block name to boolean mask.
        partners: for each datum the place of its partner in the batch.
        blocks: as of :class:`SwapMessenger`.
    """
    return SwapMessenger(masks, partners, blocks)
