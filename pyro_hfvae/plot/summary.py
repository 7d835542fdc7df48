"""The measurements of a run in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Finding",
    "Inactive",
    "active_above",
    "block_of_variables",
    "decided_features",
    "findings",
    "inactive",
    "measure_name",
    "not_measured",
    "number",
    "summary_lines",
]

# A block holds a factor if its score covers at least this share of the way from chance to a perfect score.
HELD = 0.1


@dataclass(frozen=True)
class Finding:
    """Where one factor went.

    Attributes:
        factor: its name.
        measure: `"accuracy"` or `"R²"`, what the scores are.
        block: the block that alone predicts it best, of the active ones; None if there is none.
        score: the score of that block.
        chance: the score of a guess that has not seen the latent variables.
        held: whether the score is clear of chance.
        also: other blocks whose score goes at least half as far beyond chance, with their scores.
        all_score: the score from all blocks together.
        variable: the active variable with the most mutual information with the factor.
        mutual_information: that information, in nats.
        place: the variable if the block has it, else the block: the shortest honest answer to "where is it?".
    """

    factor: str
    measure: str
    block: str | None
    score: float
    chance: float
    held: bool
    also: tuple[tuple[str, float], ...]
    all_score: float
    variable: str | None
    mutual_information: float
    place: str | None


def findings(metrics: Mapping[str, Any]) -> list[Finding]:
    """One `Finding` per factor of `metrics.json`; none where the data has no known factors."""
    measured = metrics.get("disentanglement") or {}
    table = measured.get("block_factor") or {"blocks": [], "factors": [], "score": []}
    information = (measured.get("mig") or {}).get("mutual_information") or {"variables": [], "factors": []}
    owner = block_of_variables(metrics)
    silent = inactive(metrics)
    found = []
    for column, factor in enumerate(table["factors"]):
        chance = _entry(table.get("chance"), column)
        floor = chance if math.isfinite(chance) else 0.0
        rows = zip(table["blocks"], table["score"], strict=True)
        scores = {name: _value(row[column]) for name, row in rows if name not in silent.blocks}
        block, score = _largest(scores)
        beyond = score - floor
        held = beyond >= HELD * (1 - floor)
        also = {name: by for name, by in scores.items() if held and name != block and by - floor >= beyond / 2}
        per_variable: dict[str, float] = {}
        if factor in information["factors"]:
            at = information["factors"].index(factor)
            alone = zip(information["variables"], information["matrix"], strict=True)
            per_variable = {name: _value(row[at]) for name, row in alone if name not in silent.variables}
        variable, most = _largest(per_variable)
        inside = variable is not None and owner.get(variable, _stem(variable)) == block
        found.append(
            Finding(
                factor=factor,
                measure=measure_name(table["measure"][column]),
                block=block,
                score=score,
                chance=chance,
                held=held,
                also=tuple(also.items()),
                all_score=_entry(table.get("all"), column),
                variable=variable,
                mutual_information=most,
                place=variable if inside else block,
            )
        )
    return found


def summary_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Five lines for the terminal: fit, where each factor is, DCI, MIG, terms; two of them if no factor is known.

    One more of the features that each block decides, where these were measured.
    More where a block or a variable is inactive, and for what could not be measured or has too few data.
    """
    data, terms, owner = metrics.get("data") or {}, metrics.get("terms") or {}, block_of_variables(metrics)
    name, held_out = data.get("name", "data"), data.get("held_out")
    size = "" if held_out is None else f", {held_out:,} held-out data"
    lines = [
        f"{name}{size}: ELBO {number(terms.get('elbo'))} nats per datum, "
        f"reconstruction {number(terms.get('reconstruction'))}"
    ]
    if places := [_place(found) for found in findings(metrics)]:
        lines.append("where: " + ", ".join(places))
    measured = metrics.get("disentanglement") or {}
    decided = [
        f"{block}: " + ", ".join(f"{feature} {number(share)}" for feature, share in features)
        for block, features in decided_features(metrics).items()
        if features
    ]
    if decided:
        lines.append("decides most of: " + "; ".join(decided))
    if dci := measured.get("dci"):
        scores = ("disentanglement", "completeness", "informativeness")
        lines.append("DCI: " + ", ".join(f"{score} {number(dci.get(score))}" for score in scores))
    if mig := measured.get("mig"):
        gaps = ", ".join(f"{factor} {number(gap)}" for factor, gap in (mig.get("per_factor") or {}).items())
        lines.append(f"MIG: {number(mig.get('mig'))}" + (f" ({gaps})" if gaps else ""))
    lines += measured.get("notes") or []
    parts = ("mutual_information", "between", "within", "dimension")
    in_words = ", ".join(f"{part.replace('_', ' ')} {number(terms.get(part))}" for part in parts)
    lines.append(f"terms, nats per datum: {in_words}")
    if any(silent := inactive(metrics)):
        names = [f"block {block}" for block in silent.blocks]
        names += [name for name in silent.variables if owner.get(name) not in silent.blocks]
        lines.append(f"inactive, with I(x; z) of {active_above(metrics):g} nats or less: {', '.join(names)}")
    return [*lines, *not_measured(metrics)]


