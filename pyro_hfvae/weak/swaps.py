"""Pairs whose two data swap the block that they share and are explained each by themselves otherwise."""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from pyro_hfvae.batch import AnyBatch, Arguments, Inputs, as_batch
from pyro_hfvae.weak.batches import PairBatch, Pairs

__all__ = ["PartnerBatch", "Swaps", "TrainingBatch", "as_swaps", "places_of_partners"]


class Swaps(NamedTuple):
    """A batch of B data by index, of which partners swap blocks: the arguments of :func:`pyro_hfvae.poutine.swap`."""

    data: Tensor
    """Indices of the data, int64, [B]."""
    gates: dict[str, Tensor]
    """Block name to whether it may learn from each datum, bool, [B]."""
    shared: dict[str, Tensor]
    """Block name to whether each datum takes it from its partner, bool, [B]."""
    partners: Tensor
    """Place of the partner of each datum in the batch, its own if it has none, int64, [B]."""


class PartnerBatch(NamedTuple):
    """The data themselves, as programs take them, some of which are partners that share blocks."""

    data: Inputs
    """What the guide reads and the model is to explain, [B, ...]."""
    gates: dict[str, Tensor]
    """Block name to whether it may learn from each datum, bool, [B]; blocks that are not named may."""
    shared: dict[str, Tensor]
    """Block name to whether each datum shares it with its partner, bool, [B]."""
    partners: Tensor
    """Place of the partner of each datum in the batch, its own if it has none, int64, [B]."""
    swaps: bool = True
    """Whether each datum takes what it shares from its partner."""

    @property
    def arguments(self) -> Arguments:
        """What programs get by position and by name."""
        return as_batch(self.data).arguments


TrainingBatch: TypeAlias = AnyBatch | PairBatch | PartnerBatch
"""Arguments of model and guide; of pairs also the gates that they open and what they share."""


def as_swaps(pairs: Pairs) -> Swaps:
    """Inputs, then the targets that are not their own, in one batch; both data of a pair have its gates.

    Args:
        pairs: B of them, P of which are no identity pairs.

    Returns:
        B + P data.
    """
    paired = (pairs.inputs != pairs.targets).nonzero().squeeze(1)  # [P]
    count = len(pairs.inputs)
    partners = places_of_partners(count, paired)
    gates, shared = (
        {name: torch.cat([mask, mask[paired]]) for name, mask in masks.items()} for masks in (pairs.gates, pairs.shared)
    )
    return Swaps(torch.cat([pairs.inputs, pairs.targets[paired]]), gates, shared, partners)


def places_of_partners(count: int, paired: Tensor) -> Tensor:
    """The place of the partner of each datum, where partners of some data follow on all of these, int64, [B + P].

    Args:
        count: B.
        paired: places of the data that have a partner, int64, [P].
    """
    partners = torch.cat([torch.arange(count), paired])
    partners[paired] = count + torch.arange(len(paired))
    return partners
