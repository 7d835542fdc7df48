r"""The covariance of the inference marginal, to be that of independent variables of variance 1 (DIP-VAE).

.. math::
    C^{I} = \mathrm{Cov}_x[\mu(x)], \qquad
    C^{II} = \mathrm{Cov}_x[\mu(x)] + E_x[\mathrm{diag}\, \sigma^2(x)] = \mathrm{Cov}_{q(z)}[z]

Kumar, Sattigeri, Balakrishnan, Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (ICLR
2018), eq. 6 and 7. The expectations over x are means over the batch, both divided by B.

Only the normal variables have a covariance that could be the identity: the elements of a one-hot sum to 1 and can be
neither uncorrelated nor of variance 1. Categoricals are left to the other terms.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Weight
from pyro_hfvae.sites import NormalSite

__all__ = ["DiagonalCovariance", "OffDiagonalCovariance"]


class OffDiagonalCovariance(Penalty):
    r"""Squared covariances of the normal variables, of which C^I and C^II have the same; no nats.

    .. math:: \sum_{i \ne j} C_{ij}^2

    With S particles the mean over them. A batch of one datum, or one variable, has none: 0.

    Raises:
        ValueError: the weight is not finite; on first use, a guide without normal variables.
        NotImplementedError: on first use, a guide whose sites depend on one another.
    """

    needs_split = False

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The squared covariances."""
        covariance = _covariance(_join(samples, "loc"))
        return (covariance.square().sum((1, 2)) - _diagonal(covariance).square().sum(1)).mean()


class DiagonalCovariance(Penalty):
    r"""Squared distances of the variances of the normal variables from 1; no nats.

    .. math:: \sum_i (C_{ii} - 1)^2

    Args:
        weight: a number, a schedule, or a capacity to be held at.
        of_samples: C is C^II, of the samples (DIP-VAE-II), not C^I, of the posterior means (DIP-VAE-I).

    Raises:
        ValueError: the weight is not finite; on first use, a guide without normal variables.
        NotImplementedError: on first use, a guide whose sites depend on one another.
    """

    needs_split = False

    def __init__(self, weight: Weight = 1.0, of_samples: bool = False) -> None:
        super().__init__(weight)
        self.of_samples = of_samples

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The squared distances."""
        variance = _diagonal(_covariance(_join(samples, "loc")))  # [S, D]
        if self.of_samples:
            variance = variance + _join(samples, "scale").square().mean(1)
        return (variance - 1).square().sum(1).mean()


def _covariance(loc: Tensor) -> Tensor:
    """Over the batch, [S, B, D] to [S, D, D]."""
    centred = loc - loc.mean(1, keepdim=True)
    with torch.autocast(loc.device.type, enabled=False):
        return centred.mT @ centred / loc.shape[1]


def _diagonal(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2)  # [S, D]


def _join(samples: Sequence[Sample], field: str) -> Tensor:
    """``loc`` or ``scale`` of all normal variables, [S, B, D]."""
    if samples[0].structured:
        raise NotImplementedError(
            "the sites of the guide depend on one another; DIP-VAE reads its covariances off posteriors that are "
            "independent given the datum"
        )
    if not any(isinstance(site, NormalSite) for site in samples[0].posteriors.values()):
        raise ValueError(
            "DIP-VAE needs normal variables, whose covariance it charges; the guide has none among its sites: "
            + ", ".join(f"'{name}'" for name in samples[0].posteriors)
        )

    def of_batch(sample: Sample) -> Tensor:
        sites = (site for site in sample.posteriors.values() if isinstance(site, NormalSite))
        return torch.cat([getattr(site, field).expand(*sample.shape, -1) for site in sites], -1)

    return torch.cat([of_batch(sample) for sample in samples], 1)
