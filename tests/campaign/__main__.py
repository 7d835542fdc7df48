"""``python -m campaign`` (``make campaign``): runs the campaign; writes its tables, and a line for each fault."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import torch

from campaign import checkpoints, configuration_texts, configurations, data_files, idx_files, options, run_folders
from campaign.inputs import make_inputs
from campaign.judge import FAULTS, Judge
from campaign.kills import MOMENTS, VARIANTS, Training
from campaign.table import page

AREAS = {
    "configurations": configurations.RULES | configuration_texts.RULES,
    "options": options.RULES,
    "data_files": data_files.RULES | idx_files.RULES,
    "run_folders": run_folders.RULES,
    "checkpoints": checkpoints.RULES,
}

KILLS = 14
"""Killed trainings of each variant that come to a verdict; the moments take turns."""

TRIES = 8
"""For each: a training may end before it is killed, or be killed before its first checkpoint."""

SHORT = ("memory",)
"""Variants of the short campaign, which kills each once at each moment and takes one input of each rule."""


def kill(folder: Path, seed: int, short: bool, only: str) -> dict[str, dict[str, Counter[str]]]:
    """Counts of how killed trainings ended, by variant and moment."""
    found = {}
    for variant in SHORT if short else VARIANTS:
        if only not in f"kills/{variant}":
            continue
        training = Training(variant, folder / "training")
        found[variant] = {moment: Counter[str]() for moment in MOMENTS}
        for number in range(len(MOMENTS) if short else KILLS):
            moment = MOMENTS[number % len(MOMENTS)]
            for attempt in range(TRIES):
                end, text = training.kill(moment, Random(f"{seed}/{variant}/{number}/{attempt}"))
                found[variant][moment][end] += 1
                if end in ("other", "lost", "refused"):
                    print(f"kills/{variant}/{number}: {end}: {text}", flush=True)
                if end not in ("not killed", "before the first checkpoint"):
                    break
    return found


def mutate(folder: Path, seed: int, short: bool, only: str) -> dict[str, dict[str, tuple[str, Counter[str]]]]:
    """Counts of verdicts, by area and rule, with what the rule does."""
    template = folder / "template"
    template.mkdir()
    make_inputs(template)
    judge = Judge(template, folder / "case")
    found = {}
    for area, rules in AREAS.items():
        found[area] = {rule.__name__: (str(rule.__doc__).rstrip("."), Counter[str]()) for rule in rules}
        for rule, count in rules.items():
            for number in range(1 if short else count):
                name = f"{area}/{rule.__name__}/{number}"
                if only not in name:
                    continue
                verdict, text = judge(rule, Random(f"{seed}/{name}"))
                found[area][rule.__name__][1][verdict] += 1
                if verdict in FAULTS or name == only:
                    print(f"{name}: {verdict}: {text}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="two minutes instead of most of an hour")
    parser.add_argument("--only", default="", help="what is named so: kills/VARIANT or AREA/RULE/NUMBER, or a part")
    parser.add_argument("--output", type=Path, help="file for the tables")
    given = parser.parse_args()
    # A child of a process with several threads would wait for those that it has not got.
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        killed = kill(Path(folder), given.seed, given.short, given.only)
        mutated = mutate(Path(folder), given.seed, given.short, given.only)
    text = page(given.seed, (time.monotonic() - started) / 60, killed, mutated)
    if given.output is not None:
        given.output.write_text(text)
    print(text)
    bad = sum(
        counts[end]
        for moments in killed.values()
        for counts in moments.values()
        for end in ("other", "lost", "refused")
    )
    bad += sum(counts[fault] for rules in mutated.values() for _, counts in rules.values() for fault in FAULTS)
    return int(bad > 0)


sys.exit(main())
