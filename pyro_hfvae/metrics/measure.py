"""Every metric of codes and factors at once, each score with what it is at chance, as JSON takes it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.block_factor import block_factor_from_readings
from pyro_hfvae.metrics.clustering import clustering
from pyro_hfvae.metrics.codes import Codes, Factors
from pyro_hfvae.metrics.dci import DCI, dci, dci_from_readings
from pyro_hfvae.metrics.dci_es import dci_es
from pyro_hfvae.metrics.exact import PosteriorParameters, marginal_information
from pyro_hfvae.metrics.feature_share import Exchange, feature_shares
from pyro_hfvae.metrics.fixed_factor import beta_vae_score, can_be_fixed, factor_vae_score
from pyro_hfvae.metrics.infomec import infomec
from pyro_hfvae.metrics.information import information_matrix
from pyro_hfvae.metrics.irs import irs
from pyro_hfvae.metrics.mig import mig_from_information, mig_sup_from_information
from pyro_hfvae.metrics.modularity import explicitness, modularity_from_information
from pyro_hfvae.metrics.permutation import permutation_chance
from pyro_hfvae.metrics.regressors import Reading, quiet_libraries, read_factors
from pyro_hfvae.metrics.sap import sap
from pyro_hfvae.metrics.swap import Paint, swap_scores
from pyro_hfvae.metrics.unsupervised import active_units, gaussian_total_correlation

__all__ = ["measure", "measure_features", "measure_posteriors", "measure_swaps", "supervised_scores"]


FEWEST_OF_A_CLASS = 10
"""Data of a class, on average, below which a factor is not expected to be predictable."""


@quiet_libraries()
def measure(codes: Codes, factors: Factors, *, permutations: int = 0, seed: int = 0) -> dict[str, Any]:
    """Every metric, as nested dictionaries that ``json.dumps`` takes.

    ``scores``: each score of `supervised_scores` as ``{"value", "chance", "low", "high"}``, the last three from
    `permutation_chance`; None without permutations, or where the data are too few for the score. ``dci``: `dci`, with
    ``per_factor_informativeness`` (a negative R² clipped to 0), ``per_factor_score`` (raw) and the matrix
    ``importance``. ``mig``: `mig`, with ``per_factor`` and the matrix ``mutual_information`` in nats. ``block_factor``:
    `block_factor`, raw scores. ``clustering``: `clustering`. ``active_units`` and ``total_correlation`` (None where it
    is infinite, or where blocks share variables) need no factors. ``notes``: lines on factors that the data are too few
    for. A matrix is ``{"variables", "factors", "matrix"}``, a row a variable. The forests on all codes are fitted once,
    for ``dci`` and ``block_factor`` together.

    Args:
        codes: the codes of ``n`` data; ten thousand are plenty.
        factors: the factors of the same data.
        permutations: how many permutations estimate each score at chance; 0, or at least 2. Each costs as much as
            the scores themselves.
        seed: of the split, the forests and the permutations; the result is a function of it.
    """
    if permutations == 1 or permutations < 0:
        raise ValueError(f"permutations must be 0, or at least 2 for an interval; got {permutations}")
    of_all = read_factors(codes, factors, seed=seed)
    by_dci = dci_from_readings(codes, factors, of_all, seed=seed)
    information = information_matrix(codes, factors)
    by_mig = mig_from_information(information, factors)
    table = block_factor_from_readings(codes, factors, of_all, seed=seed)
    clusters = clustering(codes, factors)
    units = active_units(codes)
    chances = {}
    values = supervised_scores(codes, factors, of_all=of_all, seed=seed)
    if permutations:
        chances = permutation_chance(
            lambda some, factors: supervised_scores(some, factors, seed=seed),
            codes,
            factors,
            permutations=permutations,
            seed=seed,
        )

    def by_factor(values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(factors.names, values.tolist(), strict=True))

    def matrix(values: NDArray[np.float64]) -> dict[str, Any]:
        return {"variables": list(codes.variables), "factors": list(factors.names), "matrix": values.tolist()}

    return {
        "scores": {
            name: {
                "value": _finite(value),
                "chance": _finite(chances[name].mean) if chances else None,
                "low": _finite(chances[name].low) if chances else None,
                "high": _finite(chances[name].high) if chances else None,
            }
            for name, value in values.items()
        },
        "permutations": permutations,
        "notes": _notes(factors),
        "dci": {
            "disentanglement": by_dci.disentanglement,
            "completeness": by_dci.completeness,
            "informativeness": by_dci.informativeness,
            "per_factor_informativeness": by_factor(by_dci.factor_informativeness),
            "per_factor_score": by_factor(by_dci.score),
            "importance": matrix(by_dci.importance),
        },
        "mig": {
            "mig": by_mig.mig,
            "per_factor": by_factor(by_mig.factor_gap),
            "mutual_information": matrix(by_mig.mutual_information),
        },
        "block_factor": {
            "blocks": list(table.blocks),
            "factors": list(table.factors),
            "score": table.score.tolist(),
            "all": table.all.tolist(),
            "chance": table.chance.tolist(),
            "measure": list(table.measure),
        },
        "clustering": {
            "blocks": list(clusters.blocks),
            "factors": list(clusters.factors),
            "accuracy": clusters.accuracy.tolist(),
            "normalised_mutual_information": clusters.normalised_mutual_information.tolist(),
            "adjusted_rand_index": clusters.adjusted_rand_index.tolist(),
        },
        "active_units": {
            "count": units.count,
            "variables": dict(zip(codes.variables, units.variance.tolist(), strict=True)),
            "blocks": units.block_count,
        },
        "total_correlation": _total_correlation(codes),
    }


@quiet_libraries()
def measure_posteriors(
    posteriors: PosteriorParameters, factors: Factors, *, samples: int = 1_000, seed: int = 0
) -> dict[str, Any]:
    """`marginal_information` as nested dictionaries that ``json.dumps`` takes.

    ``variables``, ``blocks`` and ``factors`` name the rows and columns; ``variable_information`` ``[V, F]`` and
    ``block_information`` ``[D, F]`` are in nats, each with its standard error (``variable_error``, ``block_error``) and
    a lower bound in the population that the data are from (``variable_lower``, ``block_lower``).
    ``data`` and ``samples`` are how many data make the marginals, and how many of them gave a sample.

    Args:
        posteriors: of ``n`` data; the cost grows with ``n`` times the samples.
        factors: the factors of the same data.
        samples: how many data give a sample of ``z``, at most.
        seed: of the draws.
    """
    found = marginal_information(posteriors, factors, samples=samples, seed=seed)
    return {
        "data": posteriors.size,
        "samples": min(samples, posteriors.size),
        "variables": list(found.variables),
        "blocks": list(found.blocks),
        "factors": list(factors.names),
        "variable_information": found.variable_information.tolist(),
        "variable_error": found.variable_error.tolist(),
        "variable_lower": found.variable_lower.tolist(),
        "block_information": found.block_information.tolist(),
        "block_error": found.block_error.tolist(),
        "block_lower": found.block_lower.tolist(),
    }


@quiet_libraries()
def measure_swaps(paint: Paint, blocks: Sequence[str], factors: Factors, *, seed: int = 0) -> dict[str, Any]:
    """`swap_scores` as a dictionary that ``json.dumps`` takes, with the names and shapes of its result.

    Args:
        paint: paints the pictures.
        blocks: names of the blocks.
        factors: the factors of the data that are painted.
        seed: of the split and of the trees.
    """
    found = swap_scores(paint, blocks, factors, seed=seed)
    return {
        "data": len(factors.values),
        "blocks": list(found.blocks),
        "factors": list(found.factors),
        "given": found.given.tolist(),
        "kept": found.kept.tolist(),
        "unswapped": found.unswapped.tolist(),
        "chance": found.chance.tolist(),
        "measure": list(found.measure),
    }


def measure_features(
    exchange: Exchange,
    blocks: Mapping[str, Sequence[str]],
    features: Mapping[str, Sequence[int]],
    size: int,
    *,
    explained: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`feature_shares` as a dictionary that ``json.dumps`` takes, with the names and shapes of its result.

    Args:
        exchange: decodes exchanges of variables.
        blocks: block name to the names of its variables.
        features: feature name to the numbers that it has among those decoded.
        size: how many data can be exchanged.
        explained: `explained_share` of the same data ``[F]``, which is added to the result.
        seed: of the pairs and of the random groupings.
    """
    found = feature_shares(exchange, blocks, features, size, seed=seed)
    numbers = {
        name: [[_finite(value) for value in row] for row in getattr(found, name).tolist()]
        for name in ("total", "total_error", "alone", "alone_error", "chance", "chance_error")
    }
    known = None if explained is None else [_finite(value) for value in explained.tolist()]
    return {
        "data": size,
        "blocks": list(found.blocks),
        "features": list(found.features),
        **numbers,
        "explained": known,
    }


