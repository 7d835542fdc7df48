"""Posterior checks: ArviZ groups, predictive checks, quality of the guide, calibration, aggregate posterior."""

from pyro_hfvae.posterior.aggregate import TwoSample, aggregate_against_prior, classifier_two_sample
from pyro_hfvae.posterior.calibration import Calibration, simulation_based_calibration
from pyro_hfvae.posterior.checks import Checks, run_checks
from pyro_hfvae.posterior.draws import Draw, Simulation, draw_guide, draw_log_weights, predict, simulate
from pyro_hfvae.posterior.findings import Finding, findings, summary
from pyro_hfvae.posterior.importance import GuideQuality, guide_quality, importance_bounds
from pyro_hfvae.posterior.inference_data import pareto_k, write_netcdf
from pyro_hfvae.posterior.leave_one_out import LeaveOneOut, leave_one_out
from pyro_hfvae.posterior.nuts import Agreement, compare_with_nuts
from pyro_hfvae.posterior.pictures import (
    aggregate_figure,
    calibration_figure,
    check_figures,
    guide_figure,
    leave_one_out_figure,
    predictive_figure,
)
from pyro_hfvae.posterior.predictive import (
    IMAGE_STATISTICS,
    PLAIN_STATISTICS,
    SCALAR_STATISTICS,
    PredictiveCheck,
    Statistics,
    predictive_checks,
)
from pyro_hfvae.posterior.to_arviz import to_arviz
from pyro_hfvae.posterior.uniformity import ecdf_band, uniformity_p_value

__all__ = [
    "IMAGE_STATISTICS",
    "PLAIN_STATISTICS",
    "SCALAR_STATISTICS",
    "Agreement",
    "Calibration",
    "Checks",
    "Draw",
    "Finding",
    "GuideQuality",
    "LeaveOneOut",
    "PredictiveCheck",
    "Simulation",
    "Statistics",
    "TwoSample",
    "aggregate_against_prior",
    "aggregate_figure",
    "calibration_figure",
    "check_figures",
    "classifier_two_sample",
    "compare_with_nuts",
    "draw_guide",
    "draw_log_weights",
    "ecdf_band",
    "findings",
    "guide_figure",
    "guide_quality",
    "importance_bounds",
    "leave_one_out",
    "leave_one_out_figure",
    "pareto_k",
    "predict",
    "predictive_checks",
    "predictive_figure",
    "run_checks",
    "simulate",
    "simulation_based_calibration",
    "summary",
    "to_arviz",
    "uniformity_p_value",
    "write_netcdf",
]
