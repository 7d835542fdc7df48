"""The command line and its subcommands; the options of ``fit`` are in :mod:`pyro_hfvae.train.configuration`."""

from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt, restricted_number_type

import pyro_hfvae
from pyro_hfvae.cli.data import add_data_actions
from pyro_hfvae.train.configuration import Seed, add_trust, build_fit_parser
from pyro_hfvae.train.strict_yaml import STRICT_YAML

__all__ = ["build_parser", "output_parsers"]

Columns = restricted_number_type("Columns", int, [(">=", 2)])


def build_parser() -> ArgumentParser:
    """The parser of ``pyro-hfvae`` with its subcommands."""
    parser = ArgumentParser(
        prog="pyro-hfvae",
        description="Train, measure and look at structured, disentangled generative models.",
        version=pyro_hfvae.__version__,
        allow_abbrev=False,
        exit_on_error=False,
        parser_mode=STRICT_YAML,
    )
    commands = parser.add_subcommands(dest="command", required=True)
    commands.add_subcommand("fit", build_fit_parser(), help="train; leaves a run folder")
    outputs = output_parsers()
    commands.add_subcommand("evaluate", outputs["evaluate"], help="write metrics.json of a run")
    commands.add_subcommand("traverse", outputs["traverse"], help="draw the pictures of a run")
    commands.add_subcommand("report", _report_parser(), help="make one HTML page of metrics, pictures and checks")
    commands.add_subcommand("check", outputs["check"], help="check the posterior of a run")
    data = ArgumentParser(description="Look at data sets, fetch and verify their files.", exit_on_error=False)
    commands.add_subcommand("data", data, help="list, describe, fetch and verify data sets")
    add_data_actions(data)
    return parser


def output_parsers() -> dict[str, ArgumentParser]:
    """The parsers of the subcommands whose outputs the report shows."""
    return {"evaluate": _evaluate_parser(), "traverse": _traverse_parser(), "check": _check_parser()}


def _evaluate_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Measure a run on its held-out data; writes RUN/metrics.json.", exit_on_error=False
    )
    parser.add_argument("run", type=Path, help="run folder")
    add_trust(parser)
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
        help="permutations of the codes for the value of each score at chance; each costs as much as the scores",
    )
    parser.add_argument("--seed", type=Seed, default=0, help="of the regressors and of the posterior samples")
    return parser


def _traverse_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Draw the pictures of a run; writes RUN/pictures/.", exit_on_error=False)
    parser.add_argument("run", type=Path, help="run folder")
    add_trust(parser)
    parser.add_argument(
        "--columns", type=Columns, help="pictures in a row, 2 or more; by default 10, or as many as held-out data"
    )
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
    add_trust(parser)
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
    add_trust(parser)
    parser.add_argument("--data", type=PositiveInt, default=64, help="held-out data that are checked one by one")
    parser.add_argument("--draws", type=PositiveInt, default=1000, help="importance weights of each, 25 or more")
    parser.add_argument(
        "--predictive_draws", type=PositiveInt, default=100, help="data drawn for each, and kept, 39 or more"
    )
    parser.add_argument("--simulations", type=PositiveInt, default=500, help="data simulated for calibration")
    parser.add_argument("--aggregate_data", type=PositiveInt, default=2000, help="held-out data for q(z), 20 or more")
    parser.add_argument(
        "--nuts_data", type=NonNegativeInt, default=0, help="of the data, how many to run NUTS on: minutes for each"
    )
    parser.add_argument("--seed", type=Seed, default=0, help="of all draws")
    return parser