@quiet_libraries()
def supervised_scores(
    codes: Codes, factors: Factors, *, of_all: Sequence[Reading] | None = None, seed: int = 0
) -> dict[str, float]:
    """Every score that needs factors, by name; a higher one is better.

    Those of groups with a fixed factor are NaN where the data are too few to have such groups.

    Args:
        codes: the codes of ``n`` data.
        factors: the factors of the same data.
        of_all: what `read_factors` made of all columns with the same seed, if that is known.
        seed: of splits, forests and groups.
    """
    forests = read_factors(codes, factors, seed=seed) if of_all is None else of_all
    information = information_matrix(codes, factors)
    by_infomec = infomec(codes, factors, seed=seed)
    groups = can_be_fixed(factors, seed=seed)
    return {
        **_dci_scores("dci", dci_from_readings(codes, factors, forests, seed=seed)),
        **_dci_scores("dci_lasso", dci(codes, factors, reader="lasso", seed=seed)),
        **_dci_scores("dci_linear", dci(codes, factors, reader="linear", seed=seed)),
        "dci_es.explicitness": dci_es(codes, factors, seed=seed).explicitness,
        "mig": mig_from_information(information, factors).mig,
        "mig_sup": mig_sup_from_information(information, codes, factors).mig_sup,
        "sap": sap(codes, factors, seed=seed).sap,
        "modularity": modularity_from_information(information).modularity,
        "explicitness": explicitness(codes, factors, seed=seed).explicitness,
        "beta_vae_score": beta_vae_score(codes, factors, seed=seed).score if groups else math.nan,
        "factor_vae_score": factor_vae_score(codes, factors, seed=seed).score if groups else math.nan,
        "irs": irs(codes, factors).irs,
        "infomec.modularity": by_infomec.modularity,
        "infomec.compactness": by_infomec.compactness,
        "infomec.explicitness": by_infomec.explicitness,
    }


