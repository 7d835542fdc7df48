"""Tables of numbers with coloured cells, for the report: which block or variable has to do with which factor.

They are HTML and no pictures: their text can be read on a phone, selected and searched.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from pyro_hfvae.plot.summary import block_of_variables, inactive, measure_name, number

__all__ = [
    "BOUNDS",
    "HeatCell",
    "HeatRow",
    "HeatTable",
    "as_array",
    "heat_table",
    "information_tables",
    "run_tables",
    "score_table",
    "swap_table",
]

APART = 0.1
"""Between two bounds that are worth two numbers."""

BOUNDS = (
    " Of two numbers the first is the least for any data like these, the second for these data alone. Posteriors that "
    "are narrow for so few data leave them far apart."
)
"""What to know of the information with factors."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class HeatCell:
    """A number as text, with the colours of its cell; none where it is not known or its row is inactive."""

    text: str
    ground: str | None = None
    ink: str | None = None


@dataclass(frozen=True)
class HeatRow:
    """A row: a block or a variable, the block that it is of (empty for a block), and whether it is active."""

    name: str
    block: str
    cells: tuple[HeatCell, ...]
    active: bool = True


@dataclass(frozen=True)
class HeatTable:
    """A table with a caption; `columns` have each a name and a line below it, which may be empty."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[HeatRow, ...]

    @property
    def has_inactive(self) -> bool:
        """Whether the footnote is needed."""
        return any(not row.active for row in self.rows)


def heat_table(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Matrix,
    *,
    spread: Matrix | None = None,
    most: Matrix | None = None,
    below: Sequence[str] | None = None,
    block_of: Mapping[str, str] | None = None,
    inactive: Collection[str] = (),
    scale_to_one: bool = True,
) -> HeatTable:
    """Makes a table; cividis runs the same way for colour-blind eyes.

    Args:
        caption: what the numbers are.
        rows: `R` names.
        columns: `Q` names.
        values: `[R, Q]`; NaN where one is not known. Colours go from 0 to the largest one that is shown in colour, or
            to 1 if that is larger and the values are scaled to one.
        spread: a standard deviation of each `[R, Q]`, which is written beside it; NaN where there is none.
        most: an upper bound of each `[R, Q]`, which is written behind it where it is clearly larger.
        below: `Q` lines below the names of the columns.
        block_of: the block of each row.
        inactive: names of rows that are greyed and marked.
        scale_to_one: whether 1 is the most that a value can be.
    """
    shown = values[[name not in inactive for name in rows]]
    largest = float(np.max(shown, initial=1.0 if scale_to_one else 0.0, where=np.isfinite(shown))) or 1.0
    spread = np.full(values.shape, np.nan) if spread is None else spread
    most = values if most is None else most

    def cell(value: float, deviation: float, bound: float, active: bool) -> HeatCell:
        text = number(value) + (f" ± {number(deviation)}" if np.isfinite(deviation) else "")
        text += f" to {number(bound)}" if bound - value > APART else ""
        if not active or not np.isfinite(value):
            return HeatCell(text)
        share = min(max(value / largest, 0.0), 1.0)
        return HeatCell(text, to_hex(colormaps["cividis"](share)), "#000" if share > 0.55 else "#fff")

    return HeatTable(
        caption=caption,
        columns=tuple(zip(columns, below or [""] * len(columns), strict=True)),
        rows=tuple(
            HeatRow(
                name=name,
                block=(block_of or {}).get(name, ""),
                cells=tuple(cell(x, by, top, name not in inactive) for x, by, top in zip(*lines, strict=True)),
                active=name not in inactive,
            )
            for name, *lines in zip(rows, values.tolist(), spread.tolist(), most.tolist(), strict=True)
        ),
    )


def run_tables(metrics: Mapping[str, Any]) -> dict[str, HeatTable]:
    """The tables of one run, by name, as far as `metrics.json` has them.

    Returns:
        `block_factor`; `swaps`; `block_information` and `variable_information`, of exact marginals; `importance` of DCI
        and `counted_information` of MIG.
    """
    measured, silent = metrics.get("disentanglement") or {}, inactive(metrics)
    found: dict[str, HeatTable] = {}
    if table := measured.get("block_factor"):
        found["block_factor"] = score_table(table, as_array(table["score"]), inactive=silent.blocks)
    if table := measured.get("swaps"):
        found["swaps"] = swap_table(table, inactive=silent.blocks)
    found |= information_tables(metrics)
    for name, metric, content, caption, one in (
        (
            "importance",
            "dci",
            "importance",
            "DCI: how much a regressor relies on each variable to predict each factor.",
            True,
        ),
        (
            "counted_information",
            "mig",
            "mutual_information",
            "MIG: information of the posterior mean of each variable about each factor, in nats, by counting in bins.",
            False,
        ),
    ):
        if matrix := (measured.get(metric) or {}).get(content):
            found[name] = heat_table(
                caption,
                matrix["variables"],
                matrix["factors"],
                as_array(matrix["matrix"]),
                block_of=block_of_variables(metrics),
                inactive=silent.variables,
                scale_to_one=one,
            )
    return found


def score_table(
    table: Mapping[str, Any],
    score: Matrix,
    together: Matrix | None = None,
    *,
    spread: Matrix | None = None,
    inactive: Collection[str] = (),
) -> HeatTable:
    """The table of blocks and factors, with a last row for all blocks together.

    Args:
        table: `block_factor` of `metrics.json`: names, chance, measures and, where `together` is None, `all`.
        score: accuracy or R² of each block and factor `[D, F]`.
        together: the same of all blocks `[F]`.
        spread: standard deviations, with those of all blocks as a last row `[D + 1, F]`.
        inactive: blocks that are.
    """
    if together is None and table.get("all"):
        together = as_array(table["all"])
    rows, values = list(table["blocks"]), score
    if together is not None:
        rows, values = [*rows, "all blocks"], np.vstack([score, together])
    return heat_table(
        "Score with which each block alone predicts each factor.",
        rows,
        table["factors"],
        values,
        spread=spread,
        below=_measures(table),
        inactive=inactive,
    )


def swap_table(table: Mapping[str, Any], *, spread: Matrix | None = None, inactive: Collection[str] = ()) -> HeatTable:
    """Which factor comes with which block, with a last row for pictures of data as they are.

    Args:
        table: `swaps` of `metrics.json`.
        spread: standard deviations of `given`, with those of `unswapped` as a last row `[D + 1, F]`.
        inactive: blocks that are.
    """
    return heat_table(
        "Swaps: score with which the factors of the datum that gave a block are read off what is decoded of that block "
        "and all else of another datum. An R² of about −1 means that what is decoded follows the other datum.",
        [*table["blocks"], "as it is"],
        table["factors"],
        np.vstack([as_array(table["given"]), as_array(table["unswapped"])]),
        spread=spread,
        below=_measures(table),
        inactive=inactive,
    )


def _measures(table: Mapping[str, Any]) -> list[str]:
    """How each factor is scored, and what it is at chance."""
    measures = [measure_name(kind) for kind in table["measure"]]
    chances = as_array(table["chance"]) if table.get("chance") else np.full(len(measures), np.nan)
    return [f"{kind}, chance {number(by)}" for kind, by in zip(measures, chances, strict=True)]


def information_tables(metrics: Mapping[str, Any]) -> dict[str, HeatTable]:
    """Information of blocks and variables about the factors, in nats; nothing where it was not measured."""
    found = (metrics.get("disentanglement") or {}).get("marginal_information")
    if not found:
        return {}
    silent = inactive(metrics)
    tables = {}
    for kind, owner, quiet in (
        ("block", {}, silent.blocks),
        ("variable", block_of_variables(metrics), silent.variables),
    ):
        error = number(float(as_array(found[f"{kind}_error"]).max(initial=0.0)))
        tables[f"{kind}_information"] = heat_table(
            f"Information of each {kind} about each factor, in nats, by exact marginals of {found['data']:,} "
            f"posteriors and {found['samples']:,} samples; standard errors up to {error}.{BOUNDS}",
            found[f"{kind}s"],
            found["factors"],
            as_array(found[f"{kind}_lower"]),
            most=as_array(found[f"{kind}_information"]),
            block_of=owner,
            inactive=quiet,
            scale_to_one=False,
        )
    return tables


def as_array(values: Any) -> Matrix:
    """Lists from JSON, null for what is not known, as an array with NaN."""
    return np.array(values, dtype=object).astype(np.float64)
