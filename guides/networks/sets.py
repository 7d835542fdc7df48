"""An encoder of sets: the order of their members does not count."""

from typing import Literal, cast

from torch import Tensor, nn

from pyro_hfvae.networks import dense_layers, positive, within

__all__ = ["SetEncoder"]


class SetEncoder(nn.Module):
    r"""Features of each object, pooled over the set, then a dense layer.

    .. math:: \rho\Big(\sum_m \phi(x_m)\Big)

    Zaheer et al., Deep Sets (NeurIPS 2017), theorem 2; instead of the sum there may be the mean or the largest value of
    each feature. An empty set is pooled to 0.

    Args:
        inputs: V, the numbers of each object; None takes that of the data.
        hidden: units of the layers that each object goes through by itself, one layer or more.
        features: units of the dense layer after pooling, the number of features.
        pooling: ``"sum"``, ``"mean"`` or ``"max"``. Only a sum tells how many objects there are.

    Raises:
        ValueError: a size below 1, no hidden layer, or another way of pooling.
    """

    def __init__(
        self,
        inputs: int | None = None,
        hidden: tuple[int, ...] = (128, 128),
        features: int = 128,
        pooling: Literal["sum", "mean", "max"] = "sum",
    ) -> None:
        super().__init__()
        self.inputs, self.features = positive(inputs=inputs, features=features)
        if not len(hidden):
            raise ValueError("hidden must have one layer or more, got none")
        if pooling not in ("sum", "mean", "max"):
            raise ValueError(f"pooling must be sum, mean or max, got {pooling!r}")
        self.pooling = pooling
        self.of_object = nn.Sequential(*dense_layers(self.inputs, hidden))
        self.of_set = nn.Sequential(*dense_layers(int(hidden[-1]), (self.features,)))

    def forward(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Sets to features.

        Args:
            x: ``[B, M, V]``, of any number of objects M.
            lengths: how many of them, the first ones, belong to each set, ``[B]``; None for M.
            mask: which of them belong to it, ``[B, M]`` of bool, or 0 and 1; None for all.

        Returns:
            ``[B, features]``.

        Raises:
            ValueError: objects of another V, a mask of another shape, or a length that is not from 1 to M.
        """
        if x.ndim != 3 or x.shape[-1] != self.inputs:
            raise ValueError(f"the encoder takes sets [B, M, {self.inputs}], got {list(x.shape)}")
        inside = within(lengths, x)  # [B, M]
        if mask is not None:
            if mask.shape != inside.shape:
                raise ValueError(f"mask must be {list(inside.shape)}, as the objects are, got {list(mask.shape)}")
            inside = inside & mask.bool()
        inside = inside[..., None]  # [B, M, 1]
        objects = self.of_object(x.where(inside, 0.0)).where(inside, 0.0)  # [B, M, hidden], 0 or more
        if self.pooling == "max":
            pooled = objects.amax(1)
        elif self.pooling == "mean":
            pooled = objects.sum(1) / inside.sum(1).clamp(min=1)
        else:
            pooled = objects.sum(1)
        return cast(Tensor, self.of_set(pooled))
