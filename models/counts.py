"""Observation parts for counts: words of documents, and molecules of cells."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_hfvae.data.data import Data
from pyro_hfvae.distributions import MultinomialCounts
from pyro_hfvae.models.dense import DenseDecoder
from pyro_hfvae.models.observations import Observation

__all__ = ["GeneCounts", "WordCounts"]

SMALLEST_COUNT = 1e-6
"""A rate of 0 would make the density of a count infinite, and a dispersion of 0 that of all but 0."""


class WordCounts(Observation):
    r"""Counts given their sum, which is not modelled: the words of a document.

    .. math:: x \sim \mathrm{Multinomial}(n, \mathrm{softmax}(f(z))), \qquad n = \textstyle\sum_v x_v

    Args:
        decoder: makes the network that gives V logits, ``[..., V]``; it may ask for ``outputs`` (V) and ``blocks``.
        given: covariates that the decoder gets beside the latents, ``batch`` for one.
    """

    def __init__(
        self,
        decoder: Callable[[int], nn.Module] = DenseDecoder,
        given: Mapping[str, int] | Sequence[str] = (),
    ) -> None:
        super().__init__(decoder, given)

    def prepare(self, data: Data | None) -> dict[str, Any]:
        """The number of outputs, V."""
        if data is None or len(data.shape) != 1:
            found = "none" if data is None else f"a datum of the shape {data.shape}"
            raise ValueError(f"{type(self).__name__} need data that are counts [V], got {found}")
        self.feature_names = {"x": data.feature_names} if data.feature_names else {}
        return {"outputs": data.shape[0]}

    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the counts x, ``[B, V]``."""
        logits = self.decode(values, covariates)  # [..., B, V]
        self.check(logits, x.shape[-1:], x)
        pyro.sample("x", MultinomialCounts(x.sum(-1).to(logits), logits), obs=x)


class GeneCounts(WordCounts):
    r"""Counts that vary more than those of a Poisson: the molecules of each gene in a cell, given their number.

    .. math:: x_v \sim \mathrm{NB}(\mu_v, \theta_v), \qquad \mu = l\, \mathrm{softmax}(f(z)), \qquad
        \mathrm{Var}(x_v) = \mu_v + \mu_v^2 / \theta_v

    Lopez et al., Deep generative modeling for single-cell transcriptomics (Nature Methods 2018), with the library size
    l as observed and without zero inflation. The dispersion θ of each gene is learned.

    Args:
        decoder: makes the network that gives V logits, ``[..., V]``; it may ask for ``outputs`` (V) and ``blocks``.
        given: covariates that the decoder gets beside the latents, ``batch`` for one.
    """

    def prepare(self, data: Data | None) -> dict[str, Any]:
        """The number of outputs, V; makes a dispersion for each."""
        known = super().prepare(data)
        one = torch.tensor(1.0).expm1().log()  # softplus makes 1 of it
        self.dispersion = nn.Parameter(one.expand(known["outputs"]).clone())
        return known

    def forward(self, values: Mapping[str, Tensor], x: Tensor, **covariates: Tensor) -> None:
        """Observes the counts x, ``[B, V]``, of cells with the covariate ``library``, ``[B]``; their sum by default."""
        logits = self.decode(values, covariates)  # [..., B, V]
        self.check(logits, x.shape[-1:], x)
        library = covariates.get("library", x.sum(-1)).to(logits).reshape(-1, 1)  # [B, 1]
        log_mean = library.clamp_min(SMALLEST_COUNT).log() + logits.log_softmax(-1)
        dispersion = softplus(self.dispersion) + SMALLEST_COUNT
        fn = dist.NegativeBinomial(dispersion, logits=log_mean - dispersion.log())
        pyro.sample("x", fn.to_event(1), obs=x)
