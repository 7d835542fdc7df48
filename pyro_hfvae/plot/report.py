"""The report of a run: one HTML page that needs nothing but itself."""

import base64
import csv
import io
import json
import math
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hfvae.files import write_atomically
from pyro_hfvae.plot.curves import TERMS, term_curves
from pyro_hfvae.plot.style import DPI
from pyro_hfvae.plot.summary import block_of_variables, findings, number, summary_lines
from pyro_hfvae.plot.tables import block_factor_heatmap, importance_matrix

__all__ = ["summary_lines", "write_report"]

# name in metrics.json, name on the page, what it is
_EXPLAINED = (
    ("elbo", "ELBO", "the bound on log p(x): reconstruction less the four terms below; higher is better"),
    ("reconstruction", "reconstruction E[log p(x|z)]", "how well the data are rebuilt from their latent variables"),
    ("mutual_information", "mutual information I(x;z)", "what the latent variables tell about the datum"),
    (
        "between",
        "between-block total correlation (A)",
        "dependence between blocks beyond the prior's own; 0: blocks are as independent as the prior says",
    ),
    (
        "within",
        "within-block total correlation (i)",
        "dependence between the variables of a block beyond the prior's own",
    ),
    (
        "dimension",
        "dimension-wise KL (ii)",
        "distance of each variable's aggregate from its prior, summed; 0: samples of the prior look like the data's",
    ),
)

# name in the scores of metrics.json, name on the page, what it is; DCI and MIG have rows of their own
_EXPLAINED_SCORES = (
    ("sap", "SAP", "gap between the two variables that each alone predict a factor best"),
    ("factor_vae_score", "FactorVAE score", "how often the variable that varies least tells which factor was fixed"),
    ("infomec.modularity", "InfoM", "each variable tells of one factor only"),
    ("infomec.compactness", "InfoC", "each factor is told by one variable only"),
    ("infomec.explicitness", "InfoE", "how much of the factors a linear predictor reads"),
)


class Picture(NamedTuple):
    """A PNG inside the page.

    Attributes:
        source: the `data:` address.
        width: how wide it is shown where there is room, in CSS pixels.
        caption: what it shows.
    """

    source: str
    width: int
    caption: str


def write_report(run: Path) -> Path:
    """Write `report.html` into the folder of a run, whole or not at all.

    Args:
        run: a folder with `metrics.json` and `pictures/*.png`; `config.yaml`, `versions.json` and `metrics.csv` are
            shown where they are there.

    Returns:
        the path of the page.
    """
    run = Path(run)
    page = _render(run)
    report = run / "report.html"
    write_atomically(report, page)
    return report


def _render(run: Path) -> str:
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} has no metrics.json: run 'pyro-hfvae evaluate {run}' first")
    drawn = sorted((run / "pictures").glob("*.png"))
    if not drawn:
        raise FileNotFoundError(f"{run} has no pictures: run 'pyro-hfvae traverse {run}' first")
    metrics = _read_json(run / "metrics.json")
    versions = _read_json(run / "versions.json") if (run / "versions.json").is_file() else {}
    configuration = run / "config.yaml"
    measured = metrics.get("disentanglement") or {}
    curves = _curves(run / "metrics.csv")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "log": math.log}
    template = environment.from_string(files("pyro_hfvae.plot").joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        run=run.resolve().name,
        data=metrics.get("data") or {},
        step=metrics.get("step"),
        terms=metrics.get("terms") or {},
        terms_note=metrics.get("terms_note"),
        explained=_EXPLAINED,
        explained_scores=_EXPLAINED_SCORES,
        scores=measured.get("scores") or {},
        ceiling=_ceiling(metrics),
        findings=findings(metrics),
        dci=measured.get("dci") or {},
        mig=measured.get("mig") or {},
        tables=_tables(metrics),
        pictures=_sorted_pictures(drawn, list((metrics.get("terms") or {}).get("blocks") or {})),
        curves=curves,
        configuration=configuration.read_text(encoding="utf-8") if configuration.is_file() else None,
        versions=versions,
        wall_time=_duration(versions.get("wall_seconds")),
    )


