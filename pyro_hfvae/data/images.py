"""Data that are images of one size."""

from abc import abstractmethod

from torch import Tensor

from pyro_hfvae.data.batch import Batch
from pyro_hfvae.data.data import Data
from pyro_hfvae.data.integers import Integers

__all__ = ["Images"]


class Images(Data):
    """Images addressed by index. One gather a batch, nothing for each image.

    Attributes:
        image_shape: channels, height, width.
    """

    image_shape: tuple[int, int, int]

    @abstractmethod
    def images(self, indices: Integers) -> Tensor:
        """The images at ``indices``.

        Args:
            indices: integers, [B], from 0 to N - 1, in any order, repeats allowed.

        Returns:
            float32 in [0, 1], [B, C, H, W].
        """

    def batch(self, indices: Integers) -> Batch:
        """The images at ``indices`` [B] as the one argument x of model and guide, [B, C, H, W]."""
        return Batch(x=self.images(indices))
