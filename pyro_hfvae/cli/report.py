"""The subcommand ``report``: the page of a run or of several, and what is missing for it."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from jsonargparse import ArgumentError, Namespace

from pyro_hfvae.cli.check import check_run
from pyro_hfvae.cli.commands import evaluate_run
from pyro_hfvae.cli.loading import load
from pyro_hfvae.cli.parser import output_parsers
from pyro_hfvae.cli.traverse import traverse_run
from pyro_hfvae.files import expanded
from pyro_hfvae.plot import require_different, require_page, write_comparison, write_report
from pyro_hfvae.run_outputs import output_step, refuse_links, trained_steps
from pyro_hfvae.train import LoadedRun, RunFolder
from pyro_hfvae.train.one_line import one_line

__all__ = ["report"]

MAKE: dict[str, Callable[[LoadedRun, Namespace], None]] = {
    "evaluate": evaluate_run,
    "traverse": traverse_run,
    "check": check_run,
}
"""The function of each subcommand, in the order of the page."""


def report(options: Namespace) -> None:
    """Writes the page of a run, or one page that compares several; with ``--complete`` makes first what is missing.

    Raises:
        ValueError: a subcommand failed; says which, after the others ran and the page was written.
    """
    runs: list[Path] = [RunFolder(run).path for run in options.runs]
    for run in runs:
        RunFolder(run).require()
        refuse_links(run)
    require_different(runs)
    output: Path | None = None if options.output is None else expanded(options.output)
    if output is None and len(runs) > 1:
        output = Path("report.html")
    if output is not None:
        require_page(output)
    failed = (
        [failure for run in runs for failure in _complete(RunFolder(run), options.trust)] if options.complete else []
    )
    try:
        page = write_report(runs[0], output) if len(runs) == 1 else write_comparison(runs, cast(Path, output))
        print(f"report: {page}")
    except FileNotFoundError as error:  # a run of several that could not be evaluated
        failed = failed or [str(error)]
    if failed:
        raise ValueError("; ".join(failed))


def _complete(folder: RunFolder, trust: list[str] | None) -> list[str]:
    """Runs each subcommand whose output is missing or older than the newest checkpoint, whether or not others fail.

    Returns:
        Which failed and why, a line for each.
    """
    trained, made = trained_steps(folder.path), {command: output_step(folder.path, command) for command in MAKE}
    for command, step in made.items():
        print(f"{command} {folder.path}: {_state(step, trained)}")
    if trained is not None and all(step == trained for step in made.values()):
        return []
    try:
        run = load(folder.path, trust)
    except Exception as error:  # of a program of the user's own it may be any, here and below
        return [_message(error)]
    failed = []
    for command, make in MAKE.items():
        if made[command] == run.step:
            continue
        print(f"\n{command} {folder.path}", flush=True)
        options = output_parsers()[command].get_defaults()
        options.run = folder.path
        try:
            make(run, options)
        except Exception as error:
            failed.append(f"{command} of '{folder.path}' failed: {_message(error)}")
    return failed


def _state(step: int | None, trained: int | None) -> str:
    if step is None:
        return "to be done"
    return f"done at step {step:,}" + ("" if step == trained else ", to be done again")


def _message(error: Exception) -> str:
    """An error in one line, with its type unless bad input is the cause."""
    bad_input = isinstance(error, ArgumentError | ValueError | NotImplementedError | OSError)
    return one_line(error) if bad_input else f"{type(error).__name__}: {one_line(error)}"