def _tables(metrics: dict[str, Any]) -> dict[str, Picture]:
    """Pictures of the block × factor scores, of DCI's importances and of the mutual information, as far as known."""
    measured = metrics.get("disentanglement") or {}
    found: dict[str, Picture] = {}
    if table := measured.get("block_factor"):
        chance, together = (_array(table[key]) if table.get(key) else None for key in ("chance", "all"))
        figure = block_factor_heatmap(
            _array(table["score"]), table["blocks"], table["factors"], chance, table["measure"], together
        )
        found["block_factor"] = _from_figure(figure, "Score with which each block alone predicts each factor.")
    for key, metric, content, title, caption in (
        (
            "importance",
            "dci",
            "importance",
            "importance",
            "DCI: how much a regressor relies on each variable to predict each factor.",
        ),
        (
            "information",
            "mig",
            "mutual_information",
            "mutual information, nats",
            "MIG: what each variable on its own tells about each factor, in nats.",
        ),
    ):
        if matrix := (measured.get(metric) or {}).get(content):
            owner = block_of_variables(metrics)
            owners = [owner.get(name, name.partition("[")[0]) for name in matrix["variables"]]
            figure = importance_matrix(_array(matrix["matrix"]), matrix["variables"], matrix["factors"], title, owners)
            found[key] = _from_figure(figure, caption)
    return found


def _sorted_pictures(drawn: list[Path], blocks: list[str]) -> dict[str, list[Picture]]:
    """What `traverse` drew, by kind; traversals in the order of the blocks."""
    sorted_pictures: dict[str, list[Picture]] = {"traversals": [], "reconstructions": [], "samples": [], "others": []}
    place = {f"traversal_{block}": at for at, block in enumerate(blocks)}
    for path in sorted(drawn, key=lambda path: (place.get(path.stem, len(blocks)), path.stem)):
        kind, caption = "others", path.stem.replace("_", " ")
        if path.stem.startswith("traversal_"):
            kind, block = "traversals", path.stem.removeprefix("traversal_")
            caption = (
                f"Block {block}: only it changes, all else stays as it is. "
                "One row per variable, or per category of a discrete one."
            )
        elif path.stem == "reconstructions":
            kind, caption = path.stem, "Held-out data above, their reconstructions below."
        elif path.stem == "samples":
            kind, caption = path.stem, "Data generated from samples of the prior."
        sorted_pictures[kind].append(_embed(path.read_bytes(), caption))
    return sorted_pictures


def _curves(table: Path) -> Picture | None:
    """The training curves of `metrics.csv`; None where there are none."""
    history = _read_history(table) if table.is_file() else {}
    if not any(f"{part}/{term}" in history for part in ("train", "val") for term in TERMS):
        return None
    caption = "Training (line) and validation (dots). The first tenth of the steps may run out of the panels."
    return _from_figure(term_curves(history), caption)


def _read_history(table: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Terms and schedules of a CSV with empty cells: name to (steps `[T]`, values `[T]`)."""
    points: dict[str, list[tuple[float, float]]] = {}
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for name, cell in row.items():
                if name and name.startswith(("train/", "val/", "weight/", "temperature")) and cell and row.get("step"):
                    points.setdefault(name, []).append((float(row["step"]), float(cell)))
    columns = {name: np.array(pairs).T for name, pairs in points.items()}
    return {name: (steps, values) for name, (steps, values) in columns.items()}


def _ceiling(metrics: dict[str, Any]) -> int | None:
    """The number of data behind the terms, if I(x; z) comes so near to its logarithm that it cannot be told from it."""
    count = (metrics.get("data") or {}).get("held_out_for_terms")
    information = (metrics.get("terms") or {}).get("mutual_information")
    return count if count and information is not None and information > 0.95 * math.log(count) else None


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _from_figure(figure: Figure, caption: str) -> Picture:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return _embed(content.getvalue(), caption)


def _embed(png: bytes, caption: str) -> Picture:
    if not png.startswith(b"\x89PNG") or len(png) < 24:
        raise ValueError(f"not a PNG: the picture of {caption!r}")
    (width,) = struct.unpack(">I", png[16:20])
    return Picture(f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}", width // 2, caption)


def _array(values: Any) -> NDArray[np.float64]:
    """Lists from JSON, null for what is not known, as an array with NaN."""
    return np.array(values, dtype=object).astype(np.float64)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return content
