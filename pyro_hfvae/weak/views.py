"""Pairs of a datum and a distorted copy of it: distortions that leave alone what a block stands for."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.batches import IndexBatches, generator_of
from pyro_hfvae.weak.distortions import Distortion
from pyro_hfvae.weak.swaps import PartnerBatch, places_of_partners

__all__ = ["ViewBatches", "Viewed", "Views"]

_OF_VIEWS = 2
"""Separates the random stream of a batch's copies from that of its pairs and of an epoch's shuffle."""


@dataclass(frozen=True)
class Views:
    """How distorted copies are made, and which blocks each kind of them leaves alone.

    A batch is data and their copies, all explained by themselves. Of each datum a copy of one kind is made, all kinds
    equally likely. The two share the blocks that the kind leaves alone: a turned 7 is a 7. Sharing has a use where
    their posteriors of these blocks agree (:class:`~pyro_hfvae.infer.penalties.Agreement`), or are swapped.

    The copies of a batch follow from the seed and the number of the batch alone.

    Args:
        blocks: block name to the kinds of copies that leave it alone; an empty list for a residual block.
        distortions: name of each kind to its distortions, applied one after the other: those of
            :mod:`pyro_hfvae.weak.distortions`, or functions from data ``[B, ...]`` and a ``torch.Generator`` to copies
            of the same shape. A function gets those covariates, such as ``lengths``, that it has parameters for.
        identity: share of the data without a copy, from 0 to 1.
        swap: let a datum and its copy take the blocks that they share from each other. Their other gates are closed
            then, and data without a copy open all gates.
        gated: False leaves all gates open where partners swap, for comparison.

    Raises:
        ValueError: a share outside its range, names that do not match, or a block that would never learn.
    """

    blocks: dict[str, list[str]]
    distortions: dict[str, list[Distortion | Callable[..., Any]]]
    identity: float = 0.0
    swap: bool = False
    gated: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.identity < 1:
            raise ValueError(f"views.identity must be from 0 to below 1, got {self.identity}")
        for kind, distortions in self.distortions.items():
            if not distortions:
                raise ValueError(f"views.distortions '{kind}' is empty: name one distortion or more")
        for block, kinds in self.blocks.items():
            if isinstance(kinds, str):
                raise ValueError(f"views.blocks of block '{block}' must be a list of names, got '{kinds}'")
            if unknown := [kind for kind in kinds if kind not in self.distortions]:
                known = ", ".join(f"'{kind}'" for kind in self.distortions) or "none"
                raise ValueError(
                    f"views.blocks of block '{block}' names '{unknown[0]}'; the kinds of views.distortions are: {known}"
                )
        for kind in self.distortions:
            if not any(kind in kinds for kinds in self.blocks.values()):
                raise ValueError(
                    f"views.distortions '{kind}' leaves no block alone: name it in views.blocks, or take it out"
                )
        if not self.distortions:
            raise ValueError("views.distortions names no kind of copies")
        if self.closes and not self.identity:
            for block, kinds in self.blocks.items():
                if not kinds:
                    raise ValueError(
                        f"block '{block}' would never learn: no view leaves it alone, so that its gate is open in no "
                        "pair; set views.identity above 0, or views.gated to false"
                    )

    @property
    def closes(self) -> bool:
        """Whether some gates are closed."""
        return self.swap and self.gated

    def check(self, data: Batch) -> None:
        """Makes a copy of each kind of some data.

        Raises:
            ValueError: a distortion does not fit the data, or returns something else than copies; names the kind.
        """
        for kind in self.distortions:
            self._copies(kind, data, generator_of(0, 0, _OF_VIEWS))

    def batch(self, data: Batch, seed: int, step: int) -> PartnerBatch:
        """The data of a batch and then their copies, which are their partners.

        Args:
            data: B data.
            seed: of the run.
            step: number of the batch, from 0.

        Returns:
            B + P data, P of which are copies.

        Raises:
            ValueError: as :meth:`check`.
        """
        copies, copied, of_copies = self.copies(data, seed, step)
        shared = {}
        for block, mask in of_copies.items():
            of_data = torch.zeros(data.size, dtype=torch.bool)
            of_data[copied] = mask
            shared[block] = torch.cat([of_data, mask])
        partners = places_of_partners(data.size, copied)
        alone = partners == torch.arange(len(partners))
        gates = {block: mask | alone for block, mask in shared.items()} if self.closes else {}
        return PartnerBatch(Batch.joined([data, copies]), gates, shared, partners, self.swap)

    def copies(self, data: Batch, seed: int, step: int) -> tuple[Batch, Tensor, dict[str, Tensor]]:
        """The copies of a batch.

        Args:
            data: B data.
            seed: of the run.
            step: number of the batch, from 0.

        Returns:
            P copies with the covariates of the data that they are of; the places of these in the batch, int64, ``[P]``,
            ascending; and block name to whether a copy shares it with its datum, bool, ``[P]``.

        Raises:
            ValueError: as :meth:`check`.
        """
        generator = generator_of(seed, step, _OF_VIEWS)
        copied = (torch.rand(data.size, generator=generator) >= self.identity).nonzero().squeeze(1)
        drawn = torch.randint(len(self.distortions), (data.size,), generator=generator)[copied]  # [P]
        of_data = data.rows(copied)
        x = of_data.x.clone()
        for number, kind in enumerate(self.distortions):
            rows = (drawn == number).nonzero().squeeze(1)
            if len(rows):
                x[rows] = self._copies(kind, of_data.rows(rows), generator)
        kinds = list(self.distortions)
        shared = {block: torch.tensor([kind in names for kind in kinds])[drawn] for block, names in self.blocks.items()}
        return of_data.with_x(x), copied, shared

    def _copies(self, kind: str, data: Batch, generator: Generator) -> Tensor:
        """Copies of one kind."""
        x = data.x.clone()  # a function may write into it
        for distortion in self.distortions[kind]:
            try:
                found = distortion(x, generator, **_taken(distortion, data.others))
            except Exception as error:
                reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                raise ValueError(f"views.distortions '{kind}': {reason}") from error
            if not isinstance(found, Tensor) or found.shape != x.shape or not found.is_floating_point():
                got = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(
                    f"views.distortions '{kind}': {_name(distortion)} returns {got.removeprefix('torch.')} for data of "
                    f"shape {list(x.shape)}; copies must have their shape and be floating-point numbers"
                )
            x = found.to(x.dtype)
        return x


class Viewed(NamedTuple):
    """A batch of data of which copies are to be made."""

    data: Tensor
    """Indices of the data, int64, [B]."""
    step: int
    """Number of the batch, from 0."""


class ViewBatches(Sampler[Viewed]):
    """Endless batches with their numbers.

    Args:
        batches: of the data.
    """

    def __init__(self, batches: IndexBatches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Viewed]:
        for step, data in enumerate(self.batches, self.batches.start):
            yield Viewed(data, step)


def _taken(distortion: Callable[..., Any], others: dict[str, Tensor]) -> dict[str, Tensor]:
    """The covariates that a distortion has parameters for."""
    parameters = inspect.signature(distortion).parameters
    return {name: tensor for name, tensor in others.items() if name in parameters}


def _name(distortion: Callable[..., Any]) -> str:
    return getattr(distortion, "__qualname__", type(distortion).__name__)
