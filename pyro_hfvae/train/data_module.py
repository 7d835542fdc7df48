"""Batches for training and validation from images addressed by index."""

from collections.abc import Iterable
from operator import index

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_hfvae.data.batches import IndexBatches, in_order
from pyro_hfvae.data.contract import check_contract, check_images, own_test_set
from pyro_hfvae.data.images import Images
from pyro_hfvae.interruption import ignore_signals
from pyro_hfvae.weak import PairBatch, PairBatches, Pairing, Pairs, PairSampler, SwapBatch, as_swaps

__all__ = ["ImageDataModule"]

Batch = tuple[Tensor] | PairBatch | SwapBatch
"""Arguments of model and guide; of pairs also the gates that they open and what they swap."""


class _Gather(Dataset[Batch]):
    """A batch for each tensor of indices, or for each batch of pairs: one gather, nothing for each item."""

    def __init__(self, images: Images, swap: bool) -> None:
        self.images = images
        self.swap = swap

    def __getitem__(self, asked: Tensor | Pairs) -> Batch:
        if isinstance(asked, Tensor):
            return (self._images(asked),)
        if self.swap:
            swaps = as_swaps(asked)
            return SwapBatch(self._images(swaps.data), swaps.gates, swaps.shared, swaps.partners)
        x, target = self._images(torch.cat([asked.inputs, asked.targets])).chunk(2)
        return PairBatch(x, target, asked.gates)

    def _images(self, indices: Tensor) -> Tensor:
        found = self.images.images(indices)
        check_images(self.images, found, len(indices))
        return found


class ImageDataModule(LightningDataModule):
    """Training data and held-out data of a set of images.

    Args:
        images: the data.
        batch_size: B; 2 or more, and no more than there are training data.
        held_out: number of images to hold out, drawn at random by the seed; None takes the test set that comes with
            the data, or a tenth of the images, 10,000 at most, where there is none.
        num_workers: processes that prepare batches beside the training; 0 prepares them in line.
        pairs: train on pairs of training images that share a factor, with gates; on single images by default. Held-out
            images stay single.
        seed: of the split, of the shuffles and of the pairs.

    Raises:
        ValueError: a batch size, held-out images or pairs that the data cannot give, or num_workers below 0.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int = 128,
        held_out: int | None = None,
        num_workers: int = 0,
        pairs: Pairing | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        check_contract(images)
        self.images = images
        self.batch_size = index(batch_size)
        self.num_workers = index(num_workers)
        self.seed = index(seed)
        held_out = None if held_out is None else index(held_out)
        self.train_indices, self.held_out_indices = _split(images, held_out, self.seed)
        self._batches(0)  # refuses a bad batch size here, not when training starts
        self._sampler: PairSampler | None = None
        if pairs is not None:
            if pairs.swap and 2 * batch_size > self.data_size:
                raise ValueError(
                    f"with pairs.swap a batch of {batch_size} pairs can have {2 * batch_size} data, but there are "
                    f"{self.data_size:,} training data"
                )
            factors = images.factors(self.train_indices)
            self._sampler = PairSampler(pairs, self.train_indices, factors, images.factor_names, self.seed, len(images))

    @property
    def pairing(self) -> Pairing | None:
        """What pairs share; None if batches are of single images."""
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

    def first_batch(self) -> Batch:
        """The batch that training starts with."""
        return self._gather()[next(iter(self._training_batches(0)))]

    def held_out_batches(self, limit: int | None = None, batch_size: int = 256) -> Iterable[tuple[Tensor, Tensor]]:
        """Held-out images [B, C, H, W] and their factors [B, F], each once, ``limit`` of them at most."""
        for indices in in_order(self.held_out_indices[:limit], batch_size):
            yield self.images.images(indices), self.images.factors(indices)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Endless batches, from where the trainer stands."""
        done = 0 if self.trainer is None else self.trainer.fit_loop.total_batch_idx + 1
        return self._loader(self._training_batches(done))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out batches, in the same order each time."""
        return self._loader(in_order(self.held_out_indices, self.batch_size))

    def _loader(self, batches: Iterable[Tensor | Pairs]) -> DataLoader[Batch]:
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

    def _gather(self) -> _Gather:
        return _Gather(self.images, self.pairing is not None and self.pairing.swap)

    def _batches(self, start: int) -> IndexBatches:
        return IndexBatches(self.train_indices, self.batch_size, self.seed, start)

    def _training_batches(self, start: int) -> Iterable[Tensor | Pairs]:
        batches = self._batches(start)
        return batches if self._sampler is None else PairBatches(batches, self._sampler)


def _split(images: Images, held_out: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Training indices, sorted, and held-out ones, shuffled: any first part of those is a fair sample."""
    own = own_test_set(images) if held_out is None else None
    if held_out is None:
        held_out = min(10_000, len(images) // 10) if own is None else len(own)
    if not 2 <= held_out <= len(images) - 2:
        raise ValueError(
            f"cannot hold out {held_out:,} of {len(images):,} images: at least 2, and 2 must remain; set "
            "batches.held_out"
        )
    generator = torch.Generator().manual_seed(seed)
    if own is not None:
        training = torch.ones(len(images), dtype=torch.bool)
        training[own] = False
        return training.nonzero().squeeze(1), own[torch.randperm(held_out, generator=generator)]
    shuffled = torch.randperm(len(images), generator=generator)
    return shuffled[held_out:].sort().values, shuffled[:held_out]
