"""The objectives of the literature, each a setting of :class:`~pyro_hfvae.infer.HierarchicalELBO`.

In all formulas E is the mean over the data and the guide, I(x; z), the total correlation TC(z) and the divergences of
the variables, Σ_j KL(q(z_j) || p(z_j)), are those of ``HierarchicalELBO``, so that

.. math:: E[KL(q(z|x) \\| p(z))] = I(x; z) + TC(z) + \\textstyle\\sum_j KL(q(z_j) \\| p(z_j)),
    \\qquad KL(q(z) \\| p(z)) = TC(z) + \\textstyle\\sum_j KL(q(z_j) \\| p(z_j))

for a prior that is independent in its variables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict, Unpack

from torch import Tensor
from torch.optim import Optimizer

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.elbo import HierarchicalELBO
from pyro_hfvae.infer.estimators import Marginal
from pyro_hfvae.infer.penalties import (
    BlockDivergence,
    DensityRatio,
    DiagonalCovariance,
    DiscriminatorAdam,
    Divergence,
    Kernel,
    MaximumMeanDiscrepancy,
    OffDiagonalCovariance,
)
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Capacity, Weight
from pyro_hfvae.schedules import Schedule

__all__ = [
    "DIPVAEI",
    "DIPVAEII",
    "HFVAE",
    "VAE",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "FactorVAE",
    "InfoVAE",
    "JointVAE",
]


class Options(TypedDict, total=False):
    """What every objective takes beside its weights, as :class:`HierarchicalELBO` does."""

    blocks: Layout | None
    penalties: dict[str, Penalty] | None
    marginal: Marginal | None
    prior_samples: int
    guide_samples: int
    num_particles: int
    vectorize_particles: bool
    max_plate_nesting: float


def _beside(own: Mapping[str, Penalty], options: Options) -> Options:
    """The options, with penalties of the objective's own beside those that are given."""
    given = options.get("penalties") or {}
    if taken := own.keys() & given.keys():
        raise ValueError(f"'{min(taken)}' is the name of a penalty of the objective's own: give yours another name")
    return {**options, "penalties": {**own, **given}}


class VAE(HierarchicalELBO):
    r"""The ordinary evidence lower bound.

    .. math:: L = E[\log p(x|z)] - E[KL(q(z|x) \| p(z))]

    Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014). Categoricals enter by their exact KL.

    Args:
        data_size: N, the number of data that batches are drawn from.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.
    """

    def __init__(self, data_size: int, **options: Unpack[Options]) -> None:
        super().__init__(data_size, **options)


class BetaVAE(HierarchicalELBO):
    r"""β-VAE: the divergence from the prior at a weight.

    .. math:: L = E[\log p(x|z)] - \beta\, E[KL(q(z|x) \| p(z))]

    Higgins et al., β-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (ICLR 2017).

    Args:
        data_size: N, the number of data that batches are drawn from.
        beta: weight β.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: the weight is not finite.
    """

    def __init__(self, data_size: int, beta: float | Schedule, **options: Unpack[Options]) -> None:
        super().__init__(data_size, mutual_information=beta, between=beta, within=beta, dimension=beta, **options)


class AnnealedVAE(HierarchicalELBO):
    r"""Annealed capacity: the divergence from the prior is held at a number of nats, which rises.

    .. math:: L = E[\log p(x|z)] - \gamma\, | E[KL(q(z|x) \| p(z))] - C |

    Burgess et al., Understanding disentangling in β-VAE (2018), eq. 8.

    Args:
        data_size: N, the number of data that batches are drawn from.
        gamma: weight γ.
        capacity: C in nats, usually a :class:`~pyro_hfvae.schedules.Linear` that starts at 0.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: a number that is not finite.
    """

    def __init__(
        self, data_size: int, gamma: float | Schedule, capacity: float | Schedule, **options: Unpack[Options]
    ) -> None:
        own: dict[str, Penalty] = {"divergence": Divergence(Capacity(gamma, capacity))}
        super().__init__(
            data_size, mutual_information=0.0, between=0.0, within=0.0, dimension=0.0, **_beside(own, options)
        )


