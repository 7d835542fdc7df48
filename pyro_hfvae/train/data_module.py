"""Batches for training and validation from data addressed by index."""

from collections.abc import Iterable
from operator import index

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.batches import IndexBatches, in_order
from pyro_hfvae.data.contract import check_batch, check_contract, own_test_set
from pyro_hfvae.data.data import Data
from pyro_hfvae.interruption import ignore_signals
from pyro_hfvae.weak import (
    PairBatch,
    PairBatches,
    Pairing,
    Pairs,
    PairSampler,
    PartnerBatch,
    TrainingBatch,
    ViewBatches,
    Viewed,
    Views,
    as_swaps,
)

__all__ = ["DataModule"]


Asked = Tensor | Pairs | Viewed
"""Which data make a batch: indices, alone, in pairs, or of data that copies are made of."""


class Gather(Dataset[TrainingBatch]):
    """A batch for each tensor of indices, or for each batch of pairs: one gather, nothing for each item."""

    def __init__(self, source: Data, swap: bool, views: Views | None = None, seed: int = 0) -> None:
        self.source = source
        self.swap = swap
        self.views = views
        self.seed = seed

    def __getitem__(self, asked: Asked) -> TrainingBatch:
        if isinstance(asked, Tensor):
            return self._batch(asked)
        if isinstance(asked, Viewed):
            assert self.views is not None
            return self.views.batch(self._batch(asked.data), self.seed, asked.step)
        if self.swap:
            swaps = as_swaps(asked)
            return PartnerBatch(self._batch(swaps.data), swaps.gates, swaps.shared, swaps.partners)
        both, count = self._batch(torch.cat([asked.inputs, asked.targets])), len(asked.inputs)
        if both.others:
            raise ValueError(
                f"pairs give programs a target without {', '.join(both.others)} of its own: set batches.pairs.swap, "
                "with which each datum is explained with its own"
            )
        return PairBatch(both.rows(slice(count)), both.x[count:], asked.gates)

    def _batch(self, indices: Tensor) -> Batch:
        found = self.source.batch(indices)
        check_batch(self.source, found, len(indices))
        return found


