"""Endless batches of indices: the batch at step t follows from the seed and t alone, so that a run can be resumed."""

import math
from collections.abc import Iterator
from operator import index

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from pyro_hfvae.data.integers import Integers, as_integers

__all__ = ["IndexBatches"]


class IndexBatches(Sampler[Tensor]):
    """Shuffled batches, epoch after epoch, without end; the last of an epoch may be smaller.

    A single left-over datum joins the batch before it, since a batch of one has no inference marginal.

    Args:
        indices: what to draw from, [N].
        batch_size: B, from 2 to N.
        seed: of the shuffles.
        start: number of batches to skip.

    Raises:
        ValueError: the batch size is below 2 or above N.
    """

    def __init__(self, indices: Integers, batch_size: int, seed: int, start: int = 0) -> None:
        indices = as_integers("indices", indices, "[N]")
        if batch_size < 2:
            raise ValueError(f"batch size {batch_size} is too small: the inference marginal needs 2 data or more")
        if batch_size > len(indices):
            raise ValueError(f"batch size {batch_size} is larger than the {len(indices):,} training data")
        self.indices = indices
        self.batch_size = index(batch_size)
        self.seed = index(seed)
        self.start = index(start)

    @property
    def batches_per_epoch(self) -> int:
        """Batches that cover all data once."""
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest > 1)

    def __iter__(self) -> Iterator[Tensor]:
        epoch, first = divmod(self.start, self.batches_per_epoch)
        while True:
            shuffled = self.indices[self._permutation(epoch)]
            for batch in range(first, self.batches_per_epoch):
                last = batch == self.batches_per_epoch - 1
                yield shuffled[batch * self.batch_size : None if last else (batch + 1) * self.batch_size]
            epoch, first = epoch + 1, 0

    def _permutation(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.indices), generator=generator_of(self.seed, epoch))


def generator_of(*key: int) -> torch.Generator:
    """A random stream of its own for each key; keys that differ in trailing zeros only share it."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def in_order(indices: Tensor, batch_size: int) -> list[Tensor]:
    """The indices in batches of B, in order, the last one smaller, but none of a single datum if it can be helped."""
    count = max(1, math.ceil((len(indices) - 1) / batch_size)) if batch_size > 1 else len(indices)
    parts = list(indices.split(index(batch_size)))
    return parts if len(parts) == count else [*parts[:-2], torch.cat(parts[-2:])]