class BetaTCVAE(HierarchicalELBO):
    r"""β-TCVAE: the total correlation of all variables at a weight.

    .. math:: L = E[\log p(x|z)] - I(x; z) - \beta\, TC(z) - \textstyle\sum_j KL(q(z_j) \| p(z_j))

    Chen et al., Isolating Sources of Disentanglement in VAEs (NeurIPS 2018), eq. 4, with α = γ = 1. The inference
    marginal is that of ``HierarchicalELBO``, not minibatch-weighted sampling. TC(z) is the same for every layout of
    blocks.

    Args:
        data_size: N, the number of data that batches are drawn from.
        beta: weight β.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: the weight is not finite.
    """

    def __init__(self, data_size: int, beta: float | Schedule, **options: Unpack[Options]) -> None:
        super().__init__(data_size, between=beta, within=beta, **options)


class FactorVAE(HierarchicalELBO):
    r"""FactorVAE: the total correlation, measured by a discriminator, on top of the ordinary bound.

    .. math:: L = E[\log p(x|z)] - E[KL(q(z|x) \| p(z))] - \gamma\, E_{q(z)}\left[\log \frac{D(z)}{1 - D(z)}\right]

    Kim and Mnih, Disentangling by Factorising (ICML 2018);
    :class:`~pyro_hfvae.infer.penalties.DensityRatio` describes how D is made and how it learns.

    Args:
        data_size: N, the number of data that batches are drawn from.
        gamma: weight γ.
        hidden: sizes of D's hidden layers.
        optimizer: called with D's parameters, makes its optimiser; Adam at 1e-4 with betas (.5, .9) by default.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: the weight is not finite, or sizes of layers that make no network.
    """

    def __init__(
        self,
        data_size: int,
        gamma: float | Schedule,
        hidden: Sequence[int] = (1000,) * 6,
        optimizer: Callable[[Iterable[Tensor]], Optimizer] = DiscriminatorAdam,
        **options: Unpack[Options],
    ) -> None:
        penalty = DensityRatio(gamma, hidden, optimizer)
        super().__init__(data_size, **_beside({"total_correlation": penalty}, options))


class InfoVAE(HierarchicalELBO):
    r"""InfoVAE with the maximum mean discrepancy; MMD-VAE with α = 1, the default.

    .. math:: L = E[\log p(x|z)] - (1 - \alpha)\, I(x; z) - \lambda\, \mathrm{MMD}^2(q(z), p(z))

    Zhao, Song, Ermon, InfoVAE: Balancing Learning and Inference in Variational Autoencoders (AAAI 2019). Their
    objective is, up to a constant, E[log p(x|z)] - (1 - α) I(x; z) - λ KL(q(z) || p(z)), in which any divergence D may
    stand for the KL. As E[KL(q(z|x) || p(z))] = I(x; z) + KL(q(z) || p(z)), with the KL it is also

    .. math:: E[\log p(x|z)] - (1 - \alpha)\, E[KL(q(z|x) \| p(z))] - (\alpha + \lambda - 1)\, KL(q(z) \| p(z)),

    and putting D there, in the last term only, is what codes without an estimate of I(x; z) do: a part 1 - α of the
    divergence is then still a KL. Here I(x; z) is a term of its own, so that D stands for the whole. Both are the same
    for α = 1. The second is ``HierarchicalELBO(N, w, w, w, w, penalties={"mmd": MaximumMeanDiscrepancy(α + λ - 1)})``
    with w = 1 - α.

    Args:
        data_size: N, the number of data that batches are drawn from.
        mmd: weight λ of the MMD², which is no number of nats and small: at most 2.
        alpha: α, the information that is preferred; 1 charges none, above 1 rewards it.
        kernel: of the MMD; a Gaussian one with a bandwidth that suits any number of variables by default, Zhao's own as
            :class:`~pyro_hfvae.infer.penalties.ZhaoKernel`.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: a number that is not finite.
    """

    def __init__(
        self, data_size: int, mmd: Weight, alpha: float = 1.0, kernel: Kernel | None = None, **options: Unpack[Options]
    ) -> None:
        penalties: dict[str, Penalty] = {"mmd": MaximumMeanDiscrepancy(mmd, kernel)}
        super().__init__(
            data_size,
            mutual_information=1 - alpha,
            between=0.0,
            within=0.0,
            dimension=0.0,
            **_beside(penalties, options),
        )


