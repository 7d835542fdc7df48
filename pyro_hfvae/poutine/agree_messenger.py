"""Partners whose posteriors of the block that they share are to agree: what the penalty Agreement charges."""

from collections.abc import Mapping
from typing import Any

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.notes import Partners, note_partners
from pyro_hfvae.poutine.arguments import ArrayLike
from pyro_hfvae.poutine.partner_messenger import PartnerMessenger
from pyro_hfvae.sites import Site

__all__ = ["AgreeMessenger", "agree"]


class AgreeMessenger(PartnerMessenger):
    r"""Marks which data of a batch are partners and which blocks they share; nothing that is computed changes.

    The penalty :class:`~pyro_hfvae.infer.penalties.Agreement` of an objective that is called inside it charges the
    divergence between the posteriors of partners in these blocks:

        >>> loc = torch.tensor([0.0, 2.0, 5.0])
        >>> def guide():
        ...     with pyro.plate("data", 3):
        ...         pyro.sample("digit", dist.Normal(loc, 1.0))
        >>> def model():
        ...     with pyro.plate("data", 3):
        ...         z = pyro.sample("digit", dist.Normal(torch.zeros(3), 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=loc)
        >>> objective = HierarchicalELBO(3, penalties={"agreement": Agreement(weight=10.0)})
        >>> share_digit = torch.tensor([True, True, False])
        >>> with agree({"digit": share_digit}, partners=torch.tensor([1, 0, 2])):
        ...     terms = objective.terms(model, guide)
        >>> round(float(terms.penalties["agreement"]), 4)  # of two of three data, (2 - 0)² / 2 each
        1.3333

    Acts on sites that are sampled inside it, the guide's. Combine it with :class:`~pyro_hfvae.poutine.gate` and
    :class:`~pyro_hfvae.poutine.swap` in any order: data whose gate is closed are not charged, and of swapped blocks
    the posteriors before the swap are compared.

    Args:
        masks: block name to booleans, True where a datum shares the block with its partner, [B].
        partners: for each datum the place of its partner in the batch, [B], integers.
        blocks: which variables form which block, as of :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: shapes that do not fit, a partner outside the batch, or a mask for what is no block; on leaving, one
            for what was not sampled.
    """

    def _not_sampled(self, name: str) -> str:
        return f"data share '{name}' with their partners, but no such block was sampled"

    def _act(self, msg: Any, site: Site, here: Mapping[str, list[int]]) -> None:
        note_partners(msg, Partners(self.partners, {name: self.masks[name] for name in here}, dict(here)))


def agree(masks: Mapping[str, ArrayLike], partners: ArrayLike, blocks: Layout | None = None) -> AgreeMessenger:
    """Handler of :class:`AgreeMessenger`: ``with agree({"digit": shares_digit}, partners): …``.

    Args:
        masks: block name to boolean mask.
        partners: for each datum the place of its partner in the batch.
        blocks: as of :class:`AgreeMessenger`.
    """
    return AgreeMessenger(masks, partners, blocks)
