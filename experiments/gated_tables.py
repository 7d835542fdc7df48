"""Tables and pictures of the gated study, from its rows."""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from pyro_hfvae.experiments.cells import about, head, line, mean_and_deviation
from pyro_hfvae.plot.style import COLOURS, MARKERS

CONDITIONS = ("gated", "gated_trimmed", "gated_targets", "ungated_pairs", "ungated_trimmed", "identity")
DPI = 110
NATS = (
    "In nats, by exact marginals of some of the held-out images: upper bounds, which a narrow block reaches whether or "
    "not a reader could use it, for it identifies the image among so few. Of a discrete block alone exact."
)
SWAPS = (
    "Read off pictures: one block of a held-out image is painted with all else of another. The score is that for the "
    "factor of the image that gave the block; an R² of about −1 means that the picture follows the other image."
)
OVERALL = ("disentanglement", "completeness", "informativeness")

Row = dict[str, Any]
Group = tuple[str, str, float]


def grouped(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """The rows of each condition, base and rate: one for each seed."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["base"], CONDITIONS.index(row["condition"]), row["wrong"])):
        groups[row["condition"], row["base"], row["wrong"]].append(row)
    return dict(groups)


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over the seeds, in Markdown: DCI, then scores, swaps and information of blocks.

    Swaps, and the information in nats, are there for the groups whose rows all have them.
    """
    first = rows[0]["block_factor"]
    factors = [f"{name} ({measure})" for name, measure in zip(first["factors"], first["measure"], strict=True)]
    overall = head(["condition", "base", "wrong", "seeds", "held-out ELBO", *OVERALL])
    matrix = head(["condition", "base", "wrong", "block", *factors])
    swaps: list[str] = []
    nats: list[str] = []
    for (condition, base, wrong), group in grouped(rows).items():
        numbers = [mean_and_deviation([row["elbo"] for row in group])]
        numbers += [mean_and_deviation([row["dci"][name] for row in group]) for name in OVERALL]
        start = [condition, base, f"{wrong:g}"]
        overall.append(line([*start, str(len(group)), *numbers]))
        for block, scores in _scores(group).items():
            matrix.append(line([*start, block, *map(mean_and_deviation, scores)]))
        for name in ("all", "chance"):
            over_seeds = zip(*(row["block_factor"][name] for row in group), strict=True)
            matrix.append(line([*start, f"({name})", *map(mean_and_deviation, over_seeds)]))
        if _all_swapped(group):
            for block, scores in _given(group).items():
                swaps.append(line([*start, block, *map(mean_and_deviation, scores)]))
            over_seeds = zip(*(row["swaps"]["unswapped"] for row in group), strict=True)
            swaps.append(line([*start, "(unswapped)", *map(mean_and_deviation, over_seeds)]))
        if all("information" in row for row in group):
            for block, values in _of_blocks(group, [row["information"] for row in group]).items():
                nats.append(line([*start, block, *map(mean_and_deviation, values)]))
    note = (
        f"{rows[0]['data']}, {rows[0]['steps']:,} steps, measured on {rows[0]['held_out']:,} held-out images; "
        f"mean ± standard deviation over seeds. {about(rows)}"
    )
    if swaps:
        matrix += ["", SWAPS, "", *head(["condition", "base", "wrong", "block given", *factors]), *swaps]
    if nats:
        heads = head(["condition", "base", "wrong", "block", *(f"{name} (nats)" for name in first["factors"])])
        matrix += ["", NATS, "", *heads, *nats]
    return "\n".join([*overall, "", note, "", *matrix]) + "\n"


def swapped(rows: Sequence[Row]) -> list[Row]:
    """The rows of the groups whose rows all have swaps: means over some of the seeds would not compare."""
    return [row for group in grouped(rows).values() if _all_swapped(group) for row in group]


def _all_swapped(group: Sequence[Row]) -> bool:
    return all("swaps" in row for row in group)


def _scores(group: Sequence[Row]) -> dict[str, list[list[float]]]:
    """Block to factor to the score of each seed."""
    return _of_blocks(group, [row["block_factor"]["score"] for row in group])


def _given(group: Sequence[Row]) -> dict[str, list[list[float]]]:
    """Block to factor to the score of each seed off pictures that were given the block."""
    return _of_blocks(group, [row["swaps"]["given"] for row in group])


def _of_blocks(group: Sequence[Row], tables: Sequence[list[list[float]]]) -> dict[str, list[list[float]]]:
    """Block to factor to the number of each seed, from a table of blocks and factors for each."""
    blocks = zip(group[0]["block_factor"]["blocks"], *tables, strict=True)
    return {block: [list(numbers) for numbers in zip(*lines, strict=True)] for block, *lines in blocks}


def long_table(rows: Sequence[Row]) -> str:
    """One line of CSV for each cell, block and factor.

    Swaps, and the information in nats, are empty in rows from before they were kept.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    facts = ("data", "condition", "base", "wrong", "seed", "steps", "elbo")
    versions = ("pyro_hfvae", "torch", "processor", "threads", "wall_seconds")
    columns = ("factor", "measure", "score", "all", "chance", "information", "given", "kept", "unswapped")
    writer.writerow([*facts, *OVERALL, *versions, "block", *columns])
    for row in rows:
        start = [row[name] for name in facts] + [row["dci"][name] for name in OVERALL]
        start += [row["versions"][name] for name in versions]
        found = row["block_factor"]
        nothing = [""] * len(found["factors"])
        missing = [nothing] * len(found["blocks"])
        swaps = row.get("swaps") or {"given": missing, "kept": missing, "unswapped": nothing}
        of_blocks = (found["score"], row.get("information") or missing, swaps["given"], swaps["kept"])
        for block, scores, nats, given, kept in zip(found["blocks"], *of_blocks, strict=True):
            of_factors = (found["factors"], found["measure"], scores, found["all"], found["chance"])
            parts = (*of_factors, nats, given, kept, swaps["unswapped"])
            writer.writerows([*start, block, *part] for part in zip(*parts, strict=True))
    return buffer.getvalue()


def picture(rows: Sequence[Row]) -> Figure:
    """Mean score of each factor from each block: a row for each base and rate, with the conditions that it has."""
    return _heat_maps(rows, _scores)


def picture_of_swaps(rows: Sequence[Row]) -> Figure:
    """The same of factors that are read off pictures that were given the block of another image."""
    return _heat_maps(rows, _given)


def _heat_maps(rows: Sequence[Row], read: Callable[[Sequence[Row]], dict[str, list[list[float]]]]) -> Figure:
    groups = grouped(rows)
    places = _places(groups)
    present = {place: [name for name in CONDITIONS if (name, *place) in groups] for place in places}
    columns = max(map(len, present.values()))
    figure = Figure(figsize=(2.6 * columns + 1, 2.4 * len(places)), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(places), columns, squeeze=False)
    for axis_row, (base, wrong) in zip(axes, places, strict=True):
        for axis in axis_row[len(present[base, wrong]) :]:
            axis.axis("off")
        for axis, condition in zip(axis_row, present[base, wrong], strict=False):
            group = groups[condition, base, wrong]
            axis.set_title(f"{condition}, {base}, wrong {wrong:g}", fontsize=8)
            scores = {block: [statistics.fmean(s) for s in parts] for block, parts in read(group).items()}
            axis.imshow(list(scores.values()), vmin=0, vmax=1, cmap="Blues", aspect="auto")
            names = group[0]["block_factor"]["factors"]
            axis.set_xticks(range(len(names)), names, rotation=25, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(len(scores)), list(scores))
            axis.tick_params(labelsize=7)
            for place, means in enumerate(scores.values()):
                for factor, mean in enumerate(means):
                    color = "white" if mean > 0.6 else "black"
                    axis.text(factor, place, f"{mean:.2f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def picture_of_seeds(rows: Sequence[Row]) -> Figure:
    """Disentanglement of every seed and the means, by base and rate of wrong pairs, beside each other by condition."""
    groups = grouped(rows)
    places = _places(groups)
    present = {condition for condition, _, _ in groups}
    conditions = [name for name in CONDITIONS if name in present]
    figure = Figure(figsize=(3 + 1.2 * len(places), 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for number, condition in enumerate(conditions):
        offset = (number - (len(conditions) - 1) / 2) * 0.8 / len(conditions)
        kind = CONDITIONS.index(condition)  # which looks the same in every study
        colour, marker = COLOURS[kind], MARKERS[kind]
        for place, (base, wrong) in enumerate(places):
            values = [row["dci"]["disentanglement"] for row in groups.get((condition, base, wrong), [])]
            axes.scatter(
                [place + offset] * len(values), values, s=14, color=colour, marker=marker, alpha=0.6, linewidths=0
            )
            if values:
                half = 0.35 / len(conditions)
                axes.hlines(statistics.fmean(values), place + offset - half, place + offset + half, color=colour)
        axes.scatter([], [], s=14, color=colour, marker=marker, label=condition)
    axes.set_xticks(range(len(places)), [f"{base}\nwrong {wrong:g}" if wrong else base for base, wrong in places])
    axes.set(ylabel="disentanglement", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _places(groups: Iterable[Group]) -> list[tuple[str, float]]:
    return sorted({(base, wrong) for _, base, wrong in groups})
