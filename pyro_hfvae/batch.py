"""Named tensors of some data: the arguments of model and guide."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["AnyBatch", "Arguments", "Batch", "Inputs", "as_arguments", "as_batch"]

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a program."""


class Batch(dict[str, Tensor]):
    """Tensors of B data by name, ``[B, ...]`` each.

    Programs get the first, which is what the model observes, by position, and all others by name:
    ``Batch(x=x, lengths=lengths)`` calls ``model(x, lengths=lengths)``.
    """

    @property
    def x(self) -> Tensor:
        """What the model observes, ``[B, ...]``, whatever its name is."""
        return next(iter(self.values()))

    @property
    def others(self) -> dict[str, Tensor]:
        """All tensors but the first, which programs get by name."""
        return dict(list(self.items())[1:])

    @property
    def size(self) -> int:
        """B."""
        return len(self.x)

    @property
    def arguments(self) -> Arguments:
        """What programs get by position and by name."""
        return (self.x,), self.others

    def __call__(self, program: Callable[..., Any]) -> Any:
        """Calls a program on the data."""
        return program(self.x, **self.others)

    def rows(self, indices: Tensor | slice) -> "Batch":
        """Some of the data, in the order given, repeats allowed."""
        return Batch({name: tensor[indices] for name, tensor in self.items()})

    def split(self, size: int) -> "list[Batch]":
        """The data in batches of ``size``, in order, the last one smaller."""
        return [self.rows(slice(start, start + size)) for start in range(0, self.size, size)]

    def with_x(self, x: Tensor) -> "Batch":
        """The same with another first tensor."""
        return Batch({next(iter(self)): x} | self.others)

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device."""
        return Batch({name: tensor.to(device) for name, tensor in self.items()})

    @staticmethod
    def joined(batches: "Iterable[Mapping[str, Tensor]]") -> "Batch":
        """The data of several batches, one after the other."""
        parts = list(batches)
        return Batch({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


Inputs: TypeAlias = Tensor | Batch
"""What programs are called with: one tensor, or named ones."""

AnyBatch: TypeAlias = tuple[Any, ...] | Batch
"""What programs are called with: positional arguments, or named tensors."""


def as_batch(x: Inputs) -> Batch:
    """The data themselves, or a tensor of them as the one argument of the programs."""
    return Batch(x=x) if isinstance(x, Tensor) else x


def as_arguments(batch: AnyBatch) -> Arguments:
    """Positional and keyword arguments: those of a batch, or a tuple of positional ones."""
    return batch.arguments if isinstance(batch, Batch) else (batch, {})