def _notes(factors: Factors) -> list[str]:
    """A line for each factor whose classes have too few data to be learned from codes."""
    lines, size = [], len(factors.values)
    for place, (name, kind) in enumerate(zip(factors.names, factors.kinds, strict=True)):
        count = int(factors.classes(place).max()) + 1
        if kind == "categorical" and size < FEWEST_OF_A_CLASS * count:
            lines.append(
                f"{name}: {count:,} classes among {size:,} data, {size / count:.1f} of each, are too few to predict it "
                "from codes: its scores can be low whatever the codes hold"
            )
    return lines


def _dci_scores(name: str, result: DCI) -> dict[str, float]:
    return {
        f"{name}.disentanglement": result.disentanglement,
        f"{name}.completeness": result.completeness,
        f"{name}.informativeness": result.informativeness,
        f"{name}.disentanglement_of_blocks": result.disentanglement_of_blocks,
        f"{name}.completeness_of_blocks": result.completeness_of_blocks,
    }


def _total_correlation(codes: Codes) -> dict[str, Any] | None:
    members = [variable for variables in codes.blocks.values() for variable in variables]
    if len(set(members)) < len(members):
        return None
    found = asdict(gaussian_total_correlation(codes))
    found["between"] = _finite(found["between"])
    found["within"] = {block: _finite(value) for block, value in found["within"].items()}
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
