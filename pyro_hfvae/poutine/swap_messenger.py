"""Posteriors that data swap: a datum is explained with what its partner shows of the block that they share."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.notes import note_own
from pyro_hfvae.poutine.arguments import ArrayLike
from pyro_hfvae.poutine.block_masks import along_event, variable_mask
from pyro_hfvae.poutine.partner_messenger import PartnerMessenger
from pyro_hfvae.sites import Site, describe

__all__ = ["SwapMessenger", "swap"]


class SwapMessenger(PartnerMessenger):
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

    In a guide whose sites depend on one another, q(y|x) q(z|x, y), z is computed from the sample that came from the
    posterior of the same x: the program gets what it samples at y back in the place that it came from. So partners that
    swap both y and z each take the other's q(y|x) q(z|x, y) as a whole. Of sites that depend on one another swap all:
    z alone is z of the partner, given the partner's sample of y.

    Every site whose parameters can be taken out and put back can be swapped
    (:meth:`pyro_hfvae.sites.Site.parameters`), and some of its variables where they are independent of the others.

    Args:
        masks: block name to booleans, True where the datum takes its partner's posterior, [B].
        partners: for each datum the place of its partner in the batch, [B], integers.
        blocks: which variables form which block, as of :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: shapes that do not fit, a partner outside the batch, or a mask for what is no block; on leaving, one
            for what was not sampled.
        NotImplementedError: a site whose parameters cannot be taken out, or some variables of a site that depend on
            its others; names it.
    """

    def _not_sampled(self, name: str) -> str:
        return f"there is a mask for '{name}', but no such block was sampled inside the swap"

    def _act(self, msg: Any, site: Site, here: Mapping[str, list[int]]) -> None:
        note_own(msg, msg["fn"])
        swapped = ~variable_mask(site, here, {block: ~mask for block, mask in self.masks.items()})  # [*batch, V or 1]
        msg["fn"] = self._swapped(site, swapped)
        self._give_back(msg, site, swapped)

    def _swapped(self, site: Site, swapped: Tensor) -> Any:
        """The distribution with the partners' parameters where ``swapped``, [*batch, V] or [*batch, 1], is True."""
        batch = site.fn.batch_shape
        if swapped.shape[-1] > 1 and not site.independent:
            raise NotImplementedError(
                f"site '{site.name}' is {describe(site.fn)}, whose variables depend on one another, and only all of "
                "them can be swapped together"
            )
        try:
            own = site.parameters()
        except NotImplementedError as error:
            raise NotImplementedError(f"site '{site.name}' cannot be swapped: {error}") from None
        dim = len(batch) - 1

        def exchanged(parameter: Tensor) -> Tensor:
            others = parameter.index_select(dim, self.partners.to(parameter.device))
            return torch.where(_aligned(swapped, parameter, site).to(parameter.device), others, parameter)

        return site.with_parameters([exchanged(parameter) for parameter in own], batch)

    def _give_back(self, msg: Any, site: Site, swapped: Tensor) -> None:
        """Gives the program each sample in the place whose posterior it came from, once all handlers have seen it."""
        partners, chosen = self.partners.cpu(), swapped.reshape(len(self.partners), -1).cpu()  # [B] and [B, V or 1]
        own = torch.arange(len(chosen))[:, None].expand_as(chosen)
        datum, variable = chosen.nonzero(as_tuple=True)
        places = own.clone()
        places[partners[datum], variable] = datum
        places = along_event(torch.where(chosen, places, own), site)  # [B, *event]
        earlier, event = msg["continuation"], len(site.fn.event_shape)

        def give_back(msg: Any) -> None:
            if earlier is not None:
                earlier(msg)
            value = msg["value"]
            msg["value"] = value.gather(value.dim() - event - 1, places.to(value.device).expand(value.shape))

        msg["continuation"] = give_back


def _aligned(mask: Tensor, parameter: Tensor, site: Site) -> Tensor:
    """A mask [*batch, V], or [*batch, 1], with the dimensions of a parameter, [*batch, V or *cells, ...]."""
    batch, variables = mask.shape[:-1], mask.shape[-1]
    after = parameter.shape[len(batch) :]
    if variables == 1:
        return mask.reshape(batch + (1,) * len(after))
    shape = after[:1] if after[:1] == (variables,) else site.fine
    return mask.reshape(batch + shape + (1,) * (len(after) - len(shape)))


def swap(masks: Mapping[str, ArrayLike], partners: ArrayLike, blocks: Layout | None = None) -> SwapMessenger:
    """Handler of :class:`SwapMessenger`: ``with swap({"pose": shares_pose}, partners): …``, or a decorator of a guide.

    Args:
        masks: block name to boolean mask.
        partners: for each datum the place of its partner in the batch.
        blocks: as of :class:`SwapMessenger`.
    """
    return SwapMessenger(masks, partners, blocks)
