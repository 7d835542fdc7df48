"""From a run folder to the trained programs, their objective and their data."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import cast

import pyro
import torch
from jsonargparse import ArgumentError
from pyro.nn import PyroModule
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.blocks import Blocks, Node
from pyro_hfvae.infer import HierarchicalELBO
from pyro_hfvae.train.configuration import build_fit_parser, build_training
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.data_record import split_record
from pyro_hfvae.train.one_line import one_line
from pyro_hfvae.train.resuming import refuse_other_data
from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.trust import limited_imports

__all__ = ["LoadedRun", "load_run"]


@dataclass(frozen=True)
class LoadedRun:
    """A run, loaded."""

    folder: RunFolder
    """Its files."""
    model: nn.Module
    """The generative program with its trained parameters, in evaluation mode, on ``device``."""
    guide: nn.Module
    """The inference program, likewise."""
    objective: HierarchicalELBO
    """The objective that they were trained with."""
    data: DataModule
    """The data with the same split into training and held-out data."""
    step: int
    """Training steps of the checkpoint."""
    device: torch.device
    """Where the programs are: a GPU where there is one, else the CPU."""

    def blocks_of(self, data: Inputs) -> Blocks:
        """Which variables of the guide form which block of the objective; any data will do."""
        return cast(Node, as_batch(data)(self.objective(self.model, self.guide).tree)).blocks


def load_run(folder: str | PathLike[str], trust: Sequence[str] = ()) -> LoadedRun:
    """Builds the programs and the data of a run as its configuration names them, and loads the newest checkpoint.

    Nothing in the checkpoint is unpickled. The classes that the configuration names are imported and called; unless it
    is one that was given to ``fit`` on this machine, only those of this library, of ``torch.nn`` and ``torch.optim``,
    and of the modules in ``trust``. Random streams are left as they were.

    Args:
        folder: that ``pyro-hfvae fit`` or :func:`fit` left.
        trust: import paths of modules whose classes the configuration may name too.

    Raises:
        FileNotFoundError: it is no run folder, or has no checkpoint yet.
        ValueError: the configuration cannot be read or names what is not trusted, a link leads out of the folder, the
            checkpoint cannot be read or does not fit the programs, the split into training and held-out data is another
            one, or the programs have Pyro parameters, which would be
            shared by name with those of other programs.
    """
    run = RunFolder(Path(folder))
    parser = build_fit_parser()
    with limited_imports(run, trust), isolate_rng():
        try:
            options = parser.parse_args(["--config", str(run.config)])
        except ArgumentError as error:
            raise ValueError(one_line(error)) from error
        training, data, _ = build_training(parser, options)
    checkpoint = run.load_checkpoint()
    refuse_other_data(run, checkpoint["data"], split_record(data))
    run.load_into(training, checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    programs = training.programs.eval().to(device)
    for program in (programs.model, programs.guide):
        _refuse_global_parameters(program)
    return LoadedRun(run, programs.model, programs.guide, programs.elbo, data, checkpoint["global_step"], device)


def _refuse_global_parameters(program: nn.Module) -> None:
    """Without module-local parameters a PyroParam takes the value of another program's of the same name."""
    if pyro.settings.get("module_local_params"):
        return
    for name, module in program.named_modules():
        for parameter in module._pyro_params if isinstance(module, PyroModule) else ():
            raise ValueError(
                f"{type(program).__name__} has the Pyro parameter '{'.'.join(filter(None, (name, parameter)))}', which "
                "would be shared with other programs: call pyro.settings.set(module_local_params=True) before load_run"
            )
