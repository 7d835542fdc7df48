"""The total correlation of the inference marginal, measured by a discriminator (FactorVAE)."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from pyro_hfvae.infer.penalties.learned import LearnedPenalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Weight
from pyro_hfvae.sites import DiscreteSite

__all__ = ["DensityRatio", "DiscriminatorAdam"]


class DiscriminatorAdam(Adam):
    """Adam with the settings of Kim and Mnih (ICML 2018), for the discriminator.

    Args:
        params: what it optimises.
        lr: learning rate.
        betas: of the running means.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-4, betas: tuple[float, float] = (0.5, 0.9)) -> None:
        super().__init__(params, lr=lr, betas=betas)


class DensityRatio(LearnedPenalty):
    r"""Total correlation by the density-ratio trick, in nats per datum.

    .. math:: KL(q(z) \| \textstyle\prod_j q(z_j)) \approx E_{q(z)}\left[\log \frac{D(z)}{1 - D(z)}\right]

    Kim and Mnih, Disentangling by Factorising (ICML 2018). D separates samples of q(z) from those of Π_j q(z_j),
    which are samples of q(z) with each variable permuted over the batch, and minimises

    .. math:: -\frac{1}{2 B} \sum_b \left[ \log D(z_b) + \log(1 - D(z'_b)) \right]

    as there, but for z', which comes from a second batch there and is the same batch permuted here. The expectation of
    the loss is the same, since each of its terms sees samples of one kind only; its variance is not, and one pass
    through the guide is saved. In a batch of B two variables of z' still stem from the same datum at odds of 1 to
    B - 1.

    j runs over all variables. A categorical is one of them and enters by its relaxed sample, the one that the decoder
    sees, which is permuted as a whole. D is a dense network with leaky ReLU of slope .2.

    The value is right where D is optimal; a D that learns too slowly gives too little. It takes no gradient from the
    objective, and gives none to the programs when it learns.

    Args:
        weight: a number, a schedule, or a capacity to be held at.
        hidden: sizes of D's hidden layers; six of 1,000, as in the paper, by default.
        optimizer: called with D's parameters, makes its optimiser; Adam at 1e-4 with betas (.5, .9), as there, by
            default.

    Raises:
        ValueError: the weight is not finite, or no hidden layers; when D learns, a batch of one datum.
    """

    needs_split = False

    def __init__(
        self,
        weight: Weight = 1.0,
        hidden: Sequence[int] = (1000,) * 6,
        optimizer: Callable[[Iterable[Tensor]], Optimizer] = DiscriminatorAdam,
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"the discriminator needs one hidden layer or more, of 1 unit or more, got {list(hidden)}")
        layers: list[nn.Module] = [nn.LazyLinear(hidden[0]), nn.LeakyReLU(0.2)]
        for size, after in pairwise(hidden):
            layers += [nn.Linear(size, after), nn.LeakyReLU(0.2)]
        super().__init__(nn.Sequential(*layers, nn.Linear(hidden[-1], 1)), optimizer, weight)

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The estimate, whose gradient goes to the samples only; a mean over the data of all batches."""
        rows = torch.cat([torch.cat(_variables(sample), -1) for sample in samples])  # [S·B, ΣK]
        if isinstance(first := self.network.get_submodule("0"), nn.LazyLinear) and first.has_uninitialized_params():
            self.network.to(rows)
            with torch.no_grad():
                self.network(rows)
        frozen = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        logits: Tensor = functional_call(self.network, frozen, (rows,))
        return logits.to(rows.dtype).mean()

    def network_loss(self, sample: Sample) -> Tensor:
        """The loss of D on the samples of a batch."""
        variables = [variable.detach() for variable in _variables(sample)]
        rows = len(variables[0])
        if rows < 2:
            raise ValueError("a batch of one datum cannot be permuted; the discriminator needs two or more")
        permuted = [variable[torch.randperm(rows, device=variable.device)] for variable in variables]
        logits: Tensor = self.network(torch.cat([torch.cat(variables, -1), torch.cat(permuted, -1)]))
        joint, product = logits.to(variables[0].dtype).chunk(2)
        return (softplus(-joint) + softplus(product)).mean() / 2


def _variables(sample: Sample) -> list[Tensor]:
    """The sample of each variable, [S·B, 1], or [S·B, K] of a categorical or of a point on a simplex."""
    found: list[Tensor] = []
    for name, site in sample.posteriors.items():
        value = site.value.expand(*sample.shape, *site.fn.event_shape)
        if not isinstance(site, DiscreteSite):
            found += value.reshape(sample.shape.numel(), site.variables, -1).unbind(1)
            continue
        if not site.relaxed:
            raise NotImplementedError(
                f"site '{name}' of the guide is not relaxed: its sample has no gradient, which the discriminator "
                "needs; use Concrete"
            )
        relaxed = value.to(site.log_mass.dtype)
        if site.binary:
            relaxed = torch.stack([1 - relaxed, relaxed], -1)
        found += relaxed.reshape(sample.shape.numel(), site.variables, site.categories).unbind(1)
    return found
