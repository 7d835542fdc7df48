"""Penalties that measure with a network of their own."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.weights import Weight

__all__ = ["LearnedPenalty"]


class LearnedPenalty(Penalty):
    """A penalty with a network that learns beside model and guide, from a loss and with an optimiser of its own.

    The measure must give the network no gradient. The network learns when the objective's module takes a step
    (:meth:`~pyro_hfvae.infer.HierarchicalModule.step`), as ``pyro.infer.SVI`` and ``pyro-hfvae fit`` have it do.

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
        self._optimizer_state: dict[str, Any] | None = None  # of a checkpoint, until the optimiser is made

    @abstractmethod
    def network_loss(self, sample: Sample) -> Tensor:
        """What the network minimises, a scalar, on the batch of a training step."""

    def learn(self, sample: Sample) -> Tensor:
        """One step of the network; the loss before it."""
        loss = self.network_loss(sample)
        optimizer = self._made_optimizer()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def _made_optimizer(self) -> Optimizer:
        if self._optimizer is None:
            self._optimizer = self.optimizer(self.network.parameters())
            if self._optimizer_state is not None:
                self._optimizer.load_state_dict(self._optimizer_state)
                self._optimizer_state = None
        return self._optimizer

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the optimiser."""
        return {"optimizer": self._optimizer_state if self._optimizer is None else self._optimizer.state_dict()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes up the state of the optimiser."""
        self._optimizer, self._optimizer_state = None, state["optimizer"]