def decided_features(metrics: Mapping[str, Any], count: int = 3) -> dict[str, list[tuple[str, float]]]:
    """Of each block the features of which it decides most, and the share that it decides.

    Only shares that are clear of chance count, of features of which at least a tenth is explained.
    """
    table = metrics.get("features") or {"blocks": [], "features": [], "total": [], "chance": []}
    explained = table.get("explained") or [1.0] * len(table["features"])
    found = {}
    for block, shares, chances in zip(table["blocks"], table["total"], table["chance"], strict=True):
        rows = zip(table["features"], map(_value, shares), map(_value, chances), map(_value, explained), strict=True)
        clear = [
            (share * part, name, share)
            for name, share, chance, part in rows
            if share - chance >= HELD * (1 - chance) and part >= HELD
        ]
        found[block] = [(name, share) for _, name, share in sorted(clear, key=lambda one: -one[0])[:count]]
    return found


def not_measured(metrics: Mapping[str, Any]) -> list[str]:
    """What could not be measured, and why, in a sentence each."""
    left_out = metrics.get("left_out") or {}
    lines = [f"factor {name} is left out: {reason}" for name, reason in left_out.items()]
    if note := metrics.get("features_note"):
        lines.append(f"what each block decides of each feature is not known: {note}")
    if note := metrics.get("disentanglement_note"):
        lines.append(f"what blocks and variables encode of the factors is not known: {note}")
    return lines


class Inactive(NamedTuple):
    """What encodes next to nothing of x, even where a regressor predicts factors from it: regressors ignore scale.

    Attributes:
        blocks: names of blocks.
        variables: names of variables, in the order of the blocks.
    """

    blocks: tuple[str, ...]
    variables: tuple[str, ...]


def inactive(metrics: Mapping[str, Any]) -> Inactive:
    """The blocks and variables that are not active by `metrics.json`."""
    blocks = _blocks(metrics)
    variables = {name: part for block in blocks.values() for name, part in (block.get("variables") or {}).items()}
    return Inactive(
        *(tuple(n for n, entry in parts.items() if entry.get("active") is False) for parts in (blocks, variables))
    )


def active_above(metrics: Mapping[str, Any]) -> float:
    """Nats of I(x; z) above which a block or a variable of `metrics.json` is active."""
    return _value((metrics.get("terms") or {}).get("active_above"))


def _place(found: Finding) -> str:
    """The block with its score; and its variable, if it is of that block, with the information that it has alone."""
    if not found.held:
        return f"{found.factor}: none"
    alone = ""
    if found.place == found.variable:
        name = "" if found.variable == found.block else f"{found.variable} "
        alone = f" ({name}{number(found.mutual_information)} nats)"
    return f"{found.factor}: {found.block} {number(found.score)}{alone}"


def block_of_variables(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The block of every variable that the terms name."""
    return {variable: block for block, entry in _blocks(metrics).items() for variable in entry.get("variables") or {}}


def _blocks(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The terms of each block, by name."""
    return (metrics.get("terms") or {}).get("blocks") or {}


def measure_name(kind: str) -> str:
    """What readers call a score of `metrics.json`."""
    return {"r2": "R²"}.get(kind, kind)


def number(value: float | None, digits: int = 2) -> str:
    """A number for readers; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:z,.{digits}f}"  # z: no "-0.00"


def _stem(variable: str) -> str:
    return variable.partition("[")[0]


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _entry(values: list[float | None] | None, at: int) -> float:
    return math.nan if values is None else _value(values[at])


def _largest(values: dict[str, float]) -> tuple[str | None, float]:
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    if not known:
        return None, math.nan
    best = max(known, key=known.__getitem__)
    return best, known[best]
