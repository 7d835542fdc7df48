"""Batches of pairs: a function of the batch's number and the seed, so that a run can be resumed without replaying."""

from collections.abc import Iterator, Sequence
from operator import index
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from pyro_hfvae.batch import Arguments, Inputs, as_batch
from pyro_hfvae.data.batches import IndexBatches, generator_of
from pyro_hfvae.data.integers import Integers, as_integers
from pyro_hfvae.weak.pairing import Pairing

__all__ = ["PairBatch", "PairBatches", "PairSampler", "Pairs"]

_OF_PAIRS = 1
"""Separates the random stream of a batch's pairs from that of an epoch's shuffle."""


class Pairs(NamedTuple):
    """Pairs of data by index, and the gates that they open."""

    inputs: Tensor
    """Indices of x, int64, [B]."""
    targets: Tensor
    """Indices of the data that x is to be decoded to, int64, [B]."""
    gates: dict[str, Tensor]
    """Block name to whether it may learn from each pair, bool, [B]."""
    shared: dict[str, Tensor]
    """Block name to whether the pair was made to share its factor, bool, [B]."""


class PairBatch(NamedTuple):
    """The pairs themselves, as programs take them."""

    data: Inputs
    """What the guide reads, and the covariates that the model reads too, [B, ...]."""
    target: Tensor
    """What the model is to explain, [B, ...]."""
    gates: dict[str, Tensor]
    """Block name to whether it may learn from each pair, bool, [B]."""

    @property
    def arguments(self) -> Arguments:
        """What programs get by position, x and its target, and by name."""
        batch = as_batch(self.data)
        return (batch.x, self.target), batch.others


class PairSampler:
    """Gives each datum of a batch a mode and a target.

    A datum that nobody is known to share the factor of its mode with (the only one of its group, one without a label
    or without a listed pair) is paired with itself as an identity pair, with its gates: x is the one target that is
    known to share everything with x. So the share of identity pairs is larger than asked for by that much.

    Args:
        pairing: how pairs are drawn.
        indices: of the training data, int64, [N].
        factors: their known factors, int64, [N, F].
        factor_names: names of the F factors.
        seed: of modes, targets and wrong pairs.
        size: number of the data of the whole set, those that are held out too, of which labels of groups name each; by
            default no datum comes after the last of ``indices``.

    Raises:
        ValueError: the sharing of a block does not fit the data, has no pair among them, or leaves nobody that a wrong
            pair could be made with; names the block.
    """

    def __init__(
        self,
        pairing: Pairing,
        indices: Integers,
        factors: Integers,
        factor_names: Sequence[str],
        seed: int,
        size: int | None = None,
    ) -> None:
        indices, factors = as_integers("indices", indices, "[N]"), as_integers("factors", factors, "[N, F]")
        self.pairing = pairing
        self.seed = index(seed)
        self.indices, order = indices.sort()
        self.partners = {}
        for name, sharing in pairing.sharing.items():
            try:
                partners = sharing.partners(self.indices, factors[order], factor_names, size)
            except ValueError as error:
                raise ValueError(f"pairs.blocks of block '{name}': {error}") from error
            if not partners.has_partner.any():
                raise ValueError(f"pairs.blocks of block '{name}': no two of the training data share its factor")
            if pairing.wrong and not partners.others[partners.has_partner].all():
                raise ValueError(
                    f"pairs.wrong is {pairing.wrong}, but there is nothing to make a wrong pair of block '{name}' "
                    "with: some data share its factor with all others"
                )
            self.partners[name] = partners

    def pairs(self, inputs: Integers, step: int) -> Pairs:
        """The pairs of one batch, which follow from it, the seed and ``step`` alone.

        Args:
            inputs: indices of x, among the training data, int64, [B].
            step: number of the batch, from 0.
        """
        inputs, step = as_integers("inputs", inputs, "[B]"), index(step)
        generator = generator_of(self.seed, step, _OF_PAIRS)
        size = len(inputs)
        rates = torch.tensor(self.pairing.rates(step), dtype=torch.float64)
        modes = rates.multinomial(size if self.pairing.mixed else 1, replacement=True, generator=generator)
        modes = modes.expand(size)  # [B]; 0 is identity
        wrong, uniform = torch.rand(2, size, dtype=torch.float64, generator=generator)
        data = torch.searchsorted(self.indices, inputs)
        targets, identity = inputs.clone(), torch.ones(size, dtype=torch.bool)
        shared_by = {}
        for mode, (name, partners) in enumerate(self.partners.items(), start=1):
            chosen = (modes == mode) & partners.has_partner[data]
            shared = chosen.nonzero().squeeze(1)
            targets[shared] = self.indices[partners.sharing(data[shared], uniform[shared])]
            if self.pairing.wrong:
                noisy = (chosen & (wrong < self.pairing.wrong)).nonzero().squeeze(1)
                targets[noisy] = self.indices[partners.differing(data[noisy], uniform[noisy])]
            identity &= ~chosen
            shared_by[name] = chosen
        everybody, nobody = torch.ones_like(identity), torch.zeros_like(identity)
        if not self.pairing.gated_at(step):
            return Pairs(inputs, targets, dict.fromkeys(self.pairing.blocks, everybody), shared_by)
        opened = self.pairing.opened_by_identity
        gates = {
            name: shared_by.get(name, nobody) | (identity if name in opened else nobody) for name in self.pairing.blocks
        }
        return Pairs(inputs, targets, gates, shared_by)


class PairBatches(Sampler[Pairs]):
    """Endless batches of pairs; every datum is an input once an epoch.

    Args:
        batches: of the inputs.
        sampler: gives them targets.
    """

    def __init__(self, batches: IndexBatches, sampler: PairSampler) -> None:
        self.batches = batches
        self.sampler = sampler

    def __iter__(self) -> Iterator[Pairs]:
        for step, inputs in enumerate(self.batches, self.batches.start):
            yield self.sampler.pairs(inputs, step)
