"""What every data set offers: batches of named tensors by index, and the factors behind the data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.integers import Integers, as_integers

__all__ = ["Data", "FactorKind"]

FactorKind: TypeAlias = Literal["categorical", "ordinal", "circular", "continuous"]


class Data(ABC):
    """Data addressed by index. One gather a batch, nothing for each datum.

    Attributes:
        factor_names: names of the F known factors.
        factor_sizes: number of values of each factor; 0 of a continuous one.
        factor_kinds: whether the values of a factor have no order, an order, an order that closes on itself, or are
            real numbers.
        factor_periods: steps in one turn of a circular factor, where that is not its number of values.
        factor_labels: names of the values of a factor, where they have names.
        feature_names: names of the features of x along its last dimension, where they have names.
        objects: whether x is a set of objects with features, ``[B, O, V]``, and no sequence.
        held_out: indices of the data's own test set, or None where it has none.
        licence: under which the data may be used, where that is known.
        citation: of the source, where there is one.
    """

    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    factor_kinds: tuple[FactorKind, ...] = ()
    factor_periods: Mapping[str, int] = MappingProxyType({})
    factor_labels: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    feature_names: tuple[str, ...] = ()
    objects: bool = False
    held_out: Tensor | None = None
    licence: str = ""
    citation: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of data."""

    @abstractmethod
    def batch(self, indices: Integers) -> Batch:
        """The data at ``indices``, as the arguments of model and guide.

        Args:
            indices: integers, [B], from 0 to N - 1, in any order, repeats allowed.

        Returns:
            Named tensors, [B, ...] each; the first is what the model observes.
        """

    @abstractmethod
    def factors(self, indices: Integers) -> Tensor:
        """The factors of the data at ``indices``.

        Args:
            indices: integers, [B].

        Returns:
            The class of each factor, counted from 0, or the value of a continuous one, [B, F]: int64, or float64 where
            a factor is continuous or not known of all data. NaN stands for what is not known.
        """

    def prepare(self, training_indices: Tensor) -> None:  # noqa: B027 most data have nothing to prepare
        """Takes from the training data what all batches depend on, such as means and scales; by default nothing.

        Called once, before any batch is drawn, with the data that are trained on. What is computed from these alone
        leaves the held-out data unseen.

        Args:
            training_indices: int64, [M], each once.

        Raises:
            ValueError: the training data do not suffice; names the feature.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what the model observes of one datum."""
        return tuple(self.batch(torch.tensor([0])).x.shape[1:])

    def _checked(self, indices: Integers) -> Tensor:
        """The indices as int64 on the CPU, where the data live; an IndexError where one is outside."""
        indices = as_integers("indices", indices, "[B]")
        if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < len(self)):
            outside = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"no datum {int(outside)}: there are {len(self):,}, from 0 to {len(self) - 1}")
        return indices
