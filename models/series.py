"""An observation part for sequences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_hfvae.data.data import Data
from pyro_hfvae.models.dense import DenseDecoder
from pyro_hfvae.models.observations import Observation

__all__ = ["Series"]

SMALLEST_SCALE = 0.01
"""Of a standardised variable: one that is known exactly would pay without bound for a smaller scale."""


class Series(Observation):
    r"""Sequences of V variables at T steps, normal, with a scale for each variable that is learned.

    .. math:: x_{t,v} \sim N(f_{t,v}(z), \sigma_v), \qquad t < \mathrm{length}

    Steps beyond the covariate ``lengths`` and missing values (NaN) are left out.

    Args:
        decoder: makes the network that gives the means, ``[..., T, V]``; it may ask for ``length`` (T), ``outputs`` (V)
            and ``blocks``.
        given: covariates that the decoder gets beside the latents.
    """

    def __init__(
        self,
        decoder: Callable[[int], nn.Module] = DenseDecoder,
        given: Mapping[str, int] | Sequence[str] = (),
    ) -> None:
        super().__init__(decoder, given)

    def prepare(self, data: Data | None) -> dict[str, Any]:
        """The sizes of a sequence; makes a scale for each variable."""
        if data is None or len(data.shape) != 2:
            found = "none" if data is None else f"a datum of the shape {data.shape}"
            raise ValueError(f"Series need data that are sequences [T, V], got {found}")
        length, outputs = data.shape
        self.feature_names = {"x": data.feature_names} if data.feature_names else {}
        one = torch.tensor(1.0).expm1().log()  # softplus makes 1 of it
        self.scales = nn.Parameter(one.expand(outputs).clone())
        return {"length": length, "outputs": outputs}

    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the sequences x, ``[B, T, V]``, up to their ``lengths``, ``[B]``."""
        means = self.decode(values, covariates)  # [..., B, T, V]
        self.check(means, x.shape[-2:], x)
        here = ~x.isnan()  # [B, T, V]
        if "lengths" in covariates:
            steps = torch.arange(x.shape[-2], device=x.device)
            here = here & (steps < covariates["lengths"][:, None])[..., None]
        fn = dist.Normal(means, softplus(self.scales) + SMALLEST_SCALE).mask(here).to_event(2)
        pyro.sample("x", fn, obs=x.nan_to_num(nan=0.0))
