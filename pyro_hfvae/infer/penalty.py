"""What an objective charges beside the terms of the ELBO."""

from abc import ABC, abstractmethod

from torch import Tensor

from pyro_hfvae.infer.run import Run
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Weight, check_finite

__all__ = ["Penalty"]


class Penalty(ABC):
    """A measure of a batch that the objective charges, with a weight of its own.

    Args:
        weight: a number, a schedule, or a capacity to be held at.

    Raises:
        ValueError: the weight is not finite.
    """

    def __init__(self, weight: Weight = 1.0) -> None:
        check_finite("weight", weight)
        self.weight = weight

    needs_split: bool = True
    """Whether it reads terms that depend on the inference marginal. Without, the objective may leave that out."""

    @abstractmethod
    def __call__(self, run: Run, terms: Terms) -> Tensor:
        """The measure, unweighted, a differentiable scalar in nats per datum.

        Args:
            run: guide and model on a batch.
            terms: of the same batch, without penalties.
        """
