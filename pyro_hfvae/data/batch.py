"""Named tensors of some data: the arguments of model and guide."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Batch"]


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

    def __call__(self, program: Callable[..., Any]) -> Any:
        """Calls a program on the data."""
        return program(self.x, **self.others)

    def rows(self, indices: Tensor) -> "Batch":
        """Some of the data, in the order given, repeats allowed."""
        return Batch({name: tensor[indices] for name, tensor in self.items()})

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device."""
        return Batch({name: tensor.to(device) for name, tensor in self.items()})

    @staticmethod
    def joined(batches: "Iterable[Mapping[str, Tensor]]") -> "Batch":
        """The data of several batches, one after the other."""
        parts = list(batches)
        return Batch({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
