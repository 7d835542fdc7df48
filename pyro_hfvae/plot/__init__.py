"""Arrays to figures, and the report of a run."""

from pyro_hfvae.plot.animation import gif, traversal_frames
from pyro_hfvae.plot.comparison import require_different, write_comparison
from pyro_hfvae.plot.curves import term_curves, trade_off_curves
from pyro_hfvae.plot.distributions import aggregate_posterior, pair_plot
from pyro_hfvae.plot.file_names import picture_name
from pyro_hfvae.plot.grids import combination_grid, image_grid, swap_grid
from pyro_hfvae.plot.group_curves import group_curves
from pyro_hfvae.plot.lines import line_grid
from pyro_hfvae.plot.marginals import Marginal
from pyro_hfvae.plot.objects import object_grid
from pyro_hfvae.plot.page import require_page
from pyro_hfvae.plot.profiles import profile_grid
from pyro_hfvae.plot.report import write_report
from pyro_hfvae.plot.responses import Response, Responses
from pyro_hfvae.plot.summary import summary_lines
from pyro_hfvae.plot.tables import block_factor_heatmap, hinton_diagram, importance_matrix
from pyro_hfvae.plot.top_features import top_features

__all__ = [
    "Marginal",
    "Response",
    "Responses",
    "aggregate_posterior",
    "block_factor_heatmap",
    "combination_grid",
    "gif",
    "group_curves",
    "hinton_diagram",
    "image_grid",
    "importance_matrix",
    "line_grid",
    "object_grid",
    "pair_plot",
    "picture_name",
    "profile_grid",
    "require_different",
    "require_page",
    "summary_lines",
    "swap_grid",
    "term_curves",
    "top_features",
    "trade_off_curves",
    "traversal_frames",
    "write_comparison",
    "write_report",
]
