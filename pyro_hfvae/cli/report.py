"""The subcommand ``report``: the page of a run or of several, and what is missing for it."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from jsonargparse import ArgumentError, Namespace

from pyro_hfvae.cli.check import check_run
from pyro_hfvae.cli.commands import evaluate_run
from pyro_hfvae.cli.messages import one_line
from pyro_hfvae.cli.parser import part_parsers
from pyro_hfvae.cli.programs import Trained, load_run
from pyro_hfvae.cli.traverse import traverse_run
from pyro_hfvae.parts import made_at, trained_steps
from pyro_hfvae.plot import require_different, require_page, write_comparison, write_report
from pyro_hfvae.train import RunFolder

__all__ = ["report"]

MAKE: dict[str, Callable[[Trained, Namespace], None]] = {
    "evaluate": evaluate_run,
    "traverse": traverse_run,
    "check": check_run,
}
"""What makes each part, in the order of the page."""


def report(options: Namespace) -> None:
    """Writes the page of a run, or one page that compares several; with ``--complete`` makes first what is missing.

    Raises:
        ValueError: a part failed, among others; says which, after the other parts and the page were made.
    """
    runs: list[Path] = options.runs
    for run in runs:
        RunFolder(run).require()
    require_different(runs)
    output: Path | None = options.output
    if output is None and len(runs) > 1:
        output = Path("report.html")
    if output is not None:
        require_page(output)
    failed = [failure for run in runs for failure in _complete(RunFolder(run))] if options.complete else []
    try:
        page = write_report(runs[0], output) if len(runs) == 1 else write_comparison(runs, cast(Path, output))
        print(f"report: {page}")
    except FileNotFoundError:
        if not failed:  # else it is told already why a part is missing
            raise
    if failed:
        raise ValueError("; ".join(failed))


def _complete(folder: RunFolder) -> list[str]:
    """Makes the parts of a run that are missing or not of its newest checkpoint, each whether or not the others fail.

    Returns:
        Which parts failed and why, a line for each.
    """
    trained, made = trained_steps(folder.path), {command: made_at(folder.path, command) for command in MAKE}
    for command, step in made.items():
        print(f"{command} {folder.path}: {_state(step, trained)}")
    if trained is not None and all(step == trained for step in made.values()):
        return []
    try:
        run = load_run(folder)
    except Exception as error:  # of a program of the user's own it may be any, here and below
        return [_told(error)]
    failed = []
    for command, make in MAKE.items():
        if made[command] == run.step:
            continue
        print(f"\n{command} {folder.path}", flush=True)
        options = part_parsers()[command].get_defaults()
        options.run = folder.path
        try:
            make(run, options)
        except Exception as error:
            failed.append(f"{command} of '{folder.path}' failed: {_told(error)}")
    return failed


def _state(step: int | None, trained: int | None) -> str:
    if step is None:
        return "to be done"
    return f"done at step {step:,}" + ("" if step == trained else ", to be done again")


def _told(error: Exception) -> str:
    """What an error says in one line, with its kind where that is none of bad input."""
    bad_input = isinstance(error, ArgumentError | ValueError | NotImplementedError | OSError)
    return one_line(error) if bad_input else f"{type(error).__name__}: {one_line(error)}"
