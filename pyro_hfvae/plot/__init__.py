"""Pictures and the report of a run."""

from pyro_hfvae.plot.animation import gif, traversal_frames
from pyro_hfvae.plot.comparison import require_different, write_comparison
from pyro_hfvae.plot.curves import term_curves, trade_off_curves
from pyro_hfvae.plot.decode import LatentValues, decode, posterior_draws, posterior_modes, prior_modes, sample
from pyro_hfvae.plot.distributions import aggregate_posterior, pair_plot
from pyro_hfvae.plot.grids import combination_grid, image_grid, swap_grid
from pyro_hfvae.plot.group_curves import group_curves
from pyro_hfvae.plot.marginals import Marginal, read_marginals
from pyro_hfvae.plot.page import require_page
from pyro_hfvae.plot.report import write_report
from pyro_hfvae.plot.summary import summary_lines
from pyro_hfvae.plot.tables import block_factor_heatmap, hinton_diagram, importance_matrix
from pyro_hfvae.plot.traversals import (
    categories,
    combine,
    commonest_categories,
    interpolate,
    quantile_range,
    swap,
    traverse,
)

__all__ = [
    "LatentValues",
    "Marginal",
    "aggregate_posterior",
    "block_factor_heatmap",
    "categories",
    "combination_grid",
    "combine",
    "commonest_categories",
    "decode",
    "gif",
    "group_curves",
    "hinton_diagram",
    "image_grid",
    "importance_matrix",
    "interpolate",
    "pair_plot",
    "posterior_draws",
    "posterior_modes",
    "prior_modes",
    "quantile_range",
    "read_marginals",
    "require_different",
    "require_page",
    "sample",
    "summary_lines",
    "swap",
    "swap_grid",
    "term_curves",
    "trade_off_curves",
    "traversal_frames",
    "traverse",
    "write_comparison",
    "write_report",
]
