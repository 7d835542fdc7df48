"""The report of several runs: one HTML page that sets groups of runs side by side, with the spread over seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyro_hfvae.plot.file_names import picture_name
from pyro_hfvae.plot.group_curves import group_curves
from pyro_hfvae.plot.groups import (
    Agreement,
    Group,
    Spread,
    agreement,
    block_factor_of,
    differing_options,
    group_runs,
    information_of,
    spread,
    swaps_of,
)
from pyro_hfvae.plot.page import Picture, embed, from_figure, write_page
from pyro_hfvae.plot.report import EXPLAINED, EXPLAINED_DCI, EXPLAINED_SCORES
from pyro_hfvae.plot.run_content import RunContent, read_run, whole
from pyro_hfvae.plot.summary import active_above, inactive

__all__ = ["require_different", "write_comparison"]


class _Score(NamedTuple):
    """A row of the table of scores: what it is, and for each group its spread and that of its chance."""

    title: str
    meaning: str
    groups: list[Spread]
    chances: list[Spread]


def write_comparison(runs: Sequence[Path], output: Path) -> Path:
    """Write the page of several runs, whole or not at all.

    Runs that have the same configuration apart from their seed form a group.

    Args:
        runs: folders with `metrics.json` and `config.yaml`; pictures, `metrics.csv` and `codes.npz` are used where they
            are there.
        output: the page.

    Returns:
        `output`.

    Raises:
        ValueError: a folder is given twice, or a file cannot be read.
        FileNotFoundError: a run has no `metrics.json`.
    """
    require_different(runs)
    for run in runs:
        if not (Path(run) / "metrics.json").is_file():
            raise FileNotFoundError(f"{run} has no metrics.json: run 'pyro-hfvae evaluate {run}' first")
    contents = [read_run(Path(run)) for run in runs]
    with whole(contents):
        write_page(output, "comparison.html", **_content(contents))
    return output


def require_different(runs: Sequence[Path]) -> None:
    """Refuses a run that is given twice.

    Raises:
        ValueError: one is; names it.
    """
    places = [Path(run).resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"run {run} is given twice")


def _content(runs: Sequence[RunContent]) -> dict[str, Any]:
    groups = group_runs(runs)
    agreements = [agreement(group) for group in groups]
    scores = [_score(key, title, meaning, groups) for key, title, meaning in (*EXPLAINED_DCI, *EXPLAINED_SCORES)]
    if any(found.scores for found in agreements):
        none = [spread([]) for _ in groups]
        meaning = "whether runs of other seeds find the same variables; it needs no factors"
        scores.append(_Score("UDR", meaning, [spread(found.scores) for found in agreements], none))
    return {
        "name": _names(runs),
        "groups": groups,
        "options": differing_options(groups),
        "data_names": list(dict.fromkeys((run.metrics.get("data") or {}).get("name") or "data" for run in runs)),
        "held_out_differs": len({(run.metrics.get("data") or {}).get("held_out") for run in runs}) > 1,
        "terms": [
            _Score(title, meaning, [_spread(group, _term(key)) for group in groups], [])
            for key, title, meaning in EXPLAINED
        ],
        "scores": [score for score in scores if any(found.count for found in score.groups)],
        "scores_of": {run.path: _scores(run) for run in runs},
        "inactive_in": {run.path: ", ".join(inactive(run.metrics).blocks) for run in runs},
        "reasons": _reasons(groups, agreements),
        "udr_of": {
            run.path: score
            for group, found in zip(groups, agreements, strict=True)
            for run, score in zip(group.runs, found.scores, strict=bool(found.scores))
        },
        "block_factor": [block_factor_of(group) for group in groups],
        "swaps": [swaps_of(group) for group in groups],
        "information": [information_of(group) for group in groups],
        "active_above": next((active_above(run.metrics) for run in runs), 0.0),
        "curves": _curves(groups),
        "stale": [run for run in runs if run.stale],
        "checked": [run for group in groups for run in group.runs if run.checks],
        "group_of": {run.path: group.name for group in groups for run in group.runs},
        "traversals": {run.path: _traversals(run) for run in runs},
    }


def _term(key: str) -> Callable[[RunContent], Any]:
    return lambda run: (run.metrics.get("terms") or {}).get(key)


def _score(key: str, title: str, meaning: str, groups: Sequence[Group]) -> _Score:
    def part(which: str) -> Callable[[RunContent], Any]:
        return lambda run: _scores(run).get(key, {}).get(which)

    return _Score(
        title,
        meaning,
        [_spread(group, part("value")) for group in groups],
        [_spread(group, part("chance")) for group in groups],
    )


def _scores(run: RunContent) -> dict[str, Any]:
    return (run.metrics.get("disentanglement") or {}).get("scores") or {}


def _spread(group: Group, value: Callable[[RunContent], float | None]) -> Spread:
    return spread(value(run) for run in group.runs)


def _reasons(groups: Sequence[Group], agreements: Sequence[Agreement]) -> list[str]:
    """Why UDR is not known of a group of several runs."""
    return [
        f"group {group.name}: {found.reason}"
        for group, found in zip(groups, agreements, strict=True)
        if found.reason and len(group.runs) > 1
    ]


def _names(runs: Sequence[RunContent]) -> dict[Path, str]:
    """Folder names, or whole paths where two are the same."""
    names = [run.name for run in runs]
    return {run.path: run.name if names.count(run.name) == 1 else str(run.path) for run in runs}


def _curves(groups: Sequence[Group]) -> Picture | None:
    histories = {f"group {group.name}": [run.history for run in group.runs] for group in groups}
    figure = group_curves(histories)
    if figure is None:
        return None
    caption = (
        "Held-out data during training: the mean over the runs of a group (line) between the least and the greatest "
        "(band). The first tenth of the steps may run out of the panels."
    )
    trained = [name for name, runs in histories.items() if not any("val/" in key for run in runs for key in run)]
    if trained:
        caption += f" Without validation, and therefore of batches of training: {', '.join(trained)}."
    return from_figure(figure, caption)


def _traversals(run: RunContent) -> list[Picture]:
    """One for each block."""
    drawn = {path.stem: path for path in run.pictures if path.suffix == ".png"}
    blocks = (run.metrics.get("terms") or {}).get("blocks") or {}
    names = [(block, name) for block in blocks if (name := picture_name("traversal_", block)) in drawn]
    return [embed(drawn[name], f"Block {block}") for block, name in names]
