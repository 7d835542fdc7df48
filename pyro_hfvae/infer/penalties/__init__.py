"""What objectives charge beside the terms of the ELBO, one idea in a file."""

from pyro_hfvae.infer.penalties.agreement import Agreement
from pyro_hfvae.infer.penalties.covariance import DiagonalCovariance, OffDiagonalCovariance
from pyro_hfvae.infer.penalties.density_ratio import DensityRatio, DiscriminatorAdam
from pyro_hfvae.infer.penalties.divergence import BlockDivergence, Divergence
from pyro_hfvae.infer.penalties.learned import LearnedPenalty
from pyro_hfvae.infer.penalties.mmd import Kernel, MaximumMeanDiscrepancy, RadialKernel, ZhaoKernel

__all__ = [
    "Agreement",
    "BlockDivergence",
    "DensityRatio",
    "DiagonalCovariance",
    "DiscriminatorAdam",
    "Divergence",
    "Kernel",
    "LearnedPenalty",
    "MaximumMeanDiscrepancy",
    "OffDiagonalCovariance",
    "RadialKernel",
    "ZhaoKernel",
]
