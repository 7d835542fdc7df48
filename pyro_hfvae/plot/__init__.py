"""Pictures and the report of a run."""

from pyro_hfvae.plot.comparison import write_comparison
from pyro_hfvae.plot.decode import decode, posterior_modes, sample, traverse
from pyro_hfvae.plot.group_curves import group_curves
from pyro_hfvae.plot.page import require_page
from pyro_hfvae.plot.pictures import block_factor_heatmap, image_grid, importance_matrix, term_curves
from pyro_hfvae.plot.report import write_report
from pyro_hfvae.plot.summary import summary_lines

__all__ = [
    "block_factor_heatmap",
    "decode",
    "group_curves",
    "image_grid",
    "importance_matrix",
    "posterior_modes",
    "require_page",
    "sample",
    "summary_lines",
    "term_curves",
    "traverse",
    "write_comparison",
    "write_report",
]
