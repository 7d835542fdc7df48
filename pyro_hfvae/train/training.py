"""The Lightning module around the objective."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from pyro.infer.elbo import ELBOModule
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pyro_hfvae.infer import HierarchicalELBO, NonFiniteError, Terms
from pyro_hfvae.infer.penalties import LearnedPenalty
from pyro_hfvae.poutine import gate, swap, trim
from pyro_hfvae.schedules import Schedule
from pyro_hfvae.weak import PairBatch, SwapBatch

__all__ = ["Training"]


class Training(LightningModule):
    """Maximises the objective over a model and a guide.

    The loss is minus the weighted ELBO per datum, so that a learning rate means the same at every batch size.

    A batch is the tuple of arguments of model and guide. Those of a :class:`~pyro_hfvae.weak.PairBatch` are x and its
    target, and the step is taken within the gates that the pairs open; those of a :class:`~pyro_hfvae.weak.SwapBatch`
    are x alone, and partners swap what they share.

    A penalty that learns (:class:`~pyro_hfvae.infer.penalties.LearnedPenalty`) has an optimiser of its own and takes
    its step after the programs have taken theirs, on the samples that were drawn before. Training is then manual
    optimisation in Lightning's sense: gradients are neither accumulated nor clipped. A batch is one step all the same.

    Args:
        model: the generative program.
        guide: the inference program.
        objective: one instance for this pair.
        optimizer: called with the parameters, makes the optimiser; Adam at 1e-3 by default.
        lr_scheduler: called with the optimiser, makes a learning-rate scheduler, which is stepped after every batch.
        temperature: schedule of the attribute ``temperature`` of model and guide.
        trim: share of the pairs that swap a block which a step leaves out, those explained worst
            (:func:`~pyro_hfvae.poutine.trim`): about the rate of wrong pairs, rather more than less; one for all blocks
            that pairs share, or by name.

    Raises:
        ValueError: a share out of range, or a temperature schedule for programs that have no ``temperature``.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        objective: HierarchicalELBO,
        optimizer: OptimizerCallable = partial(Adam, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = None,
        temperature: Schedule | None = None,
        trim: float | dict[str, float] = 0.0,
    ) -> None:
        super().__init__()
        self.programs: ELBOModule = objective(model, guide)
        self.objective = objective
        self.marginal = objective.marginal  # with its state, if it has one
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.temperature = temperature
        for value in trim.values() if isinstance(trim, dict) else [trim]:
            if not 0 <= value < 1:
                raise ValueError(f"training.trim must be from 0 to below 1, got {value}")
        self.trim = trim
        self.learned = {name: p for name, p in objective.penalties.items() if isinstance(p, LearnedPenalty)}
        # Parameters like those of the programs: moved, checkpointed and loaded with them.
        self.networks = nn.ModuleDict({_key(name): penalty.network for name, penalty in self.learned.items()})
        self.automatic_optimization = not self.learned
        self._random_state: dict[str, Tensor] | None = None
        self._validation_state: Tensor | None = None
        if temperature is not None:
            for name, program in (("model", model), ("guide", guide)):
                if not isinstance(getattr(program, "temperature", None), Tensor):
                    raise ValueError(f"the {name} {type(program).__name__} has no buffer 'temperature' to be scheduled")

    def terms(self, *batch: Any) -> Terms:
        """The terms of one batch, given as the arguments of model and guide."""
        return self.objective.terms(self.programs.model, self.programs.guide, *batch)

    @contextmanager
    def gated(self, batch: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """The arguments of model and guide for a batch, within the gates that it opens and with what partners swap."""
        blocks = self.objective.blocks
        if self.trim and not isinstance(batch, SwapBatch):
            raise ValueError(f"training.trim is {self.trim}, but no pairs swap what they share: set batches.pairs.swap")
        if isinstance(batch, PairBatch):
            with gate(batch.gates, blocks=blocks):
                yield batch.x, batch.target
        elif isinstance(batch, SwapBatch):
            if isinstance(self.trim, dict) and (unknown := [name for name in self.trim if name not in batch.shared]):
                shared = ", ".join(batch.shared)
                raise ValueError(f"training.trim names '{unknown[0]}', but what pairs share is: {shared}")
            with (
                gate(batch.gates, blocks=blocks),
                swap(batch.shared, batch.partners, blocks=blocks),
                trim(batch.shared, batch.partners, self.trim) if self.trim else nullcontext(),
            ):
                yield (batch.x,)
        else:
            yield batch

    def check_schedules(self, steps: int) -> None:
        """Raises ValueError if the temperature is no temperature at the first or the last of the steps."""
        if self.temperature is not None:
            _temperature_at(self.temperature, 0)
            _temperature_at(self.temperature, steps)

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        """Minus the weighted ELBO, in nats per datum."""
        self._follow_schedules()
        logs, (model, guide) = self._logs(), (self.programs.model, self.programs.guide)
        with self.gated(batch) as arguments:
            if logs:
                terms = self.objective.training_terms(model, guide, *arguments)
                objective = self.objective.objective(terms)
            else:
                objective = self.objective.training_objective(model, guide, *arguments)
        if logs:
            self._log_terms("train", terms, len(batch[0]))
            self.log_dict(self._scheduled())
            data = getattr(self.trainer, "datamodule", None)
            if data is not None:  # the loader has no end, so Lightning counts no epochs
                self.log("epoch", float(self.trainer.fit_loop.total_batch_idx // data.batches_per_epoch))
        loss = -objective
        if self.learned:
            self._step_by_hand(loss)
        return loss

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> None:
        """Logs the terms of held-out data."""
        self._log_terms("val", self.terms(*batch), len(batch[0]))

    def make_optimizers(self) -> list[Optimizer]:
        """The optimiser of all parameters of model and guide, and that of each penalty that learns."""
        learned = [penalty.optimizer(penalty.network.parameters()) for penalty in self.learned.values()]
        return [self.optimizer(self.programs.parameters()), *learned]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimisers, and the learning-rate scheduler of the first, as Lightning asks for them."""
        programs, *learned = self.make_optimizers()
        if self.lr_scheduler is None:
            return [programs, *learned]
        first = {"optimizer": programs, "lr_scheduler": {"scheduler": self.lr_scheduler(programs), "interval": "step"}}
        return cast(OptimizerLRScheduler, [first, *({"optimizer": optimizer} for optimizer in learned)])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops before a gradient that is not finite reaches the parameters, and so the next checkpoint."""
        parameters = [*self.programs.named_parameters(), *self.networks.named_parameters()]
        gradients = [(name, p.grad) for name, p in parameters if p.grad is not None]
        if torch.nn.utils.get_total_norm([gradient for _, gradient in gradients]).isfinite():
            return
        name = next(name for name, gradient in gradients if not gradient.isfinite().all())
        raise NonFiniteError(f"the gradient of '{name}' is not finite at step {self.global_step}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the state of the random streams, so that a resumed run draws what the whole one would."""
        checkpoint["random_state"] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            checkpoint["random_state"]["cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the state of the random streams, to be set when the first batch starts."""
        self._random_state = checkpoint["random_state"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the random streams once, after all that Lightning does before the first batch."""
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["cpu"].cpu())
            if "cuda" in self._random_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random_state["cuda"].cpu(), self.device)
            self._random_state = None

    def on_validation_start(self) -> None:
        """Puts the training's random stream aside: whether validation ran must not change the training."""
        self._validation_state = torch.get_rng_state()
        torch.manual_seed(0)

    def on_validation_end(self) -> None:
        """Takes the training's random stream up again."""
        if self._validation_state is not None:
            torch.set_rng_state(self._validation_state)

    def _step_by_hand(self, loss: Tensor) -> None:
        """Steps of all optimisers, of which Lightning counts only that of the programs."""
        logs = self._logs()  # before the programs' step, which Lightning counts
        programs, *learned = cast(list[LightningOptimizer], self.optimizers())
        programs.zero_grad()
        self.manual_backward(loss)
        programs.step()
        programs.zero_grad()
        if self.lr_scheduler is not None:  # Lightning leaves it to manual optimisation
            cast(LRScheduler, self.lr_schedulers()).step()
        for optimizer, (name, penalty) in zip(learned, self.learned.items(), strict=True):
            loss = penalty.network_loss()
            if logs:
                self.log(f"train/loss/{name}", loss.detach())
            self.manual_backward(loss)
            # The strategy's step instead of the optimiser's own, with which global_step would count a batch twice.
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)
            optimizer.zero_grad()

    def _follow_schedules(self) -> None:
        """Sets the objective's step and the temperature."""
        self.objective.step = self.global_step
        if self.temperature is not None:
            for program in (self.programs.model, self.programs.guide):
                cast(Tensor, program.temperature).fill_(_temperature_at(self.temperature, self.global_step))

    def _logs(self) -> bool:
        """Whether Lightning writes what is logged in this step; to gather it in every one takes long."""
        every = cast(int, self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        return every > 0 and (self.global_step + 1) % every == 0

    def _scheduled(self) -> dict[str, float]:
        """What follows a schedule, by name."""
        values = {f"weight/{name}": value for name, value in self.objective.scheduled_weights().items()}
        if self.temperature is not None:
            values["temperature"] = _temperature_at(self.temperature, self.global_step)
        return values

    def _log_terms(self, stage: str, terms: Terms, batch_size: int) -> None:
        values = {f"{stage}/{name}": value.detach() for name, value in terms.scalars().items()}
        if len(terms.blocks) > 1:
            for name, block in terms.blocks.items():
                values[f"{stage}/mutual_information/{name}"] = block.mutual_information.detach()
        values[f"{stage}/active_units/all"] = torch.tensor(float(terms.active_units))
        self.log_dict(values, batch_size=batch_size, prog_bar=stage == "train")


def _key(name: str) -> str:
    """A name that modules can have."""
    return name.replace(".", "_")


def _temperature_at(schedule: Schedule, step: int) -> float:
    value = schedule(step)
    if not 0 < value < math.inf:
        raise ValueError(f"the temperature must stay above 0 and finite, but is {value:g} at step {step} of {schedule}")
    return value
