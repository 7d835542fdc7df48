"""An encoder of counts: words of documents, molecules of cells."""

from collections.abc import Mapping, Sequence
from operator import index
from typing import cast

import torch
from torch import Tensor, nn

from pyro_hfvae.covariates import join_covariates, widths_of
from pyro_hfvae.networks import dense_layers

__all__ = ["CountEncoder"]

PER = 1e4
"""Counts per ten thousand, as is usual of cells: of one the logarithm would see no more than the line through 0."""


class CountEncoder(nn.Module):
    r"""Dense layers from counts to features, which do not see how many there are in all.

    .. math:: \log(1 + 10^4 x_v / l)

    with the library size l of the covariate ``library``, or else the sum of the counts.

    Args:
        inputs: V, the number of kinds that are counted. It follows from the data.
        hidden: units of the hidden layers, from the side of the counts, one layer or more.
        given: covariates that enter beside the counts, ``batch`` for one, with their numbers of entries unless these
            follow from the data.
        covariates: name and number of entries of all that the data have. They follow from the data.

    Raises:
        ValueError: no inputs, no hidden layer, one without units, or a covariate of unknown size.
    """

    def __init__(
        self,
        inputs: int | None = None,
        hidden: Sequence[int] = (128, 128),
        given: Mapping[str, int] | Sequence[str] = (),
        covariates: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if inputs is None or index(inputs) < 1:
            raise ValueError(f"a CountEncoder needs 1 input or more, got {inputs}")
        if not len(hidden):
            raise ValueError("hidden must have one layer or more")
        self.given = widths_of(given, covariates or {})
        self.inputs = index(inputs)
        self.features = index(hidden[-1])
        self.layers = nn.Sequential(*dense_layers(self.inputs + sum(self.given.values()), hidden))

    def forward(self, x: Tensor, **covariates: Tensor) -> Tensor:
        """Counts ``[B, V]`` of data with covariates ``[B, ...]`` to features ``[B, hidden[-1]]``.

        Raises:
            ValueError: another number of kinds, or a covariate is missing.
        """
        if x.shape[-1] != self.inputs:
            raise ValueError(f"the encoder is of {self.inputs} kinds of counts, but the data have {x.shape[-1]}")
        library = covariates.get("library", x.sum(-1)).to(x).reshape(-1, 1)  # [B, 1]
        values = (PER * x / library.clamp_min(1.0)).log1p()
        if self.given:
            values = torch.cat([values, join_covariates(self.given, covariates, values)], -1)
        return cast(Tensor, self.layers(values))
