"""The campaign's counts as Markdown, with what they were obtained by."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

from campaign.judge import FAULTS, GOOD
from campaign.kills import MOMENTS
from pyro_hfvae.train.run_folder import PACKAGES, processor

__all__ = ["page"]

MEANING = {
    "traceback": "tracebacks",
    "hang": "hangs",
    "wrong": "accepted though wrong",
    "lost": "files lost or changed",
    "executed": "code executed",
    "unclear": "refused without a line that names it",
    "turned away": "refused though right",
    "left over": "refused, with files left over",
}


def page(
    seed: int,
    minutes: float,
    killed: Mapping[str, Mapping[str, Counter[str]]],
    mutated: Mapping[str, Mapping[str, tuple[str, Counter[str]]]],
) -> str:
    """All tables: of kills by variant and moment, of mutated inputs by area, and by rule."""
    inputs = sum(counts.total() for rules in mutated.values() for _, counts in rules.values())
    kills = sum(counts["equal"] + counts["other"] for moments in killed.values() for counts in moments.values())
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES.values())
    return "\n".join(
        [
            f"{kills:,} killed trainings and {inputs:,} mutated inputs, seed {seed}, in {minutes:.0f} minutes on one "
            f"core ({processor()}, {os.cpu_count()} cores). Python {platform.python_version()}, {versions}. "
            "Written by `make campaign`.",
            "",
            *_kills(killed),
            "",
            *_areas(mutated),
            "",
            *_rules(mutated),
            "",
        ]
    )


def _kills(killed: Mapping[str, Mapping[str, Counter[str]]]) -> Iterable[str]:
    ends = ("other", "lost", "refused")
    titles = ("training", *MOMENTS, "other result", "checkpoint or file lost", "not resumed", "before a checkpoint")
    rows = [
        (
            variant,
            *(f"{moments[moment]['equal']} of {_judged(moments[moment])}" for moment in MOMENTS),
            *(str(sum(counts[end] for counts in moments.values())) for end in ends),
            str(sum(counts["before the first checkpoint"] for counts in moments.values())),
        )
        for variant, moments in killed.items()
    ]
    return _table(titles, rows)


def _judged(counts: Counter[str]) -> int:
    return sum(counts[end] for end in ("equal", "other", "lost", "refused"))


def _areas(mutated: Mapping[str, Mapping[str, tuple[str, Counter[str]]]]) -> Iterable[str]:
    sums = {area: sum((counts for _, counts in rules.values()), Counter()) for area, rules in mutated.items()}
    sums["all"] = sum(sums.values(), Counter())
    titles = ("", *(area.replace("_", " ") for area in sums))
    numbers = {"inputs": ("inputs", None)} | {name: (name, name) for name in GOOD}
    numbers |= {name: (MEANING[name], name) for name in FAULTS}
    rows = [
        (title, *(f"{counts.total() if name is None else counts[name]:,}" for counts in sums.values()))
        for title, name in numbers.values()
    ]
    return _table(titles, rows)


def _rules(mutated: Mapping[str, Mapping[str, tuple[str, Counter[str]]]]) -> Iterable[str]:
    rows = [
        (
            area.replace("_", " "),
            text,
            *(str(number) for number in (counts.total(), *(counts[name] for name in GOOD))),
            ", ".join(f"{counts[name]} {MEANING[name]}" for name in FAULTS if counts[name]) or "none",
        )
        for area, rules in mutated.items()
        for text, counts in rules.values()
    ]
    return _table(("area", "what is done to the input", "inputs", *GOOD, "faults"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join('---' for _ in titles)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
