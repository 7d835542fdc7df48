"""Robustness to wrong pairs: those that the model explains worst are left out of a step."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

from pyro_hfvae.poutine.arguments import ArrayLike, as_masks, as_partners

__all__ = ["TrimMessenger", "trim"]


class TrimMessenger(Messenger):
    r"""Leaves the worst explained pairs of each mask out of the likelihood, a given share of them.

    .. math:: \log p(x_b | z) + \log p(x_{\pi(b)} | z) \;\text{ among the } \lfloor f P \rfloor
        \text{ smallest of the P pairs of a mask:}\quad \log p(x_b | z), \log p(x_{\pi(b)} | z) \to 0

    The likelihood of least trimmed squares (Rousseeuw, Least Median of Squares Regression, JASA 1984), block by block.
    Data that swap a block with a partner that does not share its factor are explained badly once the block holds
    anything of it. Trimmed, they no longer teach the decoder to look for the factor in another block. The share is to
    be about the rate of wrong pairs, rather more than less.

    Right pairs that are hard to explain go first until a block holds its factor. That does no harm to one that changes
    the whole image, as a pose does. It does to one that few data have: the rare wide-open mouth is what a block of
    expressions would start from, and a pair of them is explained worst until it does. Leave such blocks out, by giving
    shares by name.

        >>> x = torch.tensor([0.1, 0.0, 4.0, 0.2])
        >>> def model():
        ...     with pyro.plate("data", 4):
        ...         pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
        >>> shares_pose = torch.tensor([True, True, True, True])
        >>> with trim({"pose": shares_pose}, partners=torch.tensor([1, 0, 3, 2]), share=0.5):
        ...     trace = pyro.poutine.trace(model).get_trace()
        >>> trace.nodes["x"]["mask"].tolist()
        [True, True, False, False]

    Acts on observed sites that are sampled inside it, the model's, each by itself; posteriors keep their divergences.

    Args:
        masks: name to booleans, True where the datum and its partner are a pair of that kind, [B].
        partners: for each datum the place of its partner in the batch, whose partner it is, [B], integers.
        share: f, the part of the pairs of each mask that is left out, from 0 to below 1; by the name of the mask, none
            is left out of the others.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: shapes that do not fit, a share out of range or for what is no mask, or partners that are not each
            other's; at an observed site, a batch of another size.
    """

    def __init__(self, masks: Mapping[str, ArrayLike], partners: ArrayLike, share: float | Mapping[str, float]) -> None:
        super().__init__()
        shares = share if isinstance(share, Mapping) else dict.fromkeys(masks, share)
        for value in shares.values():
            if not 0 <= value < 1:
                raise ValueError(f"the share of pairs to be left out must be from 0 to below 1, got {value}")
        if unknown := [name for name in shares if name not in masks]:
            raise ValueError(f"there is a share for '{unknown[0]}', but no such mask; those are: {', '.join(masks)}")
        found = as_masks(masks, None)
        self.partners = as_partners(partners)
        places = torch.arange(len(self.partners), device=self.partners.device)
        first = places < self.partners
        if not self.partners[self.partners].equal(places):
            raise ValueError("partners must be each other's: the partner of a datum's partner is the datum")
        for name, mask in found.items():
            if mask.shape != self.partners.shape:
                raise ValueError(
                    f"the mask of '{name}' has the shape {tuple(mask.shape)}, but there are {len(self.partners)} "
                    "partners"
                )
        # One place for each pair, that of its first member; who has no partner is no pair.
        pairs = {name: (found[name].to(first.device) & first).nonzero().squeeze(1) for name in shares}
        self.trimmed = [(pair, count) for name, pair in pairs.items() if (count := int(shares[name] * len(pair)))]

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] or not self.trimmed:
            return
        with torch.no_grad():
            explained = msg["fn"].log_prob(msg["value"])  # [..., B]
        if explained.shape[-1:] != self.partners.shape:
            raise ValueError(
                f"there are {len(self.partners)} partners, but site '{msg['name']}' has the batch shape "
                f"{tuple(explained.shape)}"
            )
        explained = explained.reshape(-1, len(self.partners)).mean(0).to(self.partners.device)  # [B], over particles
        kept = torch.ones_like(self.partners, dtype=torch.bool)
        for first, count in self.trimmed:
            worst = first[(explained[first] + explained[self.partners[first]]).argsort()[:count]]
            kept[worst] = kept[self.partners[worst]] = False
        kept = kept.to(msg["value"].device)
        msg["mask"] = kept if msg["mask"] is None else msg["mask"] & kept


def trim(masks: Mapping[str, ArrayLike], partners: ArrayLike, share: float | Mapping[str, float]) -> TrimMessenger:
    """Handler of :class:`TrimMessenger`: ``with trim({"pose": shares_pose}, partners, share=0.3): …``.

    Args:
        masks: name to boolean mask.
        partners: for each datum the place of its partner in the batch.
        share: of the pairs of each mask that is left out, one for all or by name.
    """
    return TrimMessenger(masks, partners, share)
