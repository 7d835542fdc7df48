"""The options of ``fit``, which follow from the signatures of the classes that they configure, and what they build."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace  # type: ignore[attr-defined]
from jsonargparse.typing import PositiveInt, restricted_number_type
from pytorch_lightning import Trainer, seed_everything
from torch import nn

from pyro_hfvae.data import Data
from pyro_hfvae.infer import HierarchicalELBO
from pyro_hfvae.train.construct import Construct, Refusal, construct
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.one_line import one_line
from pyro_hfvae.train.strict_yaml import STRICT_YAML
from pyro_hfvae.train.trainer_options import WITHOUT_MEANING
from pyro_hfvae.train.training import Training

__all__ = ["Seed", "add_trust", "build_fit_parser", "build_objective", "build_training"]

TRAINER_DEFAULTS = {
    "trainer.accelerator": "auto",
    "trainer.devices": 1,
    "trainer.max_steps": -1,
    "trainer.val_check_interval": 500,
    "trainer.limit_val_batches": 10,
    "trainer.num_sanity_val_steps": 0,
    "trainer.log_every_n_steps": 20,
    "trainer.enable_model_summary": False,
}

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class _ConfigFile(ActionConfigFile):
    """An option for a configuration file; errors in the file name it."""

    def __call__(self, parser: Any, config: Any, path: Any, option: str | None = None) -> None:
        try:
            super().__call__(parser, config, path, option)
        except (ArgumentError, ValueError) as error:
            reason = one_line(error).removeprefix("Problems parsing config: ")
            raise ArgumentError(None, f"configuration '{path}': {reason}") from error
        except RecursionError as error:
            raise ArgumentError(None, f"configuration '{path}': it is nested too deeply") from error


def build_fit_parser() -> ArgumentParser:
    """The options of ``fit``, which are also the keys of a configuration and of a run's ``config.yaml``."""
    parser = ArgumentParser(
        description="Train a model and a guide; leaves a run folder.", exit_on_error=False, parser_mode=STRICT_YAML
    )
    parser.add_argument("--config", action=_ConfigFile, help="YAML file with any of the options below")
    parser.add_argument("--run", type=Path, required=True, help="folder to make")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run, with its own configuration")
    add_trust(parser)
    parser.add_argument("--seed", type=Seed, default=0, help="of parameters, samples, split and shuffles")
    parser.add_argument("--checkpoint_every", type=PositiveInt, default=500, help="training steps between checkpoints")
    # Before the programs: instantiated in this order, for programs may be given the data.
    parser.add_subclass_arguments(Data, "data", required=True, help="import path of the data")
    parser.add_subclass_arguments(
        nn.Module, "model", required=True, skip={"data"}, help="import path of the generative program"
    )
    parser.add_subclass_arguments(
        nn.Module, "guide", required=True, skip={"data"}, help="import path of the inference program"
    )
    parser.add_class_arguments(DataModule, "batches", skip={"source", "seed"}, instantiate=False)
    add_objective(parser)
    parser.add_class_arguments(
        Training, "training", skip={"model", "guide", "objective"}, instantiate=False, sub_configs=True
    )
    parser.add_class_arguments(Trainer, "trainer", skip=WITHOUT_MEANING, instantiate=False)
    parser.set_defaults(TRAINER_DEFAULTS)
    # The default of Training, as a class with options of its own.
    parser.set_defaults({"training.optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}})
    return parser


def add_trust(parser: ArgumentParser) -> None:
    """The option ``--trust MODULE``, once for each module."""
    parser.add_argument(
        "--trust",
        action="append",
        metavar="MODULE",
        help="import what the configuration of a run that is not your own names of this module; may be repeated",
    )


def add_objective(parser: ArgumentParser) -> None:
    """The objective: a class or a function by import path, of which N is not asked for; its options follow."""
    parser.add_subclass_arguments(
        HierarchicalELBO,
        "objective",
        skip={"data_size"},
        instantiate=False,  # N comes from the data
        default={"class_path": "pyro_hfvae.infer.HierarchicalELBO"},
        help="import path of the objective, HierarchicalELBO by default, whose weights are "
        "--objective.mutual_information, --objective.between, --objective.within and --objective.dimension, and whose "
        "blocks are --objective.blocks; all options by --objective.help",
    )


def build_training(parser: ArgumentParser, config: Namespace) -> tuple[Training, DataModule, Namespace]:
    """Seeds everything and builds what the configuration names.

    Returns:
        The training, its data, and the configuration with its classes instantiated.

    Raises:
        ValueError, NotImplementedError, OSError: what is named cannot be made; says why. Or a value stands in the place
            of a group of options.
    """
    for group in ("batches", "training", "trainer"):
        if not isinstance(config[group], Namespace):
            raise ValueError(f"{group} must be a mapping of options, got {config[group]!r}")
    for name in ("model", "guide", "data", "objective"):
        if config[name] is None:
            raise ValueError(f"{name} must name a class by its import path, got null")
    for name in ("seed", "checkpoint_every"):
        if config[name] is None:
            raise ValueError(f"{name} must not be null")
    seed_everything(config.seed, verbose=False)
    instantiator = Construct()
    try:
        built = parser.instantiate(config, instantiators=[(instantiator, object, True)])
    except Refusal as refusal:
        raise refusal.error from None
    instantiator.instantiating = False
    data = construct(DataModule, source=built.data, seed=config.seed, **vars(built.batches))
    objective = build_objective(built.objective, data.data_size)
    training = construct(Training, built.model, built.guide, objective, **vars(built.training))
    return training, data, built


def build_objective(chosen: Namespace, data_size: int) -> HierarchicalELBO:
    """The objective that the configuration names by import path, for N data."""
    make = resolve_name(chosen.class_path)
    arguments = vars(chosen.get("init_args", Namespace())) | chosen.get("dict_kwargs", {})
    return construct(make, data_size=data_size, **arguments)  # type: ignore[no-any-return]
