"""Metrics of disentanglement, all with the signature ``(codes, factors, *, seed=0)``; they know arrays only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.block_factor import BlockFactor, block_factor, block_factor_from_readings
from pyro_hfvae.metrics.codes import Codes, FactorKind, Factors
from pyro_hfvae.metrics.dci import DCI, completeness, dci, dci_from_readings, disentanglement, read_factors
from pyro_hfvae.metrics.encode import encode
from pyro_hfvae.metrics.mig import MIG, mig

__all__ = [
    "DCI",
    "MIG",
    "BlockFactor",
    "Codes",
    "FactorKind",
    "Factors",
    "block_factor",
    "completeness",
    "dci",
    "disentanglement",
    "encode",
    "measure",
    "mig",
]


def measure(codes: Codes, factors: Factors, *, seed: int = 0) -> dict[str, Any]:
    """Every metric, as nested dictionaries that ``json.dumps`` takes.

    ``dci``: `dci`, with ``per_factor_informativeness`` (a negative R² clipped to 0), ``per_factor_score`` (raw) and the
    matrix ``importance``. ``mig``: `mig`, with ``per_factor`` and the matrix ``mutual_information`` in nats.
    ``block_factor``: `block_factor`, raw scores. A matrix is ``{"variables", "factors", "matrix"}``, a row a variable.
    The forests on all codes are fitted once, for ``dci`` and ``block_factor`` together.

    Args:
        codes: the codes of ``n`` data; ten thousand are plenty.
        factors: the factors of the same data.
        seed: of the split and of the forests; the result is a function of it.
    """
    of_all = read_factors(codes, factors, seed=seed)
    by_dci = dci_from_readings(codes, of_all)
    by_mig = mig(codes, factors, seed=seed)
    table = block_factor_from_readings(codes, factors, of_all, seed=seed)

    def by_factor(values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(factors.names, values.tolist(), strict=True))

    def matrix(values: NDArray[np.float64]) -> dict[str, Any]:
        return {"variables": list(codes.variables), "factors": list(factors.names), "matrix": values.tolist()}

    return {
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
    }
