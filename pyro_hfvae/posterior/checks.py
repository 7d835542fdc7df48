"""All checks of a model and a guide, with one call."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyro_hfvae.batch import AnyBatch, as_arguments
from pyro_hfvae.blocks import Layout
from pyro_hfvae.posterior.aggregate import TwoSample, aggregate_against_prior
from pyro_hfvae.posterior.arguments import one_datum
from pyro_hfvae.posterior.calibration import Calibration, simulation_based_calibration
from pyro_hfvae.posterior.importance import GuideQuality, guide_quality
from pyro_hfvae.posterior.leave_one_out import LeaveOneOut, leave_one_out
from pyro_hfvae.posterior.nuts import Agreement, compare_with_nuts
from pyro_hfvae.posterior.predictive import PredictiveCheck, predictive_checks
from pyro_hfvae.posterior.programs import Program, fix

__all__ = ["Checks", "run_checks"]


@dataclass(frozen=True)
class Checks:
    """What every check measured."""

    quality: GuideQuality
    calibration: Calibration
    aggregate: dict[str, TwoSample]
    """Empty where no batches were given."""
    predictive: list[PredictiveCheck]
    leave_one_out: list[LeaveOneOut]
    """Empty where LOO-PIT does not apply."""
    nuts: list[dict[str, Agreement]]
    """For each datum that NUTS was run on."""


def run_checks(
    model: Program,
    guide: Program,
    data: AnyBatch,
    simulated: AnyBatch,
    batches: Iterable[AnyBatch] | None,
    blocks: Layout | None = None,
    draws: int = 1000,
    calibration_draws: int = 99,
    predictive_draws: int = 100,
    nuts_data: int = 0,
    seed: int = 0,
    **kwargs: Any,
) -> Checks:
    """Runs every check; set torch's seed before, and put modules into evaluation mode.

    Args:
        model: the generative program.
        guide: the inference program.
        data: arguments of both, one batch, a tuple or named tensors; its data are checked one by one.
        simulated: arguments of as many data as are simulated for calibration; of the observed ones only the shape
            matters.
        batches: arguments, batch by batch, of the data that make the aggregate posterior; None leaves that check out.
        blocks: the layout, as for the objective; each site by default.
        draws: importance weights of each datum.
        calibration_draws: draws of the guide for each simulated datum.
        predictive_draws: data drawn for each datum.
        nuts_data: how many of the data to run NUTS on; seconds to minutes each.
        seed: of the classifiers.
        kwargs: keyword arguments of both programs, the same in every call.
    """
    (args, named), (simulation_args, simulation_named) = as_arguments(data), as_arguments(simulated)
    named, simulation_named = named | kwargs, simulation_named | kwargs
    fixed = fix(model, guide, *args, **named)
    try:
        left_out = leave_one_out(*fixed, *args, draws=draws, **named)
    except NotImplementedError:  # discrete data, say: the PIT does not apply
        left_out = []
    quality = guide_quality(*fixed, *args, draws=draws, **named)
    singles = [one_datum((args, named), place, len(quality.elbo)) for place in range(nuts_data)]
    return Checks(
        quality=quality,
        calibration=simulation_based_calibration(
            model, guide, *simulation_args, draws=calibration_draws, blocks=blocks, **simulation_named
        ),
        aggregate={} if batches is None else aggregate_against_prior(model, guide, batches, blocks, seed, **kwargs),
        predictive=predictive_checks(*fixed, *args, draws=predictive_draws, **named),
        leave_one_out=left_out,
        nuts=[compare_with_nuts(model, guide, *one, **of_one) for one, of_one in singles],
    )
