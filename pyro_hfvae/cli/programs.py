"""From a configuration to programs, data and objective; and from a run folder to the trained programs."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from pyro import poutine
from pytorch_lightning import seed_everything
from torch import nn

from pyro_hfvae.blocks import Blocks
from pyro_hfvae.cli.messages import constructors_reason
from pyro_hfvae.cli.parser import build_fit_parser
from pyro_hfvae.infer import HierarchicalELBO
from pyro_hfvae.infer.latents import read_posteriors, tree_of
from pyro_hfvae.train import ImageDataModule, RunFolder, Training

__all__ = ["Trained", "build_objective", "build_training", "load_run"]


def build_training(parser: ArgumentParser, config: Namespace) -> tuple[Training, ImageDataModule, Namespace]:
    """Seeds everything and builds what the configuration names.

    Returns:
        The training, its data, and the configuration with its classes instantiated.
    """
    seed_everything(config.seed, verbose=False)
    try:
        built = parser.instantiate(config)
    except ValueError as error:
        if error.__cause__ is None or "Union subtypes" not in str(error):
            raise
        # What the constructor of a class raised, which jsonargparse wraps; the cause is what the first kind said.
        reason = constructors_reason(str(error))
        raise error.__cause__ if reason in (None, str(error.__cause__)) else ValueError(reason) from None
    data = ImageDataModule(images=built.data, seed=config.seed, **_arguments(built.batches))
    objective = build_objective(built.objective, data.data_size)
    training = Training(built.model, built.guide, objective, **_arguments(built.training))
    return training, data, built


@dataclass(frozen=True)
class Trained:
    """A run, loaded."""

    folder: RunFolder
    model: nn.Module
    guide: nn.Module
    objective: HierarchicalELBO
    data: ImageDataModule
    step: int

    def blocks_of(self, x: torch.Tensor) -> Blocks:
        """Which variables of the guide form which block of the objective; x are data ``[B, ...]``, any."""
        posteriors = read_posteriors(poutine.trace(self.guide).get_trace(x))
        return tree_of(posteriors, self.objective.blocks).blocks


def load_run(folder: RunFolder) -> Trained:
    """Builds the programs of a run and loads their trained parameters.

    Raises:
        FileNotFoundError: no run, or no checkpoint yet.
        ValueError: the checkpoint cannot be read or does not fit the programs.
    """
    folder.require()
    parser = build_fit_parser()
    training, data, _ = build_training(parser, parser.parse_args(["--config", str(folder.config)]))
    checkpoint = folder.load_into(training)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    programs = training.programs.eval().to(device)
    return Trained(folder, programs.model, programs.guide, training.objective, data, checkpoint["global_step"])


def build_objective(chosen: Namespace, data_size: int) -> HierarchicalELBO:
    """The objective that the configuration names by import path, for N data."""
    make = resolve_name(chosen.class_path)
    arguments = _arguments(chosen.get("init_args", Namespace())) | chosen.get("dict_kwargs", {})
    return make(data_size=data_size, **arguments)  # type: ignore[no-any-return]


def _arguments(group: Namespace) -> dict[str, Any]:
    """The arguments of a class from its group of options."""
    return vars(group)
