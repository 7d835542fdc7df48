"""The report of one run: one HTML page that needs nothing but itself."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pyro_hfvae.plot.curves import TERMS, term_curves
from pyro_hfvae.plot.feature_table import feature_table
from pyro_hfvae.plot.file_names import picture_name
from pyro_hfvae.plot.heat_table import run_tables
from pyro_hfvae.plot.page import Picture, duration, embed, from_figure, write_page
from pyro_hfvae.plot.run_content import History, RunContent, read_run, whole
from pyro_hfvae.plot.summary import active_above, decided_features, findings, inactive, not_measured

__all__ = ["write_report"]

# name in metrics.json, name on the page, what it is
EXPLAINED = (
    ("elbo", "ELBO", "the bound on log p(x): reconstruction less the four terms below; higher is better"),
    ("reconstruction", "reconstruction E[log p(x|z)]", "how well the data are rebuilt from their latent variables"),
    ("mutual_information", "mutual information I(x;z)", "what the latent variables encode of the datum"),
    (
        "between",
        "between-block total correlation (A)",
        "dependence between blocks beyond the prior's own; 0: blocks are as independent as in the prior",
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

# name in the scores of metrics.json, name on the page, what it is
EXPLAINED_DCI = (
    ("dci.disentanglement", "DCI disentanglement", "each variable matters for one factor only"),
    ("dci.completeness", "DCI completeness", "each factor sits in one variable only"),
    ("dci.informativeness", "DCI informativeness", "how well all variables together predict the factors"),
    ("mig", "MIG", "gap between the two most informative variables of a factor, as a share of the factor's entropy"),
)

# the same of the scores that are known by their values alone
EXPLAINED_SCORES = (
    ("sap", "SAP", "gap between the two variables that each alone predict a factor best"),
    (
        "factor_vae_score",
        "FactorVAE score",
        "how often the variable that varies least identifies the factor that was fixed",
    ),
    ("infomec.modularity", "InfoM", "each variable is predictive of one factor only"),
    ("infomec.compactness", "InfoC", "each factor is encoded by one variable only"),
    ("infomec.explicitness", "InfoE", "how much of the factors a linear predictor reads"),
)


# beginning of a file name, what the picture shows; a block or a variable follows in the name where there is a "{}"
_CAPTIONS = (
    ("reconstructions", "Held-out data above, their reconstructions below."),
    ("samples", "Data generated from samples of the prior."),
    (
        "traversal_",
        "Block {}: only it changes, all else stays as it is.",
    ),
    ("profile_", "Block {}: only it changes; the features that do not run over time."),
    ("categories_", "Each category of {} with all else of one held-out image in each column."),
    ("interpolation_", "Block {} goes from one held-out image to another; all else stays that of the first."),
    ("swap_", "Block {} of the image on the left, all else of the image above."),
    ("combinations", "Each block of another image: combinations that no image has."),
    ("aggregate_posterior", "Each variable over all data, q(z), against its prior p(z); KL in nats."),
    ("pair_", "The two variables most predictive of {}, one draw for each held-out datum, coloured by it."),
)

_CHECK_CAPTIONS = {
    "guide": "Pareto k and the gap of each datum, and the bound on log p(x) over the number of draws.",
    "calibration": "Ranks of what was drawn among the guide's draws: their ECDF less the uniform one, with its band.",
    "aggregate": "Accuracy of a classifier that separates q(z) from p(z), for each block; 50 % is chance.",
    "predictive": "Statistics of the data beside those of draws of the model.",
    "loo_pit": "LOO-PIT: one number of each datum predicted from the others.",
}


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the page of a run, whole or not at all.

    Args:
        run: a folder; of `metrics.json`, `pictures/*.png` and `*.gif`, `config.yaml`, `versions.json`, `metrics.csv`
            and `checks/` the page shows what is there, and names what is not.
        output: the page; `report.html` in the folder of the run by default.

    Returns:
        the path of the page.

    Raises:
        ValueError: a file of the run is damaged; names it.
    """
    content = read_run(Path(run))
    report = content.path / "report.html" if output is None else output
    with whole([content]):
        write_page(report, "report.html", **_content(content))
    return report


def _content(run: RunContent) -> dict[str, Any]:
    metrics = run.metrics
    measured, terms = metrics.get("disentanglement") or {}, metrics.get("terms") or {}
    return {
        "run": run.name,
        "stale": run.stale,
        "data": metrics.get("data") or {},
        "step": metrics.get("step"),
        "terms": terms,
        "terms_note": metrics.get("terms_note"),
        "explained": EXPLAINED,
        "explained_dci": EXPLAINED_DCI,
        "explained_scores": EXPLAINED_SCORES,
        "scores": measured.get("scores") or {},
        "ceiling": _ceiling(metrics),
        "findings": findings(metrics),
        "not_measured": not_measured(metrics),
        "factors_known": bool(metrics.get("left_out") or metrics.get("disentanglement_note") or measured),
        "dci": measured.get("dci") or {},
        "mig": measured.get("mig") or {},
        "tables": run_tables(metrics),
        "features": feature_table(metrics["features"], inactive(metrics).blocks) if metrics.get("features") else None,
        "decided": decided_features(metrics),
        "information_note": measured.get("marginal_information_note"),
        "swaps_note": measured.get("swaps_note"),
        "inactive": inactive(metrics),
        "active_above": active_above(metrics),
        "pictures_drawn": bool(run.pictures),
        "pictures": _sorted_pictures(run.pictures, list(terms.get("blocks") or {})),
        "curves": curves(run.history),
        "checks": run.checks,
        "check_pictures": [
            embed(path, _CHECK_CAPTIONS.get(path.stem, in_words(path.stem))) for path in run.check_pictures
        ],
        "configuration": run.configuration,
        "versions": run.versions,
        "wall_time": duration(run.versions.get("wall_seconds")),
    }


def _sorted_pictures(drawn: Sequence[Path], blocks: Sequence[str]) -> dict[str, list[Picture]]:
    """What `traverse` drew, by kind; traversals in the order of the blocks."""
    found: dict[str, list[Picture]] = {"traversals": [], "reconstructions": [], "samples": [], "others": []}
    place = {picture_name("traversal_", block): at for at, block in enumerate(blocks)}
    for path in sorted(drawn, key=lambda path: (place.get(path.stem, len(blocks)), path.name)):
        kind = "traversals" if path.stem in place or path.stem.startswith("traversal_") else path.stem
        found[kind if kind in found else "others"].append(embed(path, _caption(path.stem)))
    return found


def _caption(stem: str) -> str:
    """What a picture shows, from the name of its file: that of a new kind of picture in words."""
    stem = unquote(stem)
    for beginning, caption in _CAPTIONS:
        if stem == beginning or (beginning.endswith("_") and stem.startswith(beginning)):
            return caption.format(stem.removeprefix(beginning))
    return in_words(stem)


def in_words(stem: str) -> str:
    """The name of a file as a caption."""
    words = unquote(stem).replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}."


def curves(history: History) -> Picture | None:
    """The training curves; None where there are none."""
    if not any(f"{part}/{term}" in history for part in ("train", "val") for term in TERMS):
        return None
    caption = "Training (line) and validation (dots). The first tenth of the steps may run out of the panels."
    return from_figure(term_curves(history), caption)


def _ceiling(metrics: dict[str, Any]) -> int | None:
    """The number of data behind the terms, if I(x; z) is so close to its logarithm that only a bound is known."""
    count = (metrics.get("data") or {}).get("held_out_for_terms")
    information = (metrics.get("terms") or {}).get("mutual_information")
    return count if count and information is not None and information > 0.95 * math.log(count) else None
