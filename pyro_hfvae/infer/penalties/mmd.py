r"""The maximum mean discrepancy of the inference marginal from the prior (InfoVAE).

.. math:: \mathrm{MMD}^2(q, p) = E[k(z, z')] + E[k(\zeta, \zeta')] - 2 E[k(z, \zeta)],
    \qquad z, z' \sim q(z),\ \zeta, \zeta' \sim p(z)

The kernel of a point with D normal variables and V categoricals is a product,

.. math:: k = \kappa(\|z - z'\|^2, D) \prod_v 1[y_v = y'_v]

whose expectation over the categories is taken exactly: their masses are what enters, never the relaxed sample. With a
characteristic κ, such as those here, the MMD is 0 only where the distributions are the same, dependence between
continuous and discrete variables included.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Weight
from pyro_hfvae.sites import Site

__all__ = ["Kernel", "MaximumMeanDiscrepancy", "RadialKernel", "ZhaoKernel"]


class Kernel(ABC):
    """A kernel of the distance between points. Subclass it and name the class by its import path."""

    @abstractmethod
    def __call__(self, squared_distance: Tensor, variables: int) -> Tensor:
        """The kernel.

        Args:
            squared_distance: ‖z - z'‖², of any shape.
            variables: D, the number of normal variables.
        """


@dataclass(frozen=True)
class RadialKernel(Kernel):
    r"""A Gaussian kernel whose bandwidth grows with the number of variables as the distances do.

    .. math:: \kappa(d^2, D) = \exp\left(-\frac{d^2}{2 D h^2}\right)

    Two draws of a standard normal prior are at E[d²] = 2 D, so that the exponent is of order -1 / h² at every D.

    Args:
        bandwidth: h, in standard deviations of a variable.

    Raises:
        ValueError: a bandwidth that is not above 0.
    """

    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"the bandwidth must be above 0 and finite, got {self.bandwidth}")

    def __call__(self, squared_distance: Tensor, variables: int) -> Tensor:
        """The kernel."""
        return (-squared_distance / (2 * variables * self.bandwidth**2)).exp()


@dataclass(frozen=True)
class ZhaoKernel(Kernel):
    r"""The kernel of the code that was published with InfoVAE.

    .. math:: \kappa(d^2, D) = \exp(-d^2 / D^2)

    It saturates: draws of a standard normal prior are at E[d²] = 2 D, so that the exponent goes to 0 as 2 / D, and with
    it the gradient. It is here for the comparison.
    """

    def __call__(self, squared_distance: Tensor, variables: int) -> Tensor:
        """The kernel."""
        return (-squared_distance / variables**2).exp()


class MaximumMeanDiscrepancy(Penalty):
    r"""MMD² of the inference marginal from the prior, estimated without bias from a batch; no nats.

    .. math:: \frac{1}{B(B-1)} \sum_{b \ne b'} \left[ k(z_b, z_{b'}) + k(\zeta_b, \zeta_{b'}) \right]
        - \frac{2}{B^2} \sum_{b, b'} k(z_b, \zeta_{b'})

    Gretton et al., A Kernel Two-Sample Test (JMLR 2012). The estimate may be below 0. For each z_b of the guide
    one ζ_b is drawn from the prior. With S particles the mean over them.

    Args:
        weight: a number, a schedule, or a capacity to be held at.
        kernel: κ; a Gaussian kernel with a bandwidth that suits any number of variables by default.

    Raises:
        ValueError: the weight is not finite; on use, a batch of one datum.
        NotImplementedError: on use, sites whose priors depend on one another, or a guide whose sites depend on one
            another, discrete ones among them.
    """

    needs_split = False

    def __init__(self, weight: Weight = 1.0, kernel: Kernel | None = None) -> None:
        super().__init__(weight)
        self.kernel = RadialKernel() if kernel is None else kernel

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The estimate, a mean over batches, each with its number of data as weight."""
        size = sum(sample.shape[1] for sample in samples)
        return torch.stack([self._of_batch(sample) * (sample.shape[1] / size) for sample in samples]).sum()

    def _of_batch(self, sample: Sample) -> Tensor:
        particles, batch = sample.shape
        if batch < 2:
            raise ValueError("a batch of one datum has no maximum mean discrepancy from the prior; give two or more")
        for component in sample.dependence.components:
            raise NotImplementedError(
                f"the priors of sites {', '.join(map(repr, sorted(component.descendants)))} depend on one another; the "
                "maximum mean discrepancy draws from each prior by itself"
            )
        names = [name for name, site in sample.posteriors.items() if site.discrete]
        if sample.structured and names:
            raise NotImplementedError(
                f"the sites of the guide depend on one another, and site '{names[0]}' is discrete; the maximum mean "
                "discrepancy takes the categories for independent of the other sites, given the datum"
            )
        z: list[Tensor] = []
        zeta: list[Tensor] = []
        masses: list[Tensor] = []
        prior_masses: list[Tensor] = []
        for name, site in sample.posteriors.items():
            prior = sample.priors[name]
            if not site.discrete:
                z.append(_flat(site.value, site, sample))
                zeta.append(_flat(prior.draw(sample.shape).to(z[-1]), site, sample))
            else:
                masses += site.mean.expand(*sample.shape, -1, -1).unbind(2)  # each [S, B, K]
                prior_masses += prior.mean.expand(*sample.shape, -1, -1).unbind(2)
        of_none = sample.log_likelihood.new_zeros(particles, batch, 0)
        q = (torch.cat([*z, of_none], -1), masses)
        p = (torch.cat([*zeta, of_none], -1), prior_masses)
        with torch.autocast(of_none.device.type, enabled=False):
            within = self._kernel(q, q) + self._kernel(p, p)  # [S, B, B]
            pairs = within.sum((1, 2)) - within.diagonal(dim1=1, dim2=2).sum(1)
            return (pairs / (batch * (batch - 1)) - 2 * self._kernel(q, p).mean((1, 2))).mean()

    def _kernel(self, left: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]]) -> Tensor:
        """The expected kernel of independent points, [S, B, B]."""
        points, others = left[0], right[0]
        square = points.square().sum(-1)[..., None] + others.square().sum(-1)[:, None]
        distance = (square - 2 * points @ others.mT).clamp(min=0)  # rounding may bring it below
        kernel = self.kernel(distance, points.shape[-1]) if points.shape[-1] else torch.ones_like(distance)
        for mass, other in zip(left[1], right[1], strict=True):
            kernel = kernel * (mass @ other.mT)
        return kernel


def _flat(value: Tensor, site: Site, sample: Sample) -> Tensor:
    """A value as [S, B, V]."""
    return value.expand(*sample.shape, *site.fn.event_shape).flatten(2)