class DataModule(LightningDataModule):
    """Training data and held-out data of a data set.

    Args:
        source: the data.
        batch_size: B; 2 or more, and no more than there are training data.
        held_out: number of data to hold out, drawn at random by the seed; None takes the test set that comes with
            the data, or a tenth of them, 10,000 at most, where there is none.
        num_workers: processes that prepare batches beside the training; 0 prepares them in line.
        pairs: train on pairs of training data that share a factor, with gates; on single data by default. Held-out data
            stay single.
        views: train on training data and distorted copies of them, drawn as they go; held-out data stay as they are.
        seed: of the split, of the shuffles, of the pairs and of the copies.

    Raises:
        ValueError: a batch size, held-out data, pairs or copies that the data cannot give, both pairs and views, or
            num_workers below 0.
    """

    def __init__(
        self,
        source: Data,
        batch_size: int = 128,
        held_out: int | None = None,
        num_workers: int = 0,
        pairs: Pairing | None = None,
        views: Views | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        check_contract(source)
        self.source = source
        self.batch_size = index(batch_size)
        self.num_workers = index(num_workers)
        self.seed = index(seed)
        held_out = None if held_out is None else index(held_out)
        self.train_indices, self.held_out_indices = _split(source, held_out, self.seed)
        source.prepare(self.train_indices)
        self._batches(0)  # refuses a bad batch size here, not when training starts
        self.views = views
        if views is not None:
            if pairs is not None:
                raise ValueError("batches.pairs and batches.views are two sources of pairs: give one of them")
            if 2 * batch_size > self.data_size:
                raise ValueError(
                    f"with views a batch of {batch_size} data has up to {2 * batch_size} with their copies, but "
                    f"there are {self.data_size:,} training data"
                )
            views.check(source.batch(self.train_indices[:2]))
        self._sampler: PairSampler | None = None
        if pairs is not None:
            if pairs.swap and 2 * batch_size > self.data_size:
                raise ValueError(
                    f"with pairs.swap a batch of {batch_size} pairs can have {2 * batch_size} data, but there are "
                    f"{self.data_size:,} training data"
                )
            names, classes = _classes(source, self.train_indices)
            self._sampler = PairSampler(pairs, self.train_indices, classes, names, self.seed, len(source))

    @property
    def pairing(self) -> Pairing | None:
        """What pairs share; None if batches are of single data."""
        return None if self._sampler is None else self._sampler.pairing

    @property
    def data_size(self) -> int:
        """N, the number of training data."""
        return len(self.train_indices)

    @property
    def batches_per_epoch(self) -> int:
        """Batches that cover the training data once."""
        return self._batches(0).batches_per_epoch

    def warn_of_closed_blocks(self, count: int) -> None:
        """Warns if so many batches of pairs leave a block without anything to learn from."""
        if self._sampler is not None:
            self._sampler.pairing.warn_of_closed_blocks(count)

    def first_batch(self) -> TrainingBatch:
        """The batch that training starts with."""
        return self._gather()[next(iter(self._training_batches(0)))]

    def held_out_batches(self, limit: int | None = None, batch_size: int = 256) -> Iterable[tuple[Batch, Tensor]]:
        """Held-out data and their factors [B, F], each once, ``limit`` of them at most."""
        for indices in in_order(self.held_out_indices[:limit], batch_size):
            yield self.source.batch(indices), self.source.factors(indices)

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """Endless batches, from where the trainer stands."""
        done = 0 if self.trainer is None else self.trainer.fit_loop.total_batch_idx + 1
        return self._loader(self._training_batches(done))

    def val_dataloader(self) -> DataLoader[TrainingBatch]:
        """Held-out batches, in the same order each time."""
        return self._loader(in_order(self.held_out_indices, self.batch_size))

    def _loader(self, batches: Iterable[Asked]) -> DataLoader[TrainingBatch]:
        return DataLoader(
            self._gather(),
            sampler=batches,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_signals,
            # A generator of its own: else each start of a loader would draw from the stream that training draws from.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _gather(self) -> Gather:
        return Gather(self.source, self.pairing is not None and self.pairing.swap, self.views, self.seed)

    def _batches(self, start: int) -> IndexBatches:
        return IndexBatches(self.train_indices, self.batch_size, self.seed, start)

    def _training_batches(self, start: int) -> Iterable[Asked]:
        batches = self._batches(start)
        if self.views is not None:
            return ViewBatches(batches)
        return batches if self._sampler is None else PairBatches(batches, self._sampler)


def _classes(source: Data, indices: Tensor) -> tuple[list[str], Tensor]:
    """Names and classes [N, F] of the factors that data can agree in, -1 where one is not known: no real numbers."""
    places = [place for place, kind in enumerate(source.factor_kinds) if kind != "continuous"]
    values = source.factors(indices)[:, places]
    classes = values.nan_to_num(nan=-1.0) if values.is_floating_point() else values
    return [source.factor_names[place] for place in places], classes.long()


def _split(source: Data, held_out: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Training indices, sorted, and held-out ones, shuffled: any first part of those is a fair sample."""
    own = own_test_set(source) if held_out is None else None
    if held_out is None:
        held_out = min(10_000, len(source) // 10) if own is None else len(own)
    if not 2 <= held_out <= len(source) - 2:
        raise ValueError(
            f"cannot hold out {held_out:,} of {len(source):,} data: at least 2, and 2 must remain; set batches.held_out"
        )
    generator = torch.Generator().manual_seed(seed)
    if own is not None:
        training = torch.ones(len(source), dtype=torch.bool)
        training[own] = False
        return training.nonzero().squeeze(1), own[torch.randperm(held_out, generator=generator)]
    shuffled = torch.randperm(len(source), generator=generator)
    return shuffled[held_out:].sort().values, shuffled[:held_out]
