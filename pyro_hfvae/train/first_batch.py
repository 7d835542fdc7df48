"""Runs the programs and the objective on a first batch before a run folder is made, so that errors come early."""

import inspect
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import nn

from pyro_hfvae.batch import Arguments
from pyro_hfvae.train.construct import where_raised
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.support import refuse_outside_support
from pyro_hfvae.train.training import Training

__all__ = ["try_first_batch"]


@torch.no_grad()
def try_first_batch(training: Training, data: DataModule) -> None:
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
                args, kwargs = arguments
                _refuse_other_arguments(training, arguments)
                training.programs.objective(training.terms(*args, **kwargs))
        except (ValueError, NotImplementedError) as error:  # whose text names what is wrong
            if (reason := _without_shapes(error)) == str(error):
                raise
            raise (ValueError if isinstance(error, ValueError) else NotImplementedError)(reason) from error
        except Exception as error:  # a network that does not fit the data, say, or a fault of the user's program
            reason = _without_shapes(error)
            if not isinstance(error, RuntimeError):
                reason = f"{type(error).__name__}: {reason} {where_raised(error)}"
            shapes = ", ".join(str(tuple(part.shape)) for part in (*args, *kwargs.values()))
            raise ValueError(f"{_failing(training, arguments)} fails on a batch of shape {shapes}: {reason}") from error
        of_guide, of_model = _traces(training, arguments)
    _refuse_other_parameters(training, of_guide, of_model)
    refuse_outside_support(of_model)


def _without_shapes(error: Exception) -> str:
    """The text of an error without the shape of every parameter, which Pyro adds."""
    return str(error).partition("Trace Shapes:")[0].rstrip()


def _refuse_other_arguments(training: Training, arguments: Arguments) -> None:
    """Pairs give a program two arguments, everything else one, and covariates by name."""
    args, kwargs = arguments
    for name in ("model", "guide"):
        program = getattr(training.programs, name)
        try:
            inspect.signature(program.forward if isinstance(program, nn.Module) else program).bind(*args, **kwargs)
        except TypeError as error:
            pairs = ", which batches.pairs without swap gives its programs" if len(args) == 2 else ""
            taken = "the two arguments x and target" if len(args) == 2 else "the one argument x"
            if kwargs:
                taken += f" with {', '.join(kwargs)} by name"
            raise ValueError(f"the {name} {type(program).__name__} does not take {taken}{pairs}: {error}") from error


def _failing(training: Training, arguments: Arguments) -> str:
    """Which program fails on its own; the model may also fail on latents that only the guide samples so."""
    args, kwargs = arguments
    for name in ("guide", "model"):
        try:
            poutine.trace(getattr(training.programs, name)).get_trace(*args, **kwargs).compute_log_prob()
        except Exception:
            return f"the {name}"
    return "the model, on the latents that the guide samples,"


def _traces(training: Training, arguments: Arguments) -> tuple[Trace, Trace]:
    """What the guide and the model do, the model on the guide's samples."""
    with pyro.get_param_store().scope():  # a parameter of an earlier training may have the same name
        args, kwargs = arguments
        of_guide = poutine.trace(training.programs.guide).get_trace(*args, **kwargs)
        replayed = poutine.replay(training.programs.model, trace=of_guide)
        return of_guide, poutine.trace(replayed).get_trace(*args, **kwargs)


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
