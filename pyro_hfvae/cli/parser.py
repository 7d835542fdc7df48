"""The command line: every option follows from the signature of the class that it configures."""

from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser  # type: ignore[attr-defined]
from jsonargparse.typing import NonNegativeInt, PositiveInt, restricted_number_type
from pytorch_lightning import Trainer
from torch import nn

import pyro_hfvae
from pyro_hfvae.data import Images
from pyro_hfvae.infer import HierarchicalELBO
from pyro_hfvae.train import ImageDataModule, Training

__all__ = ["build_fit_parser", "build_parser", "part_parsers"]

TRAINER_DEFAULTS = {
    "trainer.accelerator": "auto",
    "trainer.devices": 1,
    "trainer.max_steps": -1,
    "trainer.val_check_interval": 500,
    "trainer.check_val_every_n_epoch": None,  # the loader has no end: validation is counted in steps
    "trainer.limit_val_batches": 10,
    "trainer.num_sanity_val_steps": 0,
    "trainer.log_every_n_steps": 20,
    "trainer.enable_model_summary": False,
    "trainer.use_distributed_sampler": False,
}

Columns = restricted_number_type("Columns", int, [(">=", 2)])
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class _ConfigFile(ActionConfigFile):
    """An option for a configuration file; what is wrong in the file is told with its name."""

    def __call__(self, parser: Any, config: Any, path: Any, option: str | None = None) -> None:
        try:
            super().__call__(parser, config, path, option)
        except (ArgumentError, ValueError) as error:
            raise ArgumentError(None, f"configuration '{path}': {error}") from error


def build_parser() -> ArgumentParser:
    """The parser of ``pyro-hfvae`` with its subcommands."""
    parser = ArgumentParser(
        prog="pyro-hfvae",
        description="Train, measure and look at structured, disentangled generative models.",
        version=pyro_hfvae.__version__,
        exit_on_error=False,
    )
    commands = parser.add_subcommands(dest="command", required=True)
    commands.add_subcommand("fit", build_fit_parser(), help="train; leaves a run folder")
    parts = part_parsers()
    commands.add_subcommand("evaluate", parts["evaluate"], help="write metrics.json of a run")
    commands.add_subcommand("traverse", parts["traverse"], help="draw the pictures of a run")
    commands.add_subcommand("report", _report_parser(), help="make one HTML page of metrics, pictures and checks")
    commands.add_subcommand("check", parts["check"], help="check the posterior of a run")
    return parser


def build_fit_parser() -> ArgumentParser:
    """The options of ``fit``, which are also the keys of a configuration and of a run's ``config.yaml``."""
    parser = ArgumentParser(description="Train a model and a guide; leaves a run folder.", exit_on_error=False)
    parser.add_argument("--config", action=_ConfigFile, help="YAML file with any of the options below")
    parser.add_argument("--run", type=Path, required=True, help="folder to make")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run, with its own configuration")
    parser.add_argument("--seed", type=Seed, default=0, help="of parameters, samples, split and shuffles")
    parser.add_argument("--checkpoint_every", type=PositiveInt, default=500, help="training steps between checkpoints")
    parser.add_subclass_arguments(nn.Module, "model", required=True, help="import path of the generative program")
    parser.add_subclass_arguments(nn.Module, "guide", required=True, help="import path of the inference program")
    parser.add_subclass_arguments(Images, "data", required=True, help="import path of the data")
    parser.add_class_arguments(ImageDataModule, "batches", skip={"images", "seed"}, instantiate=False)
    add_objective(parser)
    parser.add_class_arguments(
        Training, "training", skip={"model", "guide", "objective"}, instantiate=False, sub_configs=True
    )
    parser.add_class_arguments(
        Trainer, "trainer", skip={"logger", "default_root_dir", "enable_checkpointing"}, instantiate=False
    )
    parser.set_defaults(TRAINER_DEFAULTS)
    return parser


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


def part_parsers() -> dict[str, ArgumentParser]:
    """The parsers of the subcommands that each make a part of what the report shows."""
    return {"evaluate": _evaluate_parser(), "traverse": _traverse_parser(), "check": _check_parser()}


def _evaluate_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure a run on its held-out data; writes RUN/metrics.json.", exit_on_error=False
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--samples", type=PositiveInt, default=10_000, help="held-out data for the metrics, at most")
    parser.add_argument(
        "--term_samples",
        type=PositiveInt,
        default=5_000,
        help="held-out data for the exact terms, whose cost is quadratic",
    )
    parser.add_argument(
        "--permutations",
        type=NonNegativeInt,
        default=5,
        help="random orders of the codes that tell what each score is at chance; each costs as much as the scores",
    )
    parser.add_argument("--seed", type=Seed, default=0, help="of the regressors and of the posterior samples")
    return parser


def _traverse_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Draw the pictures of a run; writes RUN/pictures/.", exit_on_error=False)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--columns", type=Columns, default=10, help="pictures in a row, 2 or more")
    parser.add_argument(
        "--image", type=NonNegativeInt, help="start the traversals from this image of the data too, by its index"
    )
    parser.add_argument("--prior", action="store_true", help="start the traversals from the prior's mean too")
    parser.add_argument("--gif", action="store_true", help="write the traversals as animations too")
    parser.add_argument("--seed", type=Seed, default=0, help="of what is drawn")
    return parser


def _report_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="One self-contained page of a run; of several, a page that compares them, with the spread over "
        "seeds.",
        exit_on_error=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, one or more")
    parser.add_argument(
        "--complete",
        action="store_true",
        help="first do, with their defaults, whatever of evaluate, traverse and check was not done at the run's newest "
        "checkpoint",
    )
    parser.add_argument(
        "--output", type=Path, help="file to write; RUN/report.html by default, report.html here for several runs"
    )
    return parser


def _check_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Check the posterior of a run on its held-out data; writes RUN/checks/.", exit_on_error=False
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--data", type=PositiveInt, default=64, help="held-out data that are checked one by one")
    parser.add_argument("--draws", type=PositiveInt, default=1000, help="importance weights of each, 25 or more")
    parser.add_argument(
        "--predictive_draws", type=PositiveInt, default=100, help="data drawn for each, and kept, 39 or more"
    )
    parser.add_argument("--simulations", type=PositiveInt, default=200, help="data simulated for calibration")
    parser.add_argument("--aggregate_data", type=PositiveInt, default=2000, help="held-out data for q(z), 20 or more")
    parser.add_argument(
        "--nuts_data", type=NonNegativeInt, default=0, help="of the data, how many to run NUTS on: minutes for each"
    )
    parser.add_argument("--seed", type=Seed, default=0, help="of all draws")
    return parser
