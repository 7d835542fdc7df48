"""What an objective charges beside the terms of the ELBO."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Weight, check_weights, cost

__all__ = ["Penalty"]


class Penalty(nn.Module):
    """A measure of a batch that the objective charges, with a weight of its own.

    Args:
        weight: a number, a schedule, or a capacity to be held at.

    Raises:
        ValueError: the weight is not finite.
    """

    def __init__(self, weight: Weight = 1.0) -> None:
        super().__init__()
        check_weights("weight", weight)
        self.weight = weight

    needs_split: bool = True
    """Whether it reads terms that depend on the inference marginal. Without, the objective may leave that out."""

    needs_partners: bool = False
    """Whether it compares partners, which :class:`~pyro_hfvae.poutine.agree` names, so that training needs some."""

    @abstractmethod
    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The measure, unweighted, a differentiable scalar in nats per datum.

        Args:
            samples: runs of guide and model: of one batch in training, of all batches of a data set otherwise.
            terms: of the same data, without penalties.
        """

    def cost(self, measure: Tensor, terms: Terms, step: int) -> Tensor:
        """What the objective charges at a training step, a scalar.

        Args:
            measure: what was measured.
            terms: of the same data.
            step: training steps done.
        """
        return cost(self.weight, measure, step)
