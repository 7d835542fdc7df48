"""The subcommand ``check``: ArviZ groups, pictures and a summary of the posterior checks of a run."""

from typing import Any, cast

import torch
from jsonargparse import Namespace

from pyro_hfvae.batch import Batch
from pyro_hfvae.cli.loading import load
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.run_outputs import record_files
from pyro_hfvae.train import LoadedRun

__all__ = ["check", "check_run"]


def check(options: Namespace) -> None:
    """Checks the posterior of a run, writes ``checks/`` and prints the summary."""
    check_run(load(options.run, options.trust), options)


def check_run(run: LoadedRun, options: Namespace) -> None:
    """Checks a run that is loaded."""
    # ArviZ takes seconds to import, which neither the other subcommands nor a folder that is no run need wait for.
    from pyro_hfvae.posterior import check_figures, findings, run_checks, summary, to_arviz, write_netcdf
    from pyro_hfvae.posterior.aggregate import SMALLEST

    blocks = run.objective.blocks
    few, many = _held_out(run, options.data), _held_out(run, options.aggregate_data)
    enough = many.size >= SMALLEST or options.aggregate_data < SMALLEST  # what the user asks for is refused there
    torch.manual_seed(options.seed)
    checks = run_checks(
        run.model,
        run.guide,
        few,
        _held_out(run, options.simulations),
        many.split(256) if enough else None,
        blocks=blocks,
        draws=options.draws,
        predictive_draws=options.predictive_draws,
        nuts_data=min(options.nuts_data, few.size),
        seed=options.seed,
    )
    found = summary(findings(checks))
    if not enough:
        found += f"\nq(z) was not compared with p(z): that needs {SMALLEST} held-out data, and there are {many.size}\n"
    groups = to_arviz(
        run.model, run.guide, few.x, draws=options.predictive_draws, blocks=blocks, **cast(Any, few.others)
    )
    run.folder.checks.mkdir(exist_ok=True)
    write_netcdf(groups, run.folder.checks / "posterior.nc")
    figures = {f"{name}.png": figure for name, figure in check_figures(checks).items()}
    for name, figure in figures.items():
        write_figure(run.folder.checks / name, figure)
    write_atomically(run.folder.checks / "summary.txt", found)
    record_files(run.folder.checks, run.step, figures)
    print(f"{found}\nchecks: {run.folder.checks}")


def _held_out(run: LoadedRun, count: int) -> Batch:
    """The first held-out data, ``count`` of them at most."""
    return Batch.joined(batch for batch, _ in run.data.held_out_batches(count)).to(run.device)
