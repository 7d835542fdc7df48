"""The Lightning module around the objective."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pyro_hfvae.batch import AnyBatch, Arguments, as_arguments
from pyro_hfvae.infer import HierarchicalELBO, NonFiniteError, Terms
from pyro_hfvae.poutine import agree, gate, swap, trim
from pyro_hfvae.schedules import Schedule
from pyro_hfvae.weak import PairBatch, PartnerBatch, TrainingBatch

__all__ = ["Training"]


def adam(parameters: Iterable[Any]) -> Optimizer:
    """The default optimiser. A function with a name, unlike a lambda, can be pickled."""
    return Adam(parameters, lr=1e-3)


class Training(LightningModule):
    """Maximises the objective over a model and a guide.

    The loss is minus the weighted ELBO per datum, so that a learning rate means the same at every batch size.

    A batch is a :class:`~pyro_hfvae.data.Batch`, the arguments of model and guide, or a tuple of them. Of a
    :class:`~pyro_hfvae.weak.PairBatch` they are x and its target, and the step is taken within the gates that the pairs
    open; of a :class:`~pyro_hfvae.weak.PartnerBatch` x alone, and partners swap what they share, or only agree.

    After each optimiser step the objective's module takes its own (:meth:`~pyro_hfvae.infer.HierarchicalModule.step`):
    schedules move, a memory takes the batch in, and networks of penalties learn.

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
        optimizer: OptimizerCallable = adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        temperature: Schedule | None = None,
        trim: float | dict[str, float] = 0.0,
    ) -> None:
        super().__init__()
        self.programs = objective(model, guide)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.temperature = temperature
        for value in trim.values() if isinstance(trim, dict) else [trim]:
            if not 0 <= value < 1:
                raise ValueError(f"training.trim must be from 0 to below 1, got {value}")
        self.trim = trim
        self._network_losses: dict[str, Tensor] = {}
        self._random_state: dict[str, Tensor] | None = None
        self._validation_state: dict[str, Tensor] | None = None
        if temperature is not None:
            for name, program in (("model", model), ("guide", guide)):
                if not isinstance(getattr(program, "temperature", None), Tensor):
                    raise ValueError(f"the {name} {type(program).__name__} has no buffer 'temperature' to be scheduled")

    def terms(self, *args: Any, **kwargs: Any) -> Terms:
        """The terms of one batch, given as the arguments of model and guide."""
        return self.programs.terms(*args, **kwargs)

    @contextmanager
    def gated(self, batch: TrainingBatch) -> Iterator[Arguments]:
        """The arguments of model and guide for a batch, within the gates that it opens and with what partners swap."""
        blocks = self.programs.elbo.blocks
        if self.trim and not (isinstance(batch, PartnerBatch) and batch.swaps):
            raise ValueError(f"training.trim is {self.trim}, but no pairs swap what they share: set batches.pairs.swap")
        if not isinstance(batch, PartnerBatch):
            for name, penalty in self.programs.elbo.penalties.items():
                if penalty.needs_partners:
                    raise ValueError(
                        f"objective.penalties '{name}' compares the posteriors of partners, but the batches have none: "
                        "set batches.views, or batches.pairs with swap"
                    )
        if isinstance(batch, PairBatch):
            with gate(batch.gates, blocks=blocks):
                yield batch.arguments
        elif isinstance(batch, PartnerBatch):
            if isinstance(self.trim, dict) and (unknown := [name for name in self.trim if name not in batch.shared]):
                shared = ", ".join(batch.shared)
                raise ValueError(f"training.trim names '{unknown[0]}', but what pairs share is: {shared}")
            with (
                gate(batch.gates, blocks=blocks),
                agree(batch.shared, batch.partners, blocks=blocks),
                swap(batch.shared, batch.partners, blocks=blocks) if batch.swaps else nullcontext(),
                trim(batch.shared, batch.partners, self.trim) if self.trim else nullcontext(),
            ):
                yield batch.arguments
        else:
            yield as_arguments(batch)

    def check_schedules(self, steps: int) -> None:
        """Raises ValueError if the temperature is no temperature at the first or the last of the steps."""
        if self.temperature is not None:
            _temperature_at(self.temperature, 0)
            _temperature_at(self.temperature, steps)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Minus the weighted ELBO, in nats per datum."""
        self._follow_schedules()
        logs = self._logs()
        with self.gated(batch) as (args, kwargs):
            loss = self.programs.loss(*args, with_terms=logs, **kwargs)
        if not loss.per_datum.isfinite():  # its terms are, or the site would have been named
            raise NonFiniteError(f"the loss overflows at step {self.global_step}: its weights are too large")
        if loss.terms is not None:
            self._log_terms("train", loss.terms, len(args[0]))
            self.log_dict(self._scheduled())
            data = getattr(self.trainer, "datamodule", None)
            if data is not None:  # the loader has no end, so Lightning counts no epochs
                self.log("epoch", float(self.trainer.fit_loop.total_batch_idx // data.batches_per_epoch))
        return loss.per_datum

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, and then the objective's: before a checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        self._network_losses = self.programs.step()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs the losses of the penalties' networks."""
        for name, loss in self._network_losses.items():
            self.log(f"train/loss/{name}", loss)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Logs the terms of held-out data."""
        args, kwargs = as_arguments(batch)
        self._log_terms("val", self.terms(*args, **kwargs), len(args[0]))

    def make_optimizer(self) -> Optimizer:
        """The optimiser of all parameters of model and guide."""
        return self.optimizer(self.programs.program_parameters())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and the learning-rate scheduler, as Lightning asks for them."""
        optimizer = self.make_optimizer()
        if self.lr_scheduler is None:
            return optimizer
        scheduler = {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}
        return cast(OptimizerLRScheduler, {"optimizer": optimizer, "lr_scheduler": scheduler})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops before a gradient that is not finite reaches the parameters, and so the next checkpoint."""
        gradients = {name: p.grad for name, p in self.programs.named_parameters() if p.grad is not None}
        if torch.nn.utils.get_total_norm(gradients.values()).isfinite():
            return
        for name, gradient in gradients.items():
            if not gradient.isfinite().all():
                raise NonFiniteError(f"the gradient of '{name}' is not finite at step {self.global_step}")
        name, size = max(((name, float(g.abs().max())) for name, g in gradients.items()), key=lambda of: of[1])
        raise NonFiniteError(
            f"the gradients overflow at step {self.global_step}: that of '{name}' has numbers up to {size:g}"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the state of the random streams, so that a resumed run draws what the whole one would.

        Raises:
            NonFiniteError: a parameter is not finite, for an optimiser's step overflowed; the old checkpoint stands.
        """
        for name, parameter in self.programs.named_parameters():
            if not parameter.isfinite().all():
                raise NonFiniteError(f"the parameter '{name}' is not finite after step {self.global_step}")
        checkpoint["random_state"] = self._validation_state or self._streams()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the state of the random streams, to be set when the first batch starts."""
        self._random_state = checkpoint["random_state"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the random streams once, after all that Lightning does before the first batch."""
        if self._random_state is not None:
            self._set_streams(self._random_state)
            self._random_state = None

    def on_validation_start(self) -> None:
        """Puts the training's random stream aside: whether validation ran must not change the training."""
        self._validation_state = self._streams()
        torch.manual_seed(0)

    def on_validation_end(self) -> None:
        """Takes the training's random stream up again."""
        if self._validation_state is not None:
            self._set_streams(self._validation_state)
            self._validation_state = None

    def _streams(self) -> dict[str, Tensor]:
        """The state of the random streams that training draws from."""
        streams = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            streams["cuda"] = torch.cuda.get_rng_state(self.device)
        return streams

    def _set_streams(self, streams: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(streams["cpu"].cpu())
        if "cuda" in streams and self.device.type == "cuda":
            torch.cuda.set_rng_state(streams["cuda"].cpu(), self.device)

    def _follow_schedules(self) -> None:
        """Sets the temperature."""
        if self.temperature is not None:
            for program in (self.programs.model, self.programs.guide):
                cast(Tensor, program.temperature).fill_(_temperature_at(self.temperature, self.global_step))

    def _logs(self) -> bool:
        """Whether Lightning writes what is logged in this step; to gather it in every one takes long."""
        every = cast(int, self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        return every > 0 and (self.global_step + 1) % every == 0

    def _scheduled(self) -> dict[str, float]:
        """What follows a schedule, by name."""
        values = {f"weight/{name}": value for name, value in self.programs.elbo.scheduled_weights().items()}
        if self.temperature is not None:
            values["temperature"] = _temperature_at(self.temperature, self.global_step)
        return values

    @torch.no_grad()
    def logged_names(self, batch: TrainingBatch, validates: bool = True) -> set[str]:
        """Names of what is logged in training and, if there is any, in validation, but for losses of penalties."""
        with torch.random.fork_rng(), self.gated(batch) as (args, kwargs):
            terms = self.terms(*args, **kwargs)
        stages = ("train", "val") if validates else ("train",)
        return {"epoch", *self._scheduled(), *(name for stage in stages for name in _named(stage, terms))}

    def _log_terms(self, stage: str, terms: Terms, batch_size: int) -> None:
        self.log_dict(_named(stage, terms), batch_size=batch_size, prog_bar=stage == "train")


def _named(stage: str, terms: Terms) -> dict[str, Tensor]:
    """What is logged of the terms, by name."""
    values = {f"{stage}/{name}": value.detach() for name, value in terms.scalars().items()}
    if len(terms.blocks) > 1:
        for name, block in terms.blocks.items():
            values[f"{stage}/mutual_information/{name}"] = block.mutual_information.detach()
    values[f"{stage}/active_units/all"] = torch.tensor(float(terms.active_units))
    return values


def _temperature_at(schedule: Schedule, step: int) -> float:
    value = schedule(step)
    if not 0 < value < math.inf:
        raise ValueError(f"the temperature must stay above 0 and finite, but is {value:g} at step {step} of {schedule}")
    return value
