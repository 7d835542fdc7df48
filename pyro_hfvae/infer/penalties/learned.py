"""Penalties that measure with a network of their own."""

from abc import abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.weights import Weight

__all__ = ["LearnedPenalty"]


class LearnedPenalty(Penalty):
    """A penalty with a network that learns beside model and guide, from a loss and with an optimiser of its own.

    The measure must give the network no gradient. ``pyro-hfvae fit`` and :class:`pyro_hfvae.train.Training` train the
    network; so does ``pyro.infer.SVI`` on every step. In a loop of your own call :meth:`learn` after the step of the
    programs.

    Args:
        network: what learns.
        optimizer: called with the network's parameters, makes its optimiser.
        weight: a number, a schedule, or a capacity to be held at.
    """

    def __init__(
        self, network: nn.Module, optimizer: Callable[[Iterable[Tensor]], Optimizer], weight: Weight = 1.0
    ) -> None:
        super().__init__(weight)
        self.network = network
        self.optimizer = optimizer
        self._optimizer: Optimizer | None = None

    @abstractmethod
    def network_loss(self) -> Tensor:
        """What the network minimises, a scalar, on the batch that the penalty was last measured on."""

    def learn(self) -> Tensor:
        """One step of the network on the batch that the penalty was last measured on; the loss before it."""
        if self._optimizer is None:
            self._optimizer = self.optimizer(self.network.parameters())
        self._optimizer.zero_grad()
        loss = self.network_loss()
        loss.backward()
        self._optimizer.step()
        return loss.detach()
