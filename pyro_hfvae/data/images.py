"""What every set of images offers: batches by index, and the factors that made them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from torch import Tensor

from pyro_hfvae.data.integers import Integers, as_integers

__all__ = ["FactorKind", "Images"]

FactorKind: TypeAlias = Literal["categorical", "ordinal", "circular"]


class Images(ABC):
    """Images addressed by index, with the factors that made them. One gather a batch, nothing for each item.

    Attributes:
        factor_names: names of the F known factors.
        factor_sizes: number of values of each factor.
        factor_kinds: whether the values of a factor have no order, an order, or an order that closes on itself.
        factor_periods: steps in one turn of a circular factor, where that is not its number of values.
        image_shape: channels, height, width.
        held_out: indices of the data's own test set, or None where it has none.
    """

    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    factor_kinds: tuple[FactorKind, ...] = ()
    factor_periods: Mapping[str, int] = MappingProxyType({})
    image_shape: tuple[int, int, int]
    held_out: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of images."""

    @abstractmethod
    def images(self, indices: Integers) -> Tensor:
        """The images at ``indices``.

        Args:
            indices: integers, [B], from 0 to N - 1, in any order, repeats allowed.

        Returns:
            float32 in [0, 1], [B, C, H, W].
        """

    @abstractmethod
    def factors(self, indices: Integers) -> Tensor:
        """The factors of the images at ``indices``.

        Args:
            indices: integers, [B].

        Returns:
            The class of each factor, int64, [B, F].
        """

    def _checked(self, indices: Integers) -> Tensor:
        """The indices as int64 on the CPU, where the data live; an IndexError where one is outside."""
        indices = as_integers("indices", indices, "[B]")
        if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < len(self)):
            outside = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"no image {int(outside)}: there are {len(self):,}, from 0 to {len(self) - 1}")
        return indices
