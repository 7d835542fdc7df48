"""Runs that differ by their seed only, put together: means and standard deviations of what was measured, and UDR."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics import udr
from pyro_hfvae.plot.heat_table import BOUNDS, HeatTable, as_array, heat_table, score_table, swap_table
from pyro_hfvae.plot.run_content import RunContent
from pyro_hfvae.plot.summary import inactive, number

__all__ = ["Agreement", "Group", "Spread", "agreement", "differing_options", "group_runs", "spread"]

NO_DIFFERENCE = ("run", "resume", "seed")
"""Options in which runs of one group may differ: where the run lies, and its seed."""


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one configuration.

    Attributes:
        name: its number, for the page.
        options: the configuration apart from the seed, by dotted name.
        runs: in the order given.
    """

    name: str
    options: Mapping[str, Any]
    runs: Sequence[RunContent]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a number over runs.

    Attributes:
        mean: NaN where no run has it.
        deviation: with the divisor n - 1; NaN for fewer than two runs.
        count: of the runs that have the number.
    """

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        return number(self.mean) + (f" ± {number(self.deviation)}" if math.isfinite(self.deviation) else "")


@dataclass(frozen=True)
class Agreement:
    """UDR of the runs of a group.

    Attributes:
        scores: of each run, in the order of the group; none where they cannot be compared.
        reason: why there are no scores, if there are none.
    """

    scores: tuple[float, ...]
    reason: str | None = None


def group_runs(runs: Sequence[RunContent]) -> list[Group]:
    """Groups runs by their configuration apart from the seed, in the order of their first runs.

    Raises:
        ValueError: a `config.yaml` cannot be read.
    """
    found: list[tuple[dict[str, Any], list[RunContent]]] = []
    for run in runs:
        options = {name: value for name, value in run.options().items() if name not in NO_DIFFERENCE}
        for known, members in found:
            if known == options:
                members.append(run)
                break
        else:
            found.append((options, [run]))
    return [Group(str(place), options, members) for place, (options, members) in enumerate(found, start=1)]


def differing_options(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The options in which groups differ, each with the value of every group; None where a group does not have it."""
    names = dict.fromkeys(name for group in groups for name in group.options)
    values = {name: [group.options.get(name) for group in groups] for name in names}
    return {name: given for name, given in values.items() if any(value != given[0] for value in given)}


def spread(values: Iterable[float | None]) -> Spread:
    """Mean and standard deviation of the values that are known."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return Spread(
        float(np.mean(known)) if known else math.nan,
        float(np.std(known, ddof=1)) if len(known) > 1 else math.nan,
        len(known),
    )


def block_factor_of(group: Group) -> HeatTable | None:
    """The table of blocks and factors over the runs of a group; None where no run has one."""
    tables = [_measured(run, "block_factor") for run in group.runs]
    tables = [table for table in tables if table]
    if not tables:
        return None
    first = tables[0] | {"chance": _means(tables, lambda table: table.get("chance"))}
    score, deviation = _over(tables, lambda table: table["score"])
    together, of_all = _over(tables, lambda table: table["all"])
    return score_table(
        first, score, together, spread=np.vstack([deviation, of_all]), inactive=_always_inactive(group, "blocks")
    )


def swaps_of(group: Group) -> HeatTable | None:
    """What pictures take from which block, over the runs of a group; None where no run has it."""
    tables = [table for run in group.runs if (table := _measured(run, "swaps"))]
    if not tables:
        return None
    given, deviation = _over(tables, lambda table: table["given"])
    unswapped, of_unswapped = _over(tables, lambda table: table["unswapped"])
    means = {"given": given, "unswapped": unswapped, "chance": _means(tables, lambda table: table["chance"])}
    spread = np.vstack([deviation, of_unswapped])
    return swap_table(tables[0] | means, spread=spread, inactive=_always_inactive(group, "blocks"))


def information_of(group: Group) -> HeatTable | None:
    """Information of blocks about factors, in nats, over the runs of a group; None where no run has it."""
    tables = [_measured(run, "marginal_information") for run in group.runs]
    tables = [table for table in tables if table]
    if not tables:
        return None
    lower, deviation = _over(tables, lambda table: table["block_lower"])
    upper, _ = _over(tables, lambda table: table["block_information"])
    return heat_table(
        f"Information of each block about each factor, in nats, by exact marginals.{BOUNDS}",
        tables[0]["blocks"],
        tables[0]["factors"],
        lower,
        spread=deviation,
        most=upper,
        inactive=_always_inactive(group, "blocks"),
        scale_to_one=False,
    )


def agreement(group: Group) -> Agreement:
    """UDR of the active continuous variables of each run with those of the others, on the images that all encoded."""
    if len(group.runs) < 2:
        return Agreement((), "one run has nothing to agree with")
    codes = [run.codes for run in group.runs if run.codes is not None]
    if len(codes) < len(group.runs):
        lacking = [run.name for run in group.runs if run.codes is None]
        return Agreement((), f"no codes.npz in {', '.join(lacking)}: run 'pyro-hfvae evaluate' again")
    if any(not np.array_equal(code.images, codes[0].images) for code in codes):
        return Agreement((), "the runs encoded different images: run 'pyro-hfvae evaluate' again")
    if not all(code.variables for code in codes):
        return Agreement((), "there is no continuous variable")
    silent = [inactive(run.metrics).variables for run in group.runs]
    counted = [
        np.array([name not in names for name in code.variables]) for code, names in zip(codes, silent, strict=True)
    ]
    return Agreement(tuple(udr([code.codes for code in codes], counted).score.tolist()))


def _measured(run: RunContent, name: str) -> Any:
    return (run.metrics.get("disentanglement") or {}).get(name)


def _always_inactive(group: Group, kind: str) -> set[str]:
    """The blocks or variables that are inactive in every run."""
    return set.intersection(*(set(getattr(inactive(run.metrics), kind)) for run in group.runs))


def _over(tables: Sequence[Any], part: Callable[[Any], Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each entry over the runs that have it."""
    stacked = np.stack([as_array(part(table)) for table in tables])
    spreads = [spread(column) for column in stacked.reshape(len(tables), -1).T.tolist()]
    shape = stacked.shape[1:]
    return (
        np.array([each.mean for each in spreads]).reshape(shape),
        np.array([each.deviation for each in spreads]).reshape(shape),
    )


def _means(tables: Sequence[Any], part: Callable[[Any], Any]) -> list[float] | None:
    known = [table for table in tables if part(table)]
    return _over(known, part)[0].tolist() if known else None