class DIPVAEI(HierarchicalELBO):
    r"""DIP-VAE-I: the covariance of the posterior means, to be the identity, on top of the ordinary bound.

    .. math:: L = \mathrm{ELBO} - \lambda_{od} \textstyle\sum_{i \ne j} C_{ij}^2 - \lambda_d \sum_i (C_{ii} - 1)^2,
        \qquad C = \mathrm{Cov}_x[\mu(x)]

    Kumar, Sattigeri, Balakrishnan, Variational Inference of Disentangled Latent Concepts from Unlabeled Observations
    (ICLR 2018), eq. 6 and 7. C is that of the batch, divided by B, of the normal variables; categoricals have the
    ordinary bound alone.

    Args:
        data_size: N, the number of data that batches are drawn from.
        off_diagonal: weight λ_od.
        diagonal: weight λ_d.
        mutual_information: weight of the information in the bound, 1 in the paper; a schedule lets it be free at first.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: a weight is not finite; on first use, a guide without normal variables.
    """

    _of_samples = False  # C of the means, or of samples about them

    def __init__(
        self,
        data_size: int,
        off_diagonal: Weight,
        diagonal: Weight,
        mutual_information: Weight = 1.0,
        **options: Unpack[Options],
    ) -> None:
        penalties = {
            "off_diagonal": OffDiagonalCovariance(off_diagonal),
            "diagonal": DiagonalCovariance(diagonal, of_samples=self._of_samples),
        }
        super().__init__(data_size, mutual_information, **_beside(penalties, options))


class DIPVAEII(DIPVAEI):
    r"""DIP-VAE-II: the covariance of the samples, to be the identity, on top of the ordinary bound.

    .. math:: L = \mathrm{ELBO} - \lambda_{od} \textstyle\sum_{i \ne j} C_{ij}^2 - \lambda_d \sum_i (C_{ii} - 1)^2,
        \qquad C = \mathrm{Cov}_x[\mu(x)] + E_x[\mathrm{diag}\, \sigma^2(x)]

    Kumar et al. (ICLR 2018), as :class:`DIPVAEI`.

    Arguments and errors are those of :class:`DIPVAEI`.
    """

    _of_samples = True


class JointVAE(HierarchicalELBO):
    r"""JointVAE: the divergence of each block is held at a capacity of its own.

    .. math:: L = E[\log p(x|z)] - \gamma \textstyle\sum_d | E[KL(q(z_d|x) \| p(z_d))] - C_d |

    Dupont, Learning Disentangled Joint Continuous and Discrete Representations (NeurIPS 2018), where d is all
    continuous variables and all discrete ones: a layout of two blocks. The capacity of a discrete block ends at the
    largest divergence that it can have, Σ log K for uniform priors.

    Args:
        data_size: N, the number of data that batches are drawn from.
        gamma: weight γ.
        capacity: block name to C_d in nats, usually a :class:`~pyro_hfvae.schedules.Linear` that starts at 0.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: a number that is not finite; on first use, names that are not those of the blocks.
    """

    def __init__(
        self, data_size: int, gamma: float | Schedule, capacity: dict[str, float | Schedule], **options: Unpack[Options]
    ) -> None:
        names = frozenset(capacity)
        penalties: dict[str, Penalty] = {
            f"divergence/{name}": BlockDivergence(name, Capacity(gamma, nats), names) for name, nats in capacity.items()
        }
        super().__init__(
            data_size, mutual_information=0.0, between=0.0, within=0.0, dimension=0.0, **_beside(penalties, options)
        )


class HFVAE(HierarchicalELBO):
    r"""HFVAE: each term at a weight; the information of discrete blocks beside others is free by default.

    At weight 1 a discrete block collapses early, because continuous blocks can encode the same information.

    .. math:: L = E[\log p(x|z)] - \alpha\, I(x; z) - \beta A - \gamma\, i - \textstyle\sum_j KL(q(z_j) \| p(z_j))

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019).

    Args:
        data_size: N, the number of data that batches are drawn from.
        mutual_information: weight α; by default 0 for discrete blocks if there are others, and 1 for all else. Give 1
            for the ordinary ELBO.
        between: weight β.
        within: weight γ.
        **options: blocks, further penalties, estimator and particles, as of :class:`HierarchicalELBO`.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(
        self,
        data_size: int,
        mutual_information: Weight | dict[str, Weight] | None = None,
        between: Weight | list[Weight] | dict[str, Weight] = 1.0,
        within: Weight | dict[str, Weight] = 1.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            data_size, 1.0 if mutual_information is None else mutual_information, between, within, **options
        )
        self._discrete_is_free = mutual_information is None

    def information_weights(self, terms: Terms) -> Weight | Mapping[str, Weight]:
        """The weights given; without, 0 for discrete blocks if there are others, and 1 for all else."""
        if not self._discrete_is_free or len({block.discrete for block in terms.blocks.values()}) < 2:
            return self.mutual_information
        return {name: 0.0 if block.discrete else 1.0 for name, block in terms.blocks.items()}
