"""Runs the programs and the objective on a first batch before a run folder is made, so that errors come early."""

import inspect
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from pyro_hfvae.train.construct import where_raised
from pyro_hfvae.train.data_module import ImageDataModule
from pyro_hfvae.train.support import refuse_outside_support
from pyro_hfvae.train.training import Training

__all__ = ["try_first_batch"]


@torch.no_grad()
def try_first_batch(training: Training, data: ImageDataModule) -> None:
    """Runs model, guide and objective once and leaves the random streams as they were.

    Raises:
        ValueError, NotImplementedError: a program fails, the objective is not defined for the programs, the data are
            outside of the support of their likelihood, nothing can be trained, or a program has parameters that would
            not be.
    """
    if not any(parameter.requires_grad for parameter in training.programs.program_parameters()):
        raise ValueError("model and guide have no parameters to train")
    batch = data.first_batch()
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        try:
            with training.gated(batch) as arguments:
                _refuse_other_arguments(training, arguments)
                training.programs.objective(training.terms(*arguments))
        except (ValueError, NotImplementedError):  # which say themselves what is wrong
            raise
        except Exception as error:  # a network that does not fit the images, say, or a fault of the user's program
            reason = str(error).partition("Trace Shapes:")[0].rstrip()  # Pyro adds the shape of every parameter
            if not isinstance(error, RuntimeError):
                reason = f"{type(error).__name__}: {reason} {where_raised(error)}"
            shapes = ", ".join(str(tuple(part.shape)) for part in arguments)
            raise ValueError(f"{_failing(training, arguments)} fails on a batch of shape {shapes}: {reason}") from error
        of_guide, of_model = _traces(training, arguments)
    _refuse_other_parameters(training, of_guide, of_model)
    refuse_outside_support(of_model)


def _refuse_other_arguments(training: Training, arguments: tuple[Tensor, ...]) -> None:
    """Pairs give a program two arguments, everything else one."""
    for name in ("model", "guide"):
        program = getattr(training.programs, name)
        try:
            inspect.signature(program.forward if isinstance(program, nn.Module) else program).bind(*arguments)
        except TypeError as error:
            pairs = ", which batches.pairs without swap gives its programs" if len(arguments) == 2 else ""
            taken = "the two arguments x and target" if len(arguments) == 2 else "the one argument x"
            raise ValueError(f"the {name} {type(program).__name__} does not take {taken}{pairs}: {error}") from error


def _failing(training: Training, arguments: tuple[Tensor, ...]) -> str:
    """Which program fails on its own; the model may also fail on latents that only the guide samples so."""
    for name in ("guide", "model"):
        try:
            poutine.trace(getattr(training.programs, name)).get_trace(*arguments).compute_log_prob()
        except Exception:
            return f"the {name}"
    return "the model, on the latents that the guide samples,"


def _traces(training: Training, arguments: tuple[Tensor, ...]) -> tuple[Trace, Trace]:
    """What the guide and the model do, the model on the guide's samples."""
    with pyro.get_param_store().scope():  # a parameter of an earlier training may have the same name
        of_guide = poutine.trace(training.programs.guide).get_trace(*arguments)
        return of_guide, poutine.trace(poutine.replay(training.programs.model, trace=of_guide)).get_trace(*arguments)


def _refuse_other_parameters(training: Training, of_guide: Trace, of_model: Trace) -> None:
    """Only parameters of the modules reach the optimiser and the checkpoint: a bare ``pyro.param`` would not."""
    trained = {id(parameter) for parameter in training.programs.program_parameters()}
    for program, trace in (("guide", of_guide), ("model", of_model)):
        for name, site in trace.nodes.items():
            if site["type"] == "param" and id(_unconstrained(site["value"])) not in trained:
                raise ValueError(
                    f"pyro.param '{name}' of the {program} would be neither trained nor saved: make it a PyroParam "
                    f"attribute of the {program}, a PyroModule"
                )


def _unconstrained(value: Any) -> Any:
    """What an optimiser moves of a parameter."""
    return value.unconstrained() if hasattr(value, "unconstrained") else value
