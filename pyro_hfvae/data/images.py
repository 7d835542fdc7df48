"""Data that are images of one size."""

from abc import abstractmethod

from torch import Tensor

from pyro_hfvae.batch import Batch
from pyro_hfvae.data.contract import described
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
        """The images at ``indices`` [B] as the one argument x of model and guide, [B, C, H, W].

        Raises:
            ValueError: the class returned other images than it promises.
        """
        found = self.images(indices)
        kind, count = type(self).__name__, len(indices)
        if not isinstance(found, Tensor) or not found.is_floating_point() or not found.ndim or len(found) != count:
            raise ValueError(
                f"images of {kind} must return a floating-point tensor with {count} rows for {count} indices, got "
                f"{described(found)}"
            )
        shape = getattr(self, "image_shape", None)
        if found.ndim == 4 and shape is not None and tuple(found.shape[1:]) != tuple(shape):
            raise ValueError(
                f"images of {kind} returns the shape {list(found.shape)}, but its image_shape is {list(shape)}: they "
                "must be the same, channels first"
            )
        return Batch(x=found)
